"""Memory store for LangGraph: `ChromaStore`, and `create_store` for langgraph.json."""

import asyncio
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import numpy as np
from langgraph.store.base import (
    GetOp,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchOp,
    TTLConfig,
)
from numpy.typing import ArrayLike

from memory.changes import Changes, FollowedStore, Mark, StoredChange
from memory.chroma.backend import Backend, ReadOp, ReadResult, Seen
from memory.chroma.env import CHROMA_SECONDS, configured_ca, configured_headers, configured_seconds, configured_ttl
from memory.chroma.errors import BadRecordError, BadStoreError, NoAnswerError, StoreError
from memory.chroma.index_repair import rebuild_indexes
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
from memory.chroma.ttl import SWEEP_MINUTES, Sweeper
from memory.chroma.worker import ServerWorker
from memory.embeddings import Embedding, embeddings_of, identity, shared_embeddings
from memory.event_loop import CallOrder, LoopTurns
from memory.home import home
from memory.operations import checked
from memory.search.filters import Namespace
from memory.search.vectors import Vector, unit
from memory.shared_stores import open_stores
from memory.stopping import when_stopped
from memory.writer import Writer

PREPARED_AT_ONCE = 64
"""Records whose texts are embedded before the event loop gets a turn."""

PARSED_AT_ONCE = 500
"""Values parsed for a reader of changes at a time."""

CLOSING_SECONDS = 5.0
"""Seconds for a Chroma server to finish the queued calls when a store is closed."""

Puts = dict[tuple[Namespace, str], PutOp]
P = ParamSpec("P")
T = TypeVar("T")


