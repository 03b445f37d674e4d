"""A folder, or memory only: nobody else writes, so reads are answered from mirrors in the process."""

import threading
from collections.abc import Mapping, Sequence

from langgraph.store.base import SearchOp

from memory.chroma.backend import Backend, ReadOp, ReadResult, reaches
from memory.chroma.cache import RecordCache, Scored
from memory.chroma.connection import Connection
from memory.chroma.index_search import FEW, OVERFETCH, fetch_vectors, search_few, search_index, stacked
from memory.chroma.layout import Chunk, StoredRecord, Write, is_main_row, labels_of, owner_of, prefix_filter, readable
from memory.search.filters import Namespace, matches
from memory.search.vectors import Vector

EXACT_LIMIT = 20_000
"""Records a collection up to which search is exact; Chroma's own index answers above."""
PAGE = 250
"""Rows read at a time when a mirror is loaded: other threads stand still for 10 ms."""


class NotLoadedError(Exception):
    """Raised where a read takes Chroma and is not in the worker: the worker has to answer it."""


class LocalBackend(Backend):
    """Mirrors over the collections of a Chroma that is this store's alone.

    The worker owns the mirrors: it alone loads one, at the first use of its collection, replaces it or drops it, and
    it changes one only after Chroma has made the change durable. Any other thread finds a mirror whole, or none and
    hands its read to the worker. So no thread can put a mirror in the place of one that holds more.

    Above `exact_limit` records a mirror holds no vectors: those of few records, as of one user, are fetched then; else
    Chroma's index gives candidates, whose vectors are fetched and ranked exactly.

    Args:
        connection: The open Chroma.
        dimension: Numbers in a vector.
        exact_limit: Records a collection up to which search is exact.
    """

    def __init__(self, connection: Connection, dimension: int, exact_limit: int = EXACT_LIMIT) -> None:
        super().__init__(connection, dimension)
        self._exact_limit = exact_limit
        self._mirrors: dict[Namespace, RecordCache] = {}
        self._swept: set[Namespace] = set()
        self._collections.update(self._kept())

    def answer_at_once(self, op: ReadOp, query: Vector | None) -> ReadResult | None:
        """Return what the loaded mirrors answer, None if they do not hold all it takes."""
        try:
            return self.answer(op, query)
        except NotLoadedError:
            return None

    def record(self, namespace: Namespace, key: str) -> StoredRecord | None:
        """Return a record, None if there is none."""
        mirror = self._mirror(labels_of(namespace))
        return mirror.get(namespace, key) if mirror is not None else None

    def namespaces(self) -> Sequence[Namespace]:
        """Return the namespaces that hold at least one record."""
        mirrors = [self._mirror(labels) for labels in list(self._collections)]
        return [namespace for mirror in mirrors if mirror is not None for namespace in mirror.namespaces()]

    def labels(self, prefix: Namespace) -> Sequence[Namespace]:
        """Return the labels of the collections that may hold records below `prefix`."""
        return [labels for labels in list(self._collections) if reaches(prefix, labels)]

    def listed(self, labels: Namespace, op: SearchOp, wanted: int) -> list[Scored]:
        """Return the first `wanted` records of a collection that `op` means, by namespace and key."""
        mirror = self._mirror(labels)
        return mirror.listed(op.namespace_prefix, op.filter, wanted) if mirror is not None else []

    def unindexed(self, labels: Namespace, op: SearchOp, wanted: int) -> list[Scored]:
        """Return the first `wanted` records of a collection that have no vector, by namespace and key."""
        mirror = self._mirror(labels)
        return mirror.unindexed(op.namespace_prefix, op.filter, wanted) if mirror is not None else []

    def scored(self, labels: Namespace, op: SearchOp, query: Vector, wanted: int) -> list[Scored]:
        """Return at least the best `wanted` indexed records of a collection with scores, in any order."""
        mirror = self._mirror(labels)
        if mirror is None:
            return []
        if not mirror.has_vectors and mirror.should_have_vectors:
            mirror = self._load(labels)
        found = mirror.scored(op.namespace_prefix, query, op.filter, wanted)
        if found is not None:
            return found
        self._check_owner()
        few = mirror.few(op.namespace_prefix, op.filter, FEW)
        if few is not None:
            return search_few(self._collections[labels], query, few)
        return self._scored_by_index(labels, mirror, op, query, wanted)

    def _scored_by_index(
        self, labels: Namespace, mirror: RecordCache, op: SearchOp, query: Vector, wanted: int
    ) -> list[Scored]:
        def resolve(rows: Sequence[str]) -> Mapping[str, StoredRecord]:
            owners = {row: mirror.by_head(owner_of(row)) for row in rows}
            return {
                row: record
                for row, record in owners.items()
                if record and record.owns(row) and matches(record.value, op.filter)
            }

        where = prefix_filter(op.namespace_prefix)
        return search_index(self._collections[labels], query, where, wanted, resolve, OVERFETCH)

    def held(self, labels: Namespace, records: Sequence[Write | StoredRecord]) -> Mapping[str, StoredRecord]:
        """Return what a collection holds of `records`, by head, expired ones too."""
        # Loaded before the first extra row is written, or it would be taken for an orphan.
        mirror = self._mirror(labels)
        found = [mirror.held(record.head) for record in records] if mirror is not None else []
        return {record.head: record for record in found if record}

    def written(self, write: Write, record: StoredRecord | None) -> None:
        """Let the mirror show what is durable now."""
        mirror = self._mirror(labels_of(write.namespace))
        if mirror is not None and record:
            mirror.put(record, write.vectors)
        elif mirror is not None:
            mirror.remove(write.head)

    def refresh_ttl(self, record: StoredRecord) -> bool:
        """Let `record` live as long as it says now, and say whether it still does live."""
        mirror = self._mirror(labels_of(record.namespace))
        return mirror is not None and mirror.refresh_ttl(record)

    def swept(self, record: StoredRecord) -> None:
        """Let the mirror, if it is loaded, forget a record."""
        if mirror := self._mirrors.get(labels_of(record.namespace)):
            mirror.remove(record.head)

    def write(self, chunk: Chunk) -> None:
        """Make a chunk durable, then visible.

        Raises:
            StoreError: Chroma failed; each record is either the former or the new one.
        """
        try:
            super().write(chunk)
        except BaseException:
            # How far it came is not known: what is there is read again.
            self._mirrors.pop(chunk.labels, None)
            raise

    def _mirror(self, labels: Namespace) -> RecordCache | None:
        """Return the mirror of a collection, loaded at first use; None if there is no such collection.

        Raises:
            NotLoadedError: It is not loaded, and the calling thread is not the worker.
        """
        mirror = self._mirrors.get(labels)
        if mirror is None and labels in self._collections:
            mirror = self._load(labels)
        return mirror

    def _check_owner(self) -> None:
        if threading.get_ident() != self._owner:
            raise NotLoadedError

    def _load(self, labels: Namespace) -> RecordCache:
        """Read a collection into a mirror that takes the place of the former one.

        Raises:
            NotLoadedError: The calling thread is not the worker.
        """
        self._check_owner()
        collection = self._collections[labels]
        # By their ids, since Chroma counts its way to an offset: 18 s for 100,000 rows, against 4.
        ids = collection.get(include=[])["ids"]
        heads = [row for row in ids if is_main_row(row)]
        records: list[StoredRecord] = []
        for start in range(0, len(heads), PAGE):
            page = collection.get(ids=heads[start : start + PAGE], include=["metadatas"])
            records.extend(readable(page["metadatas"]))
        vectors: dict[str, Vector] = {}
        exact = len(records) <= self._exact_limit
        for start in range(0, len(ids) if exact else 0, PAGE):
            vectors |= fetch_vectors(collection, ids[start : start + PAGE])
        mirror = RecordCache(self._dimension, self._exact_limit)
        for record in records:
            own = [record.head, *record.extras] if record.vectors else []
            mirror.put(record, stacked([vectors[row] for row in own], self._dimension) if exact else None)
        odd = set(heads).difference(record.head for record in records)
        extras = {row for row in ids if not is_main_row(row) and owner_of(row) not in odd}
        self._remove_orphans(labels, extras.difference(*(record.extras for record in records)))
        self._mirrors[labels] = mirror
        return mirror

    def _remove_orphans(self, labels: Namespace, orphans: set[str]) -> None:
        """Remove rows that no head names, left by a process that was killed.

        Only at the first load: later ones may belong to a record whose head is about to be written.
        """
        if labels not in self._swept and orphans:
            self._collections[labels].delete(ids=sorted(orphans))
        self._swept.add(labels)
