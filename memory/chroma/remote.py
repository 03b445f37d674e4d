"""Backend of a Chroma server: other clients may write at any time, so every read is a request and nothing is cached."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from langgraph.store.base import SearchOp

from memory.chroma.backend import Backend, ReadOp, ReadResult, reaches
from memory.chroma.cache import Scored, ranked
from memory.chroma.connection import Connection, GoneError, Table, TooLargeError
from memory.chroma.errors import BadRecordError
from memory.chroma.index_search import search_index
from memory.chroma.layout import (
    Chunk,
    StoredRecord,
    Write,
    is_main_row,
    labels_of,
    main_row_id,
    owner_of,
    prefix_filter,
    readable,
)
from memory.search.filters import Namespace, matches
from memory.search.vectors import Vector

T = TypeVar("T")


def _too_large(chunk: Chunk, error: TooLargeError) -> BadRecordError:
    writes = [*chunk.main_rows, *(write for write, _ in chunk.vector_rows)]
    names = ", ".join(f"{write.key!r} in {write.namespace}" for write in writes)
    return BadRecordError(f"The record {names} is too large, {chunk.bytes:,} bytes. {error}")


class RemoteBackend(Backend):
    """Reads and writes of a server shared with other clients.

    A search asks Chroma's index for 2,000 candidates with ids and distances only, which is exact for collections up to
    that size. It then fetches the vectors of the candidates that can still win, and ranks them exactly. Reads without a
    query (listings, namespaces) load the metadata of the whole collection, so they are for people and tools, not for a
    visit.

    If a server loses its data while this client runs, the store is created there again, as at its opening.

    Args:
        connection: The open Chroma.
        dimension: Numbers in a vector.
        settle: Stores the embedding's name on the server, or rejects the server.
    """

    def __init__(self, connection: Connection, dimension: int, settle: Callable[[], None]) -> None:
        super().__init__(connection, dimension)
        self._settle = settle

    def table(self, labels: Namespace) -> Table:
        """Return the collection of `labels`, as `Backend.table` does."""
        if self._existing(labels) is None:
            # If the server has lost its data, a new collection needs the embedding's name beside it.
            self._settle()
        return super().table(labels)

    def answer(self, op: ReadOp, query: Vector | None) -> ReadResult:
        """Return the result of a read, as `Backend.answer` does."""
        return self._or_again(lambda: super(RemoteBackend, self).answer(op, query))

    def records(self, prefix: Namespace) -> list[StoredRecord]:
        """Return all records below `prefix`, as `Backend.records` does."""
        return self._or_again(lambda: super(RemoteBackend, self).records(prefix))

    def vectors(self, records: Sequence[StoredRecord]) -> list[Vector]:
        """Return the vectors of each of `records`, as `Backend.vectors` does."""
        return self._or_again(lambda: super(RemoteBackend, self).vectors(records))

    def write(self, chunk: Chunk) -> None:
        """Make a chunk durable, as `Backend.write` does. A repeated write changes nothing.

        Raises:
            BadRecordError: A record is too large for the server. The others of the chunk are written.
        """
        try:
            self._or_again(lambda: super(RemoteBackend, self).write(chunk))
        except TooLargeError as error:
            if chunk.rows == 1:
                raise _too_large(chunk, error) from error
            self._write_apart(chunk)

    def _write_apart(self, chunk: Chunk) -> None:
        refused: list[BadRecordError] = []
        for row in chunk.apart():
            try:
                self.write(row)
            except BadRecordError as error:
                refused.append(error)
        if refused:
            raise refused[0]

    def sweep(self, labels: Namespace, offset: int) -> tuple[int, int]:
        """Delete one page of the expired records, as `Backend.sweep` does."""
        return self._or_again(lambda: super(RemoteBackend, self).sweep(labels, offset))

    def _or_again(self, call: Callable[[], T]) -> T:
        """Make a call, and repeat it once if the server has lost the known collections."""
        try:
            return call()
        except GoneError:
            self.drop_caches()
            self._settle()
            return call()

    def answer_at_once(self, op: ReadOp, query: Vector | None) -> ReadResult | None:
        """Return None: each read is a request."""
        return None

    def drop_caches(self) -> None:
        """Drop the known collections. Records are not cached."""
        self._collections.clear()

    def record(self, namespace: Namespace, key: str) -> StoredRecord | None:
        """Return a record. None if missing."""
        main_row = main_row_id(namespace, key)
        record = self._by_main_row(self._existing(labels_of(namespace)), [main_row]).get(main_row)
        return record if record and not record.expired else None

    def namespaces(self) -> Sequence[Namespace]:
        """Return the namespaces that hold at least one record."""
        collections = [self._existing(labels) for labels in self.labels(())]
        return list({record.namespace for collection in collections for record in self._records(collection, None)})

    def labels(self, prefix: Namespace) -> Sequence[Namespace]:
        """Return the labels of the collections that may hold records below `prefix`."""
        if len(prefix) >= 2:
            return [prefix[:2]]
        self._collections = self._kept()
        return [labels for labels in self._collections if reaches(prefix, labels)]

    def listed(self, labels: Namespace, op: SearchOp, wanted: int) -> list[Scored]:
        """Return the first `wanted` records of a collection that match `op`, sorted by namespace and key."""
        return self._first(labels, op, prefix_filter(op.namespace_prefix), wanted)

    def unindexed(self, labels: Namespace, op: SearchOp, wanted: int) -> list[Scored]:
        """Return the first `wanted` records of a collection without a vector, sorted by namespace and key."""
        below = prefix_filter(op.namespace_prefix)
        unindexed: dict[str, Any] = {"vectors": 0}
        return self._first(labels, op, {"$and": [unindexed, below]} if below else unindexed, wanted)

    def scored(self, labels: Namespace, op: SearchOp, query: Vector, wanted: int) -> list[Scored]:
        """Return at least the best `wanted` indexed records of a collection with scores, in any order."""
        collection = self._existing(labels)
        if collection is None:
            return []

        def resolve(rows: Sequence[str]) -> Mapping[str, StoredRecord]:
            records = self._by_main_row(collection, sorted({owner_of(row) for row in rows}))
            return {
                row: record
                for row in rows
                if (record := records.get(owner_of(row)))
                and record.owns(row)
                and not record.expired
                and matches(record.value, op.filter)
            }

        return search_index(collection, query, prefix_filter(op.namespace_prefix), wanted, resolve)

    def held(self, labels: Namespace, records: Sequence[Write | StoredRecord]) -> Mapping[str, StoredRecord]:
        """Return the stored versions of `records` in a collection by main row id, expired ones included."""
        return self._by_main_row(self._existing(labels), [record.main_row for record in records])

    def written(self, write: Write, record: StoredRecord | None) -> None:
        """Do nothing: the server has the new version."""

    def refresh_ttl(self, record: StoredRecord) -> bool:
        """Return True: the next call updates the server."""
        return True

    def swept(self, record: StoredRecord) -> None:
        """Do nothing: the server has deleted it."""

    def _existing(self, labels: Namespace) -> Table | None:
        """Return the collection of `labels`. None if missing."""
        if labels not in self._collections and (found := self._connection.table(self._name(labels))):
            self._collections[labels] = found
        return self._collections.get(labels)

    @staticmethod
    def _by_main_row(collection: Table | None, main_rows: list[str]) -> dict[str, StoredRecord]:
        """Return the existing records by main row id."""
        if collection is None or not main_rows:
            return {}
        page = collection.get(ids=main_rows, include=["metadatas"])
        return {record.main_row: record for record in readable(page["ids"], page["metadatas"])}

    @staticmethod
    def _records(collection: Table | None, where: dict[str, Any] | None) -> Iterable[StoredRecord]:
        """Yield the unexpired records of a collection that pass Chroma's filter."""
        if collection is not None:
            page = collection.get(where=where, include=["metadatas"])
            rows = zip(page["ids"], page["metadatas"] or [], strict=True)
            main_rows = {row: metadata for row, metadata in rows if is_main_row(row)}
            records = readable(list(main_rows), list(main_rows.values()))
            yield from (record for record in records if not record.expired)

    def _first(self, labels: Namespace, op: SearchOp, where: dict[str, Any] | None, wanted: int) -> list[Scored]:
        records = self._records(self._existing(labels), where)
        return ranked((record, None) for record in records if matches(record.value, op.filter))[:wanted]