class ChromaStore(FollowedStore):
    """A LangGraph store on Chroma: put, get, search, delete, list_namespaces and batch, sync and async.

    It behaves like LangGraph's `InMemoryStore`, with four differences: a replaced record keeps its `created_at`; values
    are JSON; a listing without a query is sorted by namespace and key; and a record that lacks a field does not pass
    `$gt`, `$gte`, `$lt` or `$lte`. Searches with a query are exact, scores have 6 decimals, and ties are sorted by
    namespace and key. So the same records give the same answer in whatever order they were written.

    An expired record is invisible to every read, whether a sweep has deleted it yet or not. A read refreshes the time
    to live, and so becomes a write, unless it says `refresh_ttl=False`. To save writes, it refreshes no record that has
    used less than a hundredth of its time.

    In a folder or in memory, search is exact up to 20,000 records for each pair of first two namespace labels. Above
    that number it is exact below a longer prefix with up to 2,000 records; otherwise Chroma's index selects candidates,
    which are ranked exactly. On a server, search is exact up to 2,000 records (`RemoteBackend`).

    All methods may be called from any thread and any event loop. One thread makes all writes, at most 10 rows at a
    time, and joins waiting ones. A record becomes visible when it is durable. Async reads of cached records use no
    thread.

    Args:
        where: A folder, used by this store alone until it is closed; the http(s) URL of a Chroma server, which several
            processes may share; or None for memory only.
        embeddings: Embedding of texts: LangChain's embeddings, a function of a list of texts, or a text such as
            "openai:text-embedding-3-small". None for the bundled MiniLM by lines (`LineMean`). A store rejects any
            embedding but the one it was created with.
        fields: Paths to index if `put` gives none; "$" is the whole value.
        exact_limit: Records for each pair of labels up to which search in a folder is exact.
        ttl: Default time to live, default for `refresh_ttl`, and interval of the sweeper, in LangGraph's words. None:
            records live for ever, reads refresh, no sweeper runs.
        headers: Headers of each request to a Chroma server or its proxy. No message shows them.
        ca: PEM file with the certificate of the authority that signed the server's. None for the public authorities.
        seconds: Longest wait for each answer of a Chroma server.

    Examples:
        Keep records in a folder:

        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> embeddings = DeterministicFakeEmbedding(size=256)
        >>> with ChromaStore("my-memory", embeddings=embeddings, fields=["text"]) as store:
        ...     store.put(("facts", "ann"), "tea", {"text": "likes tea", "year": 2025})
        ...     store.put(("facts", "ann"), "jazz", {"text": "likes jazz", "year": 2026})
        ...     store.get(("facts", "ann"), "tea").value["text"]
        'likes tea'

        Search them by meaning, with a filter. All fields of the filter must match:

        >>> with ChromaStore("my-memory", embeddings=embeddings, fields=["text"]) as store:
        ...     found = store.search(("facts",), query="likes jazz", filter={"year": {"$gte": 2026}}, limit=3)
        ...     [(item.namespace, item.key, item.score) for item in found]
        [(('facts', 'ann'), 'jazz', 1.0)]

        Share them with other processes on a Chroma server, started by `chroma run --path FOLDER`:

        >>> with ChromaStore("http://127.0.0.1:8000", embeddings=embeddings, seconds=10) as store:
        ...     store.put(("facts", "bob"), "chess", {"text": "plays chess"})
        ...     [item.key for item in store.search(("facts", "bob"))]
        ['chess']

        Keep them for 30 days after their last write or read, and delete expired ones every hour:

        >>> ttl = {"default_ttl": 43_200, "refresh_on_read": True, "sweep_interval_minutes": 60}
        >>> with ChromaStore(embeddings=embeddings, ttl=ttl) as store:
        ...     sweeping = store.start_ttl_sweeper()
        ...     store.put(("facts", "ann"), "name", {"text": "is called Ann"}, ttl=None)  # for ever
        ...     store.put(("facts", "ann"), "today", {"text": "has a cold"}, ttl=24 * 60)
        ...     [item.key for item in store.search(("facts", "ann"))]
        ['name', 'today']

    Attributes:
        connection: The open Chroma.
        backend: Reads and writes on Chroma. Only calls in `worker` may use it, except `answer_at_once`.
        worker: Executor of all calls to Chroma, one at a time.

    Raises:
        BadStoreError: The store is foreign, damaged, locked, not writable or made with another embedding, or the server
            does not answer.
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
        self.connection = connect(where, headers or {}, ca, seconds)
        try:
            settle = partial(settle_identity, self.connection, name, self._dimension)
            settle()
            rebuild_indexes(self.connection, self._dimension, self._vectors_of)
            self.backend: Backend = (
                RemoteBackend(self.connection, self._dimension, settle)
                if self.connection.shared
                else LocalBackend(self.connection, self._dimension, exact_limit)
            )
        except BaseException:
            self.connection.close()
            raise
        self.worker: Executor = (
            ServerWorker("memory", self._hangs)
            if self.connection.shared
            else ThreadPoolExecutor(1, "memory", initializer=self.backend.take_over)
        )
        self._writer = Writer(self.worker, self.backend.write)
        self._sweeper = Sweeper(self.sweep_ttl)
        self._turns = LoopTurns()
        self._order = CallOrder()
        self._closing = threading.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called. Every later operation raises StoreError."""
        return self._closed

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Answer the reads, then apply the last write for each key; see `BaseStore.batch`.

        Raises:
            BadRecordError: A value is not JSON, its vector does not fit, or its time to live is not a number of
                minutes; nothing is written and no time to live refreshed. Or a record is too large for a server.
            InvalidNamespaceError: A label is empty, is not a string, or has a dot or a NUL.
            ValueError: A key is not a text, a limit, offset or depth is out of range, or a filter is invalid.
            NoAnswerError: A Chroma server does not answer in time.
            StoreError: The store is closed, or Chroma failed. Each record is either the old or the new one.
        """
        results, reads, puts = self._sort_out(ops)
        queries = {text: self._fitting([self.embeddings.embed_query(text)], 1)[0] for text in _queries(reads)}
        answers: list[tuple[int, ReadResult]] = []
        for index, op in reads:
            query = queries.get(_query(op))
            answer = self.backend.answer_at_once(op, query)
            if answer is None:
                answer = self._in_worker(self.backend.answer, op, query)
            answers.append((index, answer))
        # Embed first: a write that fails here changes nothing, and refreshes no time to live.
        writes = self._embedded(puts)
        for chunk in _noted(answers, results):
            self._queued(chunk).result()
        self._write(writes)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Answer the reads, then apply the writes, as `batch` does, without blocking the event loop.

        Concurrent calls of one event loop write the same record in the order of the calls, so the last call wins. On
        cancellation, records already passed to Chroma are written, later ones are not.
        """
        results, reads, puts = self._sort_out(ops)
        with self._order.place(puts) as wait_for_earlier_calls:
            queries = {
                text: self._fitting([await self.embeddings.aembed_query(text)], 1)[0] for text in _queries(reads)
            }
            answers: list[tuple[int, ReadResult]] = []
            for index, op in reads:
                query = queries.get(_query(op))
                async with self._turns.turn():
                    answer = self.backend.answer_at_once(op, query)
                if answer is None:
                    answer = await self._in_worker_async(self.backend.answer, op, query)
                answers.append((index, answer))
            writes = await self._embedded_async(puts)
            for chunk in _noted(answers, results):
                await asyncio.wrap_future(self._queued(chunk))
            await wait_for_earlier_calls()
            for chunk in chunks(writes):
                await asyncio.wrap_future(self._queued(chunk))
                # Chroma blocked the interpreter: let waiting tasks run first.
                await asyncio.sleep(0)
        return results

    def records(self, prefix: Namespace = ()) -> list[StoredRecord]:
        """Return all records below `prefix` as stored, sorted by namespace and key, for people and tools.

        Raises:
            StoreError: The store is closed, or Chroma failed.
        """
        return self._in_worker(self.backend.records, tuple(prefix))

    async def changes(self, prefix: Namespace, mark: Mark | None) -> Changes:
        """Return the changes below `prefix` since a mark, without blocking the event loop; see `read_changes`.

        Raises:
            StoreError: The store is closed, or Chroma failed.
        """
        if self.closed:
            raise self._closed_error()
        seen = mark.state if mark and isinstance(mark.state, Seen) else None
        delta = self.backend.changes_at_once(prefix, seen)
        steps = self.backend.changes(prefix, seen)
        while delta is None:
            delta = await self._in_worker_async(steps.__next__)
        written: list[StoredChange] = []
        rest = iter(delta.records)
        while page := await asyncio.to_thread(_parsed, rest):
            written += page
        return Changes(written, delta.gone, delta.whole, Mark(prefix, delta.seen))

    def vectors(self, records: Sequence[StoredRecord]) -> list[Vector]:
        """Return the vectors, (n, d), of each of `records`; n = 0 for a record that is not indexed.

        Raises:
            StoreError: The store is closed, or Chroma failed.
        """
        return self._in_worker(self.backend.vectors, records)

    def restore(self, kept: Iterable[ImportedRecord]) -> None:
        """Write records from another store with their times, and with their vectors if given.

        The chunks are larger than those of `batch`, so other writes wait longer.

        Raises:
            BadRecordError: A value is not JSON, or a vector does not fit; nothing is written.
            InvalidNamespaceError: A label is empty, is not a string, or has a dot or a NUL.
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
        """Delete the expired records, and return their number.

        Reads skip expired records anyway; this frees space. Other writes get their turn in between.

        Raises:
            StoreError: The store is closed, or Chroma failed.
        """
        count = 0
        for labels in self._in_worker(self.backend.labels_of_all):
            offset, seen = 0, 1
            while seen:
                gone, seen = self._in_worker(self.backend.sweep, labels, offset)
                count += gone
                offset += seen - gone
        return count

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> "Future[None]":
        """Call `sweep_ttl` at intervals in a thread, until `stop_ttl_sweeper` or `close`.

        Args:
            sweep_interval_minutes: Interval between two sweeps. None for the interval in the store's `ttl`, or 5.

        Returns:
            A future that is done when the sweeper ends, or immediately in a store without `ttl`. Cancelling it ends the
            sweeper.

        Raises:
            StoreError: The store is closed.
        """
        if self.ttl_config is None:
            ended: Future[None] = Future()
            ended.set_result(None)
            return ended
        with self._closing:
            if self.closed:
                raise self._closed_error()
            return self._sweeper.start(
                sweep_interval_minutes or self.ttl_config.get("sweep_interval_minutes") or SWEEP_MINUTES
            )

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop the sweeper if it runs.

        Args:
            timeout: Longest wait in seconds. None to wait as long as it takes.

        Returns:
            Whether it has ended.
        """
        return self._sweeper.stop(timeout)

    def close(self) -> None:
        """Finish the queued writes and close Chroma. A folder can be opened again; records in memory only are lost.

        A Chroma server gets five seconds to finish. Calls it has not answered by then fail for their callers.
        """
        with self._closing:
            if self.closed:
                return
            self._closed = True
            last = self.worker.submit(self.connection.close)
        self._sweeper.stop(0)
        if isinstance(self.worker, ServerWorker):
            wait([last], CLOSING_SECONDS)
            self.worker.abandon(self._left_error())
            self._sweeper.stop(None)
        else:
            self.worker.shutdown()
            self._sweeper.stop(None)
            last.result()

    def hurry(self) -> None:
        """Limit each call to a Chroma server to five seconds from now on, for use before a shutdown.

        The first call that takes longer fails, and so do all later ones. Returns when the store is closed.
        """
        if isinstance(self.worker, ServerWorker):
            self.worker.abandon_once_it_hangs(CLOSING_SECONDS, self._left_error())

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
        """Return a list for the results, the reads with their indices in it, and the last write for each key."""
        results: list[Result] = []
        reads: list[tuple[int, ReadOp]] = []
        puts: Puts = {}
        for op in map(checked, ops):
            if isinstance(op, PutOp):
                puts[(op.namespace, op.key)] = op
            elif isinstance(op, GetOp | SearchOp | ListNamespacesOp):
                reads.append((len(results), op))
            results.append(None)
        if self.closed:
            raise self._closed_error()
        return results, reads, puts

    def _hangs(self, error: BaseException) -> bool:
        """Return whether the error of a call shows that the server answers no calls at all."""
        return isinstance(error, NoAnswerError) and not self.connection.alive()

    def _left_error(self) -> StoreError:
        return NoAnswerError(
            f"The memory at {self.connection.place} was closed while its server did not answer: check that the server "
            "runs, then try again."
        )

    def _closed_error(self) -> StoreError:
        return StoreError(f"The memory at {self.connection.place} is closed: open a new ChromaStore.")

    def _embedded(self, puts: Puts) -> list[Write]:
        """Return the writes with their vectors."""
        writes: list[Write] = []
        for part in _parts(puts):
            values, texts = self._values(part), self._texts(part)
            vectors = self.embeddings.embed_documents(_distinct(texts)) if any(texts) else []
            writes += self._writes(part, values, texts, vectors)
        return writes

    async def _embedded_async(self, puts: Puts) -> list[Write]:
        """Return the writes with their vectors, and let the event loop run after each part."""
        writes: list[Write] = []
        for part in _parts(puts):
            values, texts = self._values(part), self._texts(part)
            vectors = await self.embeddings.aembed_documents(_distinct(texts)) if any(texts) else []
            writes += self._writes(part, values, texts, vectors)
            await asyncio.sleep(0)
        return writes

    def _write(self, writes: Sequence[Write], most: int = CHUNK) -> None:
        for chunk in chunks(writes, most):
            self._queued(chunk).result()

    @staticmethod
    def _values(puts: Sequence[PutOp]) -> list[str | None]:
        """Return the value of each write as JSON. None for a record to delete.

        Raises:
            BadRecordError: A value is not JSON.
        """
        return [value_text(op.namespace, op.key, op.value) if op.value is not None else None for op in puts]

    def _texts(self, puts: Sequence[PutOp]) -> list[list[str]]:
        """Return the distinct texts to index for each write.

        Raises:
            BadRecordError: A path does not fit the value.
        """
        return [texts_to_index(op, self._paths(op)) for op in puts]

    def _paths(self, op: PutOp) -> tuple[str, ...]:
        """Return the paths of the texts to index for a record."""
        return self._fields if op.index is None else tuple(op.index or ())

    def _writes(
        self, puts: Sequence[PutOp], values: list[str | None], texts: list[list[str]], vectors: ArrayLike
    ) -> list[Write]:
        """Return the writes for a list of puts.

        Args:
            puts: The operations.
            values: JSON value of each operation.
            texts: Texts to index of each operation.
            vectors: Vectors of the distinct texts, in order of first use.
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
            BadRecordError: The embedding returned another shape than it declares, or a number that is not finite.
        """
        if count == 0:
            return np.empty((0, self._dimension), dtype=np.float32)
        try:
            given = np.asarray(vectors, dtype=np.float64)
        except (TypeError, ValueError):  # Vectors of several lengths, or not numbers.
            given = np.empty(0)
        if given.shape != (count, self._dimension) or not np.isfinite(given).all():
            raise BadRecordError(
                f"The embedding {identity(self.embeddings)[0]} did not return {self._dimension} finite numbers for "
                "each text: check its model."
            )
        return unit(given)

    def _queued(self, chunk: Chunk) -> "Future[None]":
        with self._closing:
            if self.closed:
                raise self._closed_error()
            return self._writer.submit(chunk)

    def _in_worker(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._closing:
            if self.closed:
                raise self._closed_error()
            future = self.worker.submit(call, *args, **kwargs)
        return future.result()

    async def _in_worker_async(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._closing:
            if self.closed:
                raise self._closed_error()
            future = self.worker.submit(call, *args, **kwargs)
        return await asyncio.wrap_future(future)


def _distinct(texts: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(text for group in texts for text in group))


def _parts(puts: Puts) -> Iterator[list[PutOp]]:
    rest = iter(puts.values())
    while part := list(islice(rest, PREPARED_AT_ONCE)):
        yield part


def _noted(answers: Iterable[tuple[int, ReadResult]], results: list[Result]) -> Iterator[Chunk]:
    """Set the result of each read, and return the chunks that refresh the time to live of the records read."""
    read: list[StoredRecord] = []
    for index, answer in answers:
        results[index] = answer.result
        read.extend(answer.read)
    return read_chunks(read)


def _parsed(records: Iterator[StoredRecord]) -> list[StoredChange]:
    """Return the next records with their values."""
    return [
        StoredChange(one.place, json.loads(one.text), one.lifetime.until if one.lifetime else None)
        for one in islice(records, PARSED_AT_ONCE)
    ]


def _query(op: ReadOp) -> str:
    return (op.query or "") if isinstance(op, SearchOp) else ""


def _queries(reads: Iterable[tuple[int, ReadOp]]) -> list[str]:
    return list(dict.fromkeys(query for _, op in reads if (query := _query(op))))


@asynccontextmanager
async def create_store() -> AsyncIterator[ChromaStore]:
    """Open the configured memory, for `"store"` in langgraph.json.

    That is the server at BILLP_CHROMA_URL if set, else the folder `memory` in BILLP_HOME (default `.billp` in the
    working directory). All callers in a process share one store, which closes when the last of them leaves. If
    langgraph.json has a setting `store.ttl`, it applies, and expired records are swept.

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
    """Open the memory at `where`, a result of `configured`, with the server settings of the environment.

    Raises:
        BadStoreError: The store cannot be used; the message says why and what to do.
    """
    if "://" not in where:
        return ChromaStore(where, ttl=ttl)
    return ChromaStore(where, ttl=ttl, headers=configured_headers(), ca=configured_ca(), seconds=configured_seconds())


@contextmanager
def open_to_read() -> Iterator[ChromaStore]:
    """Open the configured memory for reading. A missing memory reads as empty and is not created.

    Raises:
        BadStoreError: The memory cannot be opened.
    """
    where = configured()
    # Chroma writes even when it reads, so a folder that may not be written is copied.
    if "://" not in where and Path(where).is_dir() and not os.access(where, os.W_OK):
        with open_copy(Path(where)) as store:
            yield store
        return
    with open_configured(where) if "://" in where or Path(where).exists() else ChromaStore() as store:
        yield store


@contextmanager
def open_copy(folder: Path) -> Iterator[ChromaStore]:
    """Open a copy of a memory, because Chroma changes files even on reads.

    Raises:
        BadStoreError: The memory cannot be opened.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "memory").resolve()
        shutil.copytree(folder, copy)
        for path in (copy, *copy.rglob("*")):
            # A copy has the permissions of its original.
            path.chmod(path.stat().st_mode | stat.S_IRWXU)
        try:
            store = ChromaStore(copy)
        except BadStoreError as error:
            raise BadStoreError(str(error).replace(str(copy), str(folder))) from error
        with store:
            yield store


def configured() -> str:
    """Return the location of the configured memory: a folder, or the URL of a Chroma server."""
    url = os.environ.get("BILLP_CHROMA_URL", "").strip()
    return url or str((home() / "memory").resolve())
