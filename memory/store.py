"""The memory as LangGraph sees it: a complete store on Chroma, and the one that `langgraph.json` names."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import numpy as np
from langgraph.store.base import (
    BaseStore,
    GetOp,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchOp,
    TTLConfig,
)
from numpy.typing import ArrayLike

from memory.chroma.backend import Backend, ReadOp, ReadResult
from memory.chroma.env import CHROMA_SECONDS, configured_ca, configured_headers, configured_seconds, configured_ttl
from memory.chroma.errors import BadRecordError, NoAnswerError, StoreError
from memory.chroma.index_repair import mend
from memory.chroma.layout import (
    BULK,
    CHUNK,
    Chunk,
    ImportedRecord,
    StoredRecord,
    Write,
    chunks,
    read_chunks,
    texts_to_index,
    value_text,
)
from memory.chroma.local import EXACT_LIMIT, LocalBackend
from memory.chroma.open_folder import connect, settle_identity
from memory.chroma.remote import RemoteBackend
from memory.chroma.worker import ServerWorker
from memory.embeddings import Embedding, embeddings_of, identity, shared_embeddings
from memory.event_loop import LoopTurns
from memory.home import home
from memory.operations import checked
from memory.search.filters import Namespace
from memory.search.vectors import Vector, unit
from memory.shared_stores import open_stores
from memory.stopping import when_stopped
from memory.ttl_sweeper import SWEEP_MINUTES, Sweeper
from memory.writer import Writer

PREPARED_AT_ONCE = 64
"""Records whose texts are embedded between two looks at the event loop."""

CLOSING_SECONDS = 5.0
"""Seconds that a Chroma server gets to finish what waits when a store is closed."""

Puts = dict[tuple[Namespace, str], PutOp]
P = ParamSpec("P")
T = TypeVar("T")


class ChromaStore(BaseStore):
    """A LangGraph store on Chroma: put, get, search, delete, list_namespaces and batch, sync and async.

    It answers as LangGraph's `InMemoryStore` does, but that a record keeps `created_at` when it is replaced, that
    values are JSON, that what is listed without a query comes by namespace and key, and that a record which lacks a
    field does not pass `$gt` and its like. Searches with a query are exact, scores have 6 decimals, ties come by
    namespace and key: the same records give the same answer in whatever order they were written.

    A record put with a time to live is found by no read once that is over, whether a sweep has removed it or not. A
    read starts it anew, unless it says `refresh_ttl=False`, and is a write then; it leaves alone what has lost less
    than a hundredth of its time.

    In a folder, or in memory, search is exact up to 20,000 records for each pair of first two namespace labels;
    above, it is so below a longer prefix with up to 2,000 of them, and else Chroma's own index gives candidates that
    are ranked exactly. On a server, up to 2,000 (`RemoteBackend`).

    All methods may be called from any thread and any event loop. Writes take turns in one thread, at most 10 rows at
    a time, and those that wait are written together; a record becomes visible when it is durable. Async reads of what
    is loaded are answered without a thread.

    Args:
        where: A folder, which belongs to this store alone until it is closed; the http(s) URL of a Chroma server,
            which many may share; or None for memory only.
        embeddings: Makes vectors of texts: LangChain's embeddings, a function of a list of texts, or a text such as
            "openai:text-embedding-3-small". None is the bundled MiniLM, by the lines of a text. A store refuses
            another embedding than the one it was made with.
        fields: Paths of what is indexed where `put` does not say; "$" is the whole value.
        exact_limit: Records for each pair of labels up to which search in a folder is exact.
        ttl: How long records live where `put` does not say, whether reads start that anew where they do not say, and
            how often the sweeper sweeps, all in LangGraph's words; None: for ever, yes, and there is no sweeper.
        headers: What a Chroma server, or the proxy before it, is sent with each request; never shown.
        ca: PEM file with the certificate of the authority that signed the server's; None for the public ones.
        seconds: To wait for each answer of a Chroma server at most.

    Examples:
        Keep records in a folder:

        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> embeddings = DeterministicFakeEmbedding(size=256)
        >>> with ChromaStore("my-memory", embeddings=embeddings, fields=["text"]) as store:
        ...     store.put(("facts", "ann"), "tea", {"text": "likes tea", "year": 2025})
        ...     store.put(("facts", "ann"), "jazz", {"text": "likes jazz", "year": 2026})
        ...     store.get(("facts", "ann"), "tea").value["text"]
        'likes tea'

        Search them by what they say, with a filter; all fields of it have to match:

        >>> with ChromaStore("my-memory", embeddings=embeddings, fields=["text"]) as store:
        ...     found = store.search(("facts",), query="likes jazz", filter={"year": {"$gte": 2026}}, limit=3)
        ...     [(item.namespace, item.key, item.score) for item in found]
        [(('facts', 'ann'), 'jazz', 1.0)]

        Share them on a Chroma server, begun by `chroma run --path FOLDER`, with other processes:

        >>> with ChromaStore("http://127.0.0.1:8000", embeddings=embeddings, seconds=10) as store:
        ...     store.put(("facts", "bob"), "chess", {"text": "plays chess"})
        ...     [item.key for item in store.search(("facts", "bob"))]
        ['chess']

        Let them live for 30 days after they were last written or read, and remove what has expired every hour:

        >>> ttl = {"default_ttl": 43_200, "refresh_on_read": True, "sweep_interval_minutes": 60}
        >>> with ChromaStore(embeddings=embeddings, ttl=ttl) as store:
        ...     sweeping = store.start_ttl_sweeper()
        ...     store.put(("facts", "ann"), "name", {"text": "is called Ann"}, ttl=None)  # for ever
        ...     store.put(("facts", "ann"), "today", {"text": "has a cold"}, ttl=24 * 60)
        ...     [item.key for item in store.search(("facts", "ann"))]
        ['name', 'today']

    Raises:
        BadStoreError: The store is foreign, damaged, locked, not writable, made with another embedding, or the
            server does not answer.
        StoreError: Chroma failed.
    """

    supports_ttl = True

    def __init__(
        self,
        where: str | Path | None = None,
        *,
        embeddings: Embedding | None = None,
        fields: Sequence[str] = ("$",),
        exact_limit: int = EXACT_LIMIT,
        ttl: TTLConfig | None = None,
        headers: Mapping[str, str] | None = None,
        ca: str | Path | None = None,
        seconds: float = CHROMA_SECONDS,
    ) -> None:
        self.ttl_config = ttl
        self.embeddings = embeddings_of(embeddings) if embeddings is not None else shared_embeddings()
        self._fields = tuple(fields)
        name, self._dimension = identity(self.embeddings)
        self._connection = connect(where, headers or {}, ca, seconds)
        try:
            settle = partial(settle_identity, self._connection, name, self._dimension)
            settle()
            mend(self._connection, self._dimension, self._vectors_of)
            self._backend: Backend = (
                RemoteBackend(self._connection, self._dimension, settle)
                if self._connection.shared
                else LocalBackend(self._connection, self._dimension, exact_limit)
            )
        except BaseException:
            self._connection.close()
            raise
        self._worker: Executor = (
            ServerWorker("memory", self._hangs)
            if self._connection.shared
            else ThreadPoolExecutor(1, "memory", initializer=self._backend.take_over)
        )
        self._writer = Writer(self._worker, self._backend.write)
        self._sweeper = Sweeper(self.sweep_ttl)
        self._turns = LoopTurns()
        self._closing = threading.Lock()
        self._closed = False

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Answer reads, then apply writes, the last one for each key; see `BaseStore.batch`.

        Raises:
            BadRecordError: A value is no JSON, its vector does not fit, or its time to live is no number of minutes;
                nothing is written, and no time to live is started anew. Or a record is too large for a server.
            InvalidNamespaceError: A label is empty, is no string, or has a dot or a NUL.
            ValueError: A key is no text, a limit, offset or depth is out of range, or a filter cannot be understood.
            NoAnswerError: A Chroma server does not answer in time.
            StoreError: The store is closed, or Chroma failed; each record is the former or the new one.
        """
        results, reads, puts = self._sort_out(ops)
        queries = {text: self._fitting([self.embeddings.embed_query(text)], 1)[0] for text in _queries(reads)}
        answers: list[tuple[int, ReadResult]] = []
        for index, op in reads:
            query = queries.get(_query(op))
            answer = self._backend.answer_at_once(op, query)
            if answer is None:
                answer = self._in_worker(self._backend.answer, op, query)
            answers.append((index, answer))
        # A write that cannot be made leaves all as it is, times to live too.
        writes = self._embedded(puts)
        for chunk in _noted(answers, results):
            self._queued(chunk).result()
        self._write(writes)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Answer reads, then apply writes, as `batch` does, and keep the event loop free meanwhile.

        If it is cancelled, records already handed to Chroma are written, later ones are not.
        """
        results, reads, puts = self._sort_out(ops)
        queries = {text: self._fitting([await self.embeddings.aembed_query(text)], 1)[0] for text in _queries(reads)}
        answers: list[tuple[int, ReadResult]] = []
        for index, op in reads:
            query = queries.get(_query(op))
            async with self._turns.turn():
                answer = self._backend.answer_at_once(op, query)
            if answer is None:
                answer = await self._in_worker_async(self._backend.answer, op, query)
            answers.append((index, answer))
        writes: list[Write] = []
        for part in _parts(puts):
            values, texts = self._values(part), self._texts(part)
            vectors = await self.embeddings.aembed_documents(_distinct(texts)) if any(texts) else []
            writes += self._writes(part, values, texts, vectors)
            await asyncio.sleep(0)
        for chunk in _noted(answers, results):
            await asyncio.wrap_future(self._queued(chunk))
        for chunk in chunks(writes):
            await asyncio.wrap_future(self._queued(chunk))
            # Chroma held the interpreter: whoever waits comes first.
            await asyncio.sleep(0)
        return results

    def records(self, prefix: Namespace = ()) -> list[StoredRecord]:
        """Return all records below `prefix` as they are stored, by namespace and key; for people and tools.

        Raises:
            StoreError: The store is closed, or Chroma failed.
        """
        return self._in_worker(self._backend.records, tuple(prefix))

    def vectors(self, records: Sequence[StoredRecord]) -> list[Vector]:
        """Return the vectors, (n, d), that each of `records` is found by; n = 0 for one that is not indexed.

        Raises:
            StoreError: The store is closed, or Chroma failed.
        """
        return self._in_worker(self._backend.vectors, records)

    def restore(self, kept: Iterable[ImportedRecord]) -> None:
        """Write records as they were elsewhere, with their times, and with their vectors where these are given.

        Many are written at one go, so others wait longer than they do beside `batch`.

        Raises:
            BadRecordError: A value is no JSON, or a vector does not fit; nothing is written.
            InvalidNamespaceError: A label is empty, is no string, or has a dot or a NUL.
            StoreError: The store is closed, or Chroma failed.
        """
        by_place = {(one.op.namespace, one.op.key): one for one in kept}
        _, _, puts = self._sort_out(one.op for one in by_place.values())
        bare = {place: op for place, op in puts.items() if by_place[place].vectors is None}
        writes = {(write.namespace, write.key): write for write in self._embedded(bare)}
        for (namespace, key), one in by_place.items():
            if one.vectors is not None:
                text = value_text(namespace, key, one.op.value or {})
                paths = self._paths(one.op)
                writes[namespace, key] = Write(namespace, key, text, paths, one.vectors, ttl=one.op.ttl)
        as_they_were = (
            replace(write, times=by_place[place].times, until=by_place[place].until) for place, write in writes.items()
        )
        self._write(list(as_they_were), BULK)

    def sweep_ttl(self) -> int:
        """Remove the records whose time to live is over, and return how many there were.

        Nobody finds them before, either: this makes room. Other writes are let in between.

        Raises:
            StoreError: The store is closed, or Chroma failed.
        """
        count = 0
        for labels in self._in_worker(self._backend.labels_of_all):
            offset, seen = 0, 1
            while seen:
                gone, seen = self._in_worker(self._backend.sweep, labels, offset)
                count += gone
                offset += seen - gone
        return count

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> "Future[None]":
        """Call `sweep_ttl` again and again in a thread, until `stop_ttl_sweeper` or `close`.

        Args:
            sweep_interval_minutes: Between two sweeps; if None as the store's `ttl` says, else 5.

        Returns:
            A future which is done when the sweeper ends, at once in a store without `ttl`; cancelling it ends it.

        Raises:
            StoreError: The store is closed.
        """
        if self.ttl_config is None:
            ended: Future[None] = Future()
            ended.set_result(None)
            return ended
        with self._closing:
            if self._closed:
                raise self._closed_error()
            return self._sweeper.start(
                sweep_interval_minutes or self.ttl_config.get("sweep_interval_minutes") or SWEEP_MINUTES
            )

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """End the sweeper, if there is one.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.

        Returns:
            Whether it has ended.
        """
        return self._sweeper.stop(timeout)

    def close(self) -> None:
        """Finish what is being written and leave Chroma; a folder can be opened again, memory only is gone.

        A Chroma server gets five seconds to finish. What it has not answered by then fails for those who wait for it.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
            last = self._worker.submit(self._connection.close)
        self._sweeper.stop(0)
        if isinstance(self._worker, ServerWorker):
            wait([last], CLOSING_SECONDS)
            self._worker.abandon(self._left_error())
            self._sweeper.stop(None)
        else:
            self._worker.shutdown()
            self._sweeper.stop(None)
            last.result()

    def hurry(self) -> None:
        """Give a Chroma server five seconds for each call from now on, until the store is closed; for a last minute.

        What takes longer fails, and so does whatever comes after it. Return when the store is closed.
        """
        if isinstance(self._worker, ServerWorker):
            self._worker.abandon_once_it_hangs(CLOSING_SECONDS, self._left_error())

    async def aclose(self) -> None:
        """Close the store without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _sort_out(self, ops: Iterable[Op]) -> tuple[list[Result], list[tuple[int, ReadOp]], Puts]:
        """Return room for the results, the reads with their places in it, and the last write for each key."""
        results: list[Result] = []
        reads: list[tuple[int, ReadOp]] = []
        puts: Puts = {}
        for op in map(checked, ops):
            if isinstance(op, PutOp):
                puts[(op.namespace, op.key)] = op
            elif isinstance(op, GetOp | SearchOp | ListNamespacesOp):
                reads.append((len(results), op))
            results.append(None)
        if self._closed:
            raise self._closed_error()
        return results, reads, puts

    def _hangs(self, error: BaseException) -> bool:
        """Say whether the error of a call shows that the server answers nobody."""
        return isinstance(error, NoAnswerError) and not self._connection.alive()

    def _left_error(self) -> StoreError:
        return NoAnswerError(
            f"The memory at {self._connection.place} was closed while its server did not answer: check that the server "
            "runs, then try again."
        )

    def _closed_error(self) -> StoreError:
        return StoreError(f"The memory at {self._connection.place} is closed: open a new ChromaStore.")

    def _embedded(self, puts: Puts) -> list[Write]:
        """Return what is to be written, with its vectors."""
        writes: list[Write] = []
        for part in _parts(puts):
            values, texts = self._values(part), self._texts(part)
            vectors = self.embeddings.embed_documents(_distinct(texts)) if any(texts) else []
            writes += self._writes(part, values, texts, vectors)
        return writes

    def _write(self, writes: Sequence[Write], most: int = CHUNK) -> None:
        for chunk in chunks(writes, most):
            self._queued(chunk).result()

    @staticmethod
    def _values(puts: Sequence[PutOp]) -> list[str | None]:
        """Return, write by write, the value as JSON, None for a record to delete.

        Raises:
            BadRecordError: A value is no JSON.
        """
        return [value_text(op.namespace, op.key, op.value) if op.value is not None else None for op in puts]

    def _texts(self, puts: Sequence[PutOp]) -> list[list[str]]:
        """Return, write by write, the texts that it is to be found by, each once.

        Raises:
            BadRecordError: Paths cannot be followed.
        """
        return [texts_to_index(op, self._paths(op)) for op in puts]

    def _paths(self, op: PutOp) -> tuple[str, ...]:
        """Return the paths of the texts that a record is to be found by."""
        return self._fields if op.index is None else tuple(op.index or ())

    def _writes(
        self, puts: Sequence[PutOp], values: list[str | None], texts: list[list[str]], vectors: ArrayLike
    ) -> list[Write]:
        """Return what is to be written.

        Args:
            puts: What was asked.
            values: Value of each of them, as JSON.
            texts: Texts of each of them.
            vectors: Vectors of the distinct texts, in order of their first use.
        """
        distinct = _distinct(texts)
        place = dict(zip(distinct, self._fitting(vectors, len(distinct)), strict=True))
        none = np.empty((0, self._dimension), dtype=np.float32)
        return [
            Write(
                op.namespace,
                op.key,
                value,
                self._paths(op),
                np.stack([place[text] for text in own]) if own else none,
                ttl=op.ttl,
            )
            for op, value, own in zip(puts, values, texts, strict=True)
        ]

    def _vectors_of(self, texts: list[str]) -> Vector:
        return self._fitting(self.embeddings.embed_documents(texts), len(texts))

    def _fitting(self, vectors: ArrayLike, count: int) -> Vector:
        """Return the vectors of `count` texts, (n, d), scaled to length 1.

        Raises:
            BadRecordError: The embedding gave others than it says.
        """
        if count == 0:
            return np.empty((0, self._dimension), dtype=np.float32)
        try:
            given = np.asarray(vectors, dtype=np.float64)
        except (TypeError, ValueError):  # Of several lengths, or no numbers.
            given = np.empty(0)
        if given.shape != (count, self._dimension) or not np.isfinite(given).all():
            raise BadRecordError(
                f"The embedding {identity(self.embeddings)[0]} gave something else than {self._dimension} finite "
                "numbers a text: check its model."
            )
        return unit(given)

    def _queued(self, chunk: Chunk) -> "Future[None]":
        with self._closing:
            if self._closed:
                raise self._closed_error()
            return self._writer.submit(chunk)

    def _in_worker(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._closing:
            if self._closed:
                raise self._closed_error()
            future = self._worker.submit(call, *args, **kwargs)
        return future.result()

    async def _in_worker_async(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._closing:
            if self._closed:
                raise self._closed_error()
            future = self._worker.submit(call, *args, **kwargs)
        return await asyncio.wrap_future(future)


def _distinct(texts: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(text for group in texts for text in group))


def _parts(puts: Puts) -> Iterator[list[PutOp]]:
    rest = iter(puts.values())
    while part := list(islice(rest, PREPARED_AT_ONCE)):
        yield part


def _noted(answers: Iterable[tuple[int, ReadResult]], results: list[Result]) -> Iterator[Chunk]:
    """Put each answer into its place, and return what starts the time to live of what was read anew."""
    read: list[StoredRecord] = []
    for index, answer in answers:
        results[index] = answer.result
        read.extend(answer.read)
    return read_chunks(read)


def _query(op: ReadOp) -> str:
    return (op.query or "") if isinstance(op, SearchOp) else ""


def _queries(reads: Iterable[tuple[int, ReadOp]]) -> list[str]:
    return list(dict.fromkeys(query for _, op in reads if (query := _query(op))))


@asynccontextmanager
async def create_store() -> AsyncIterator[ChromaStore]:
    """Open the memory that the environment names, for `"store"` in langgraph.json.

    That is the server at BILLP_CHROMA_URL if it is set, else the folder `memory` in BILLP_HOME (default `.billp` in
    the working directory). Whoever asks again in the same process shares the store until the last one leaves. Where
    langgraph.json has a setting `store.ttl`, it holds, and expired records are swept.

    Raises:
        BadStoreError: The store cannot be used; the message says why and what to do.
    """
    where = await asyncio.to_thread(configured)
    store = await asyncio.to_thread(open_stores.join, where, _open_swept)
    try:
        with when_stopped(store.hurry):
            yield store
    finally:
        await asyncio.to_thread(open_stores.leave, where)


def _open_swept(where: str) -> ChromaStore:
    store = open_configured(where, configured_ttl())
    store.start_ttl_sweeper()
    return store


def open_configured(where: str, ttl: TTLConfig | None = None) -> ChromaStore:
    """Open the memory at `where`, which `configured` gave, with what the environment says about its server.

    Raises:
        BadStoreError: The store cannot be used; the message says why and what to do.
    """
    if "://" not in where:
        return ChromaStore(where, ttl=ttl)
    return ChromaStore(where, ttl=ttl, headers=configured_headers(), ca=configured_ca(), seconds=configured_seconds())


def configured() -> str:
    """Return where the memory is that the environment names: a folder, or the URL of a Chroma server."""
    url = os.environ.get("BILLP_CHROMA_URL", "").strip()
    return url or str((home() / "memory").resolve())
