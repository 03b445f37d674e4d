"""Base class of the backends: reads, searches and chunks of writes on Chroma, in a folder or on a server."""

import json
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from chromadb.api.collection_configuration import CreateCollectionConfiguration
from langgraph.store.base import GetOp, ListNamespacesOp, Result, SearchOp

from memory.chroma.cache import Delta, LogPoint, Scored, ranked
from memory.chroma.connection import Connection, Table, chroma_calls
from memory.chroma.index_search import SLICE, fetch_vectors, stacked
from memory.chroma.layout import (
    CHUNK,
    EXPIRY,
    WRITTEN,
    Chunk,
    StoredRecord,
    Write,
    collection_name,
    labels_of,
    readable,
    to_json,
)
from memory.chroma.ttl import now
from memory.search.filters import Namespace, Place, list_namespaces
from memory.search.vectors import Vector

ReadOp = GetOp | SearchOp | ListNamespacesOp


class ReadResult(NamedTuple):
    """Result of a read."""

    result: Result
    read: Sequence[StoredRecord] = ()
    """Records whose time to live the read refreshes."""


class Seen(NamedTuple):
    """Points up to which a reader knows the collections of a backend."""

    backend: object
    """Identity of the backend. It does not keep the backend in memory."""
    points: Mapping[Namespace, LogPoint]
    """Point of each collection by its labels."""


class StoreDelta(NamedTuple):
    """Changes of a store's collections below a prefix. The fields are those of `Delta`, with the points of all."""

    records: list[StoredRecord]
    gone: list[Place]
    whole: bool
    seen: Seen


class Rows(NamedTuple):
    """Rows in Chroma's format."""

    ids: list[str]
    embeddings: Vector
    metadatas: Sequence[Mapping[str, Any]]


# All vectors have length 1, so the inner product is the cosine. Unlike "cosine" it keeps the exact bytes of the
# vectors, and so the scores of a reloaded store. batch_size is small, since Chroma adds a whole batch to the index at
# once and blocks every thread of the process meanwhile. sync_threshold is the number of rows between two writes of the
# index files. A kill during such a write may leave torn files that need repair, so it should not be small; but until
# the next one each write after an opening reads the log again, 22 ms for a thousand rows, so it should not be large.
INDEX: CreateCollectionConfiguration = {
    "hnsw": {"space": "ip", "ef_search": 200, "batch_size": 50, "sync_threshold": 1_000}
}


def reaches(prefix: Namespace, labels: Namespace) -> bool:
    """Return whether a collection may hold records below `prefix`."""
    return labels == prefix[:2] if len(prefix) >= 2 else labels[: len(prefix)] == prefix


class Backend(ABC):
    """Reads and writes of one store.

    The store's worker thread makes all calls but `answer_at_once`, which any thread may call. So only one thread loads,
    replaces and drops anything.

    Args:
        connection: The open Chroma.
        dimension: Numbers in a vector.
    """

    def __init__(self, connection: Connection, dimension: int) -> None:
        self._connection = connection
        self._dimension = dimension
        self._collections: dict[Namespace, Table] = {}
        self._owner: int | None = None
        self._identity = object()

    def take_over(self) -> None:
        """Make the calling thread the worker. The worker calls this before anything else."""
        self._owner = threading.get_ident()

    @abstractmethod
    def answer_at_once(self, op: ReadOp, query: Vector | None) -> ReadResult | None:
        """Return the result of `answer` without Chroma and the disk. None if it needs Chroma.

        Any thread may call it, at any moment.
        """

    @abstractmethod
    def changes_at_once(self, prefix: Namespace, seen: Seen | None) -> StoreDelta | None:
        """Return the changes below `prefix` without Chroma and the disk. None if that needs Chroma.

        Any thread may call it, at any moment.
        """

    @abstractmethod
    def changes(self, prefix: Namespace, seen: Seen | None) -> Iterator[StoreDelta | None]:
        """Yield None after each short step of a read of the changes below `prefix`, and the changes at the end.

        Args:
            prefix: Labels with which the namespaces begin.
            seen: Points of an earlier read of the same prefix. None for the first.

        Raises:
            StoreError: Chroma failed.
        """

    @abstractmethod
    def drop_caches(self) -> None:
        """Drop what was read from Chroma, so that the next read loads it again."""

    @abstractmethod
    def record(self, namespace: Namespace, key: str) -> StoredRecord | None:
        """Return a record. None if missing."""

    @abstractmethod
    def namespaces(self) -> Sequence[Namespace]:
        """Return the namespaces that hold at least one record."""

    @abstractmethod
    def labels(self, prefix: Namespace) -> Sequence[Namespace]:
        """Return the labels of the collections that may hold records below `prefix`."""

    @abstractmethod
    def listed(self, labels: Namespace, op: SearchOp, wanted: int) -> list[Scored]:
        """Return the first `wanted` records of a collection that match `op`, sorted by namespace and key."""

    @abstractmethod
    def scored(self, labels: Namespace, op: SearchOp, query: Vector, wanted: int) -> list[Scored]:
        """Return at least the best `wanted` indexed records of a collection with scores, in any order."""

    @abstractmethod
    def unindexed(self, labels: Namespace, op: SearchOp, wanted: int) -> list[Scored]:
        """Return the first `wanted` records of a collection without a vector, sorted by namespace and key."""

    @abstractmethod
    def held(self, labels: Namespace, records: Sequence[Write | StoredRecord]) -> Mapping[str, StoredRecord]:
        """Return the stored versions of `records` in a collection by main row id, expired ones included."""

    @abstractmethod
    def written(self, write: Write, record: StoredRecord | None) -> None:
        """Note that `record` is durable now. None for a deleted record."""

    @abstractmethod
    def refresh_ttl(self, record: StoredRecord) -> bool:
        """Apply the new lifetime of `record`, and return whether the record has not expired yet."""

    @abstractmethod
    def swept(self, record: StoredRecord) -> None:
        """Note that an expired record was deleted."""

    def answer(self, op: ReadOp, query: Vector | None) -> ReadResult:
        """Return the result of a read.

        Args:
            op: The operation.
            query: (d,), vector of the search text. None without a text.

        Raises:
            StoreError: Chroma failed.
        """
        if isinstance(op, GetOp):
            record = self.record(op.namespace, op.key)
            read = [record] if record and op.refresh_ttl and record.ttl_is_due else []
            return ReadResult(record.item() if record else None, read)
        if isinstance(op, SearchOp):
            found = self._search(op, query)
            read = [record for record, _ in found if op.refresh_ttl and record.ttl_is_due]
            return ReadResult([record.found(score) for record, score in found], read)
        return ReadResult(list_namespaces(self.namespaces(), op))

    def records(self, prefix: Namespace) -> list[StoredRecord]:
        """Return all records below `prefix`, sorted by namespace and key.

        Raises:
            StoreError: Chroma failed.
        """
        return [record for record, _ in self._search(SearchOp(prefix, limit=sys.maxsize), None)]

    def vectors(self, records: Sequence[StoredRecord]) -> list[Vector]:
        """Return the vectors, (n, d), of each of `records`; n = 0 for a record that is not indexed or was deleted.

        Raises:
            StoreError: Chroma failed.
        """
        rows = {record.place: [record.main_row, *record.vector_rows] if record.vectors else [] for record in records}
        by_labels: dict[Namespace, list[str]] = {}
        for namespace, key in rows:
            by_labels.setdefault(labels_of(namespace), []).extend(rows[namespace, key])
        found: dict[str, Vector] = {}
        for labels, ids in by_labels.items():
            for start in range(0, len(ids), SLICE):
                found |= fetch_vectors(self.table(labels), ids[start : start + SLICE])
        return [stacked([found[row] for row in rows[one.place] if row in found], self._dimension) for one in records]

    def _search(self, op: SearchOp, query: Vector | None) -> list[Scored]:
        wanted = op.offset + op.limit
        if wanted <= 0:
            return []
        places = self.labels(op.namespace_prefix)
        if query is None:
            found = [one for labels in places for one in self.listed(labels, op, wanted)]
        else:
            found = [one for labels in places for one in self.scored(labels, op, query, wanted)]
            # As in LangGraph's own store: records without a vector follow if the indexed ones do not fill the limit.
            if len(found) < wanted:
                # A record written between the two steps may be in both results.
                seen = {record.place for record, _ in found}
                rest = (one for labels in places for one in self.unindexed(labels, op, wanted + len(seen)))
                found += [one for one in rest if one[0].place not in seen]
        return ranked(found)[op.offset : wanted]

    def write(self, chunk: Chunk) -> None:
        """Make a chunk durable, then visible: new vector rows first, then main rows, then delete the old vector rows.

        A record that has expired since it was read stays expired.

        Raises:
            StoreError: Chroma failed. Each record is either the old or the new one.
        """
        collection = self.table(chunk.labels)
        former = self.held(chunk.labels, chunk.main_rows)
        records = [(write, write.record(former.get(write.main_row))) for write in chunk.main_rows]
        put = [(write, record) for write, record in records if record]
        gone = [write for write, record in records if not record and write.main_row in former]
        # A repeated write, after a failure of Chroma midway, finds its own rows. The former ones, which it no longer
        # knows, stay as orphans that no search returns, since other unknown rows may be of a client that is writing.
        tokens = {write.token for write in chunk.main_rows}
        stale = [row for record in former.values() if record.token not in tokens for row in record.vector_rows]
        vector_rows, main_rows = self._vector_rows(chunk), self._main_rows(put, former)
        with chroma_calls(self._connection):
            for rows in (vector_rows, main_rows):
                if rows.ids:
                    collection.upsert(**rows._asdict())
            if gone:
                collection.delete(ids=[write.main_row for write in gone])
            if stale:
                collection.delete(ids=stale)
        for write, record in (*put, *((write, None) for write in gone)):
            self.written(write, record)
        if chunk.read:
            self._refresh_lifetimes(collection, chunk)

    def table(self, labels: Namespace) -> Table:
        """Return the collection of `labels` with its rows as Chroma stores them. It is created if missing.

        Raises:
            StoreError: Chroma failed.
        """
        if labels not in self._collections:
            noted = {"labels": to_json(list(labels))}
            self._collections[labels] = self._connection.made_table(self._name(labels), noted, INDEX)
        return self._collections[labels]

    def labels_of_all(self) -> Sequence[Namespace]:
        """Return the labels of all collections.

        Raises:
            StoreError: Chroma failed.
        """
        return self.labels(())

    def sweep(self, labels: Namespace, offset: int) -> tuple[int, int]:
        """Delete one page of the expired records of a collection.

        Args:
            labels: Labels of the collection.
            offset: Rows to skip.

        Returns:
            Number of deleted records and number of rows in the page, which is 0 after the last row.

        Raises:
            StoreError: Chroma failed.
        """
        collection = self.table(labels)
        # Filter by expiry and token, since another client may have replaced a record before the delete.
        over: dict[str, Any] = {EXPIRY: {"$lte": now().timestamp()}}
        page = collection.get(where=over, limit=CHUNK, offset=offset, include=["metadatas"])
        gone = [record for record in readable(page["ids"], page["metadatas"]) if record.expired]
        if gone:
            theirs: dict[str, Any] = {"$and": [over, {"token": {"$in": [record.token for record in gone]}}]}
            collection.delete(ids=[record.main_row for record in gone], where=theirs)
        if vector_rows := [row for record in gone for row in record.vector_rows]:
            collection.delete(ids=vector_rows)
        for record in gone:
            self.swept(record)
        return len(gone), len(page["ids"])

    def _refresh_lifetimes(self, collection: Table, chunk: Chunk) -> None:
        held = self.held(chunk.labels, chunk.read)
        same = [one for was in chunk.read if (one := held.get(was.main_row)) and one.token == was.token]
        later = [record.refresh_ttl() for record in same if not record.expired]
        # The old lifetime may end during the call to Chroma, so reads see the new one before it is durable.
        if living := [record for record in later if record.lifetime and self.refresh_ttl(record)]:
            collection.update(
                ids=[record.main_row for record in living],
                # Only these fields, since others would undo a replacement by another client.
                metadatas=[
                    {EXPIRY: one.lifetime.until.timestamp(), WRITTEN: now().timestamp()}
                    for one in living
                    if one.lifetime
                ],
            )

    def _vector_rows(self, chunk: Chunk) -> Rows:
        return Rows(
            [write.vector_row(number) for write, number in chunk.vector_rows],
            stacked([write.vectors[number] for write, number in chunk.vector_rows], self._dimension),
            [write.fields for write, _ in chunk.vector_rows],
        )

    def _main_rows(self, put: Sequence[tuple[Write, StoredRecord]], former: Mapping[str, StoredRecord]) -> Rows:
        return Rows(
            [record.main_row for _, record in put],
            stacked([write.first_vector(self._dimension) for write, _ in put], self._dimension),
            [record.metadata(former.get(record.main_row)) for _, record in put],
        )

    def _points(self, seen: Seen | None) -> Mapping[Namespace, LogPoint] | None:
        """Return the points that a reader knows. None if it knows nothing of this backend."""
        return seen.points if seen is not None and seen.backend is self._identity else None

    def _store_delta(
        self, parts: Mapping[Namespace, Delta], known: Mapping[Namespace, LogPoint] | None
    ) -> StoreDelta | None:
        """Return the changes of all collections. None if one that the reader knows is lost or has changed too much."""
        if known is not None and any(labels not in parts or parts[labels].whole for labels in known):
            return None
        records = [record for part in parts.values() for record in part.records]
        gone = [place for part in parts.values() for place in part.gone]
        seen = Seen(self._identity, {labels: part.point for labels, part in parts.items()})
        return StoreDelta(records, gone, known is None, seen)

    def _kept(self) -> dict[Namespace, Table]:
        """Return the stored collections of records by their labels."""
        tables = [self._connection.table(name) for name in self._connection.collection_names()]
        return {
            tuple(json.loads(str(one.metadata["labels"]))): one for one in tables if one and "labels" in one.metadata
        }

    def _name(self, labels: Namespace) -> str:
        return f"{self._connection.prefix}{collection_name(labels)}"
