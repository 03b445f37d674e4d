"""Backend of a folder or memory only: no other client writes, so reads are answered from caches."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

from langgraph.store.base import GetOp, SearchOp

from memory.chroma.backend import Backend, ReadOp, ReadResult, Seen, StoreDelta, reaches
from memory.chroma.cache import LogPoint, RecordCache, Scored
from memory.chroma.connection import Connection
from memory.chroma.index_search import FEW, OVERFETCH, fetch_vectors, search_few, search_index, stacked
from memory.chroma.layout import Chunk, StoredRecord, Write, is_main_row, labels_of, owner_of, prefix_filter, readable
from memory.search.filters import Namespace, matches
from memory.search.vectors import Vector

EXACT_LIMIT = 20_000
"""Records of a collection up to which search is exact. Above, Chroma's index answers."""
ROWS_A_PAGE = 250
"""Rows read at a time when a cache is loaded. Other threads are blocked for 10 ms."""


_log = logging.getLogger(__name__)


class NotLoadedError(Exception):
    """Raised if a read needs Chroma outside the worker, which must answer it then."""


class LocalBackend(Backend):
    """Caches of the collections in a Chroma that only this store uses.

    The worker owns the caches. Only the worker loads a cache, at the first use of its collection, replaces it or drops
    it, and it changes a cache only after Chroma has made the change durable. Any other thread finds a complete cache,
    or none and passes its read to the worker. So no thread can replace a cache by an older one.

    Above `exact_limit` records a cache holds no vectors. For a small set of records, such as those of one user, the
    vectors are fetched. Otherwise Chroma's index selects candidates, whose vectors are fetched and ranked exactly.

    Args:
        connection: The open Chroma.
        dimension: Numbers in a vector.
        exact_limit: Records of a collection up to which search is exact.
    """

    def __init__(self, connection: Connection, dimension: int, exact_limit: int = EXACT_LIMIT) -> None:
        super().__init__(connection, dimension)
        self._exact_limit = exact_limit
        self._caches: dict[Namespace, RecordCache] = {}
        self.unchanging = threading.Lock()
        """Held while the worker changes which records reads find, and during the reads of all other threads."""
        self._swept: set[Namespace] = set()
        self._collections.update(self._kept())

    def answer_at_once(self, op: ReadOp, query: Vector | None) -> ReadResult | None:
        """Return the result from the loaded caches. None if they do not suffice."""
        # A search reads several caches, or one twice. A record that changes in between could be missed by all reads.
        with nullcontext() if isinstance(op, GetOp) else self.unchanging:
            try:
                return self.answer(op, query)
            except NotLoadedError:
                return None

    def changes_at_once(self, prefix: Namespace, seen: Seen | None) -> StoreDelta | None:
        """Return the changes below `prefix` from the loaded caches. None if they do not suffice."""
        try:
            return self._changes(prefix, self._points(seen))
        except NotLoadedError:
            return None

    def changes(self, prefix: Namespace, seen: Seen | None) -> Iterator[StoreDelta | None]:
        """Yield the changes below `prefix`, as `Backend.changes` does, in one step."""
        yield self._changes(prefix, self._points(seen))

    def drop_caches(self) -> None:
        """Drop the caches of all collections. Only the worker may call it."""
        self._caches.clear()

    def record(self, namespace: Namespace, key: str) -> StoredRecord | None:
        """Return a record. None if missing."""
        cache = self._cache(labels_of(namespace))
        return cache.get(namespace, key) if cache is not None else None

    def namespaces(self) -> Sequence[Namespace]:
        """Return the namespaces that hold at least one record."""
        caches = [self._cache(labels) for labels in list(self._collections)]
        return [namespace for cache in caches if cache is not None for namespace in cache.namespaces()]

    def labels(self, prefix: Namespace) -> Sequence[Namespace]:
        """Return the labels of the collections that may hold records below `prefix`."""
        return [labels for labels in list(self._collections) if reaches(prefix, labels)]

    def listed(self, labels: Namespace, op: SearchOp, wanted: int) -> list[Scored]:
        """Return the first `wanted` records of a collection that match `op`, sorted by namespace and key."""
        cache = self._cache(labels)
        return cache.listed(op.namespace_prefix, op.filter, wanted) if cache is not None else []

    def unindexed(self, labels: Namespace, op: SearchOp, wanted: int) -> list[Scored]:
        """Return the first `wanted` records of a collection without a vector, sorted by namespace and key."""
        cache = self._cache(labels)
        return cache.unindexed(op.namespace_prefix, op.filter, wanted) if cache is not None else []

    def scored(self, labels: Namespace, op: SearchOp, query: Vector, wanted: int) -> list[Scored]:
        """Return at least the best `wanted` indexed records of a collection with scores, in any order."""
        cache = self._cache(labels)
        if cache is None:
            return []
        if not cache.has_vectors and cache.should_have_vectors:
            cache = self._load(labels)
        found = cache.scored(op.namespace_prefix, query, op.filter, wanted)
        if found is not None:
            return found
        self._check_owner()
        few = cache.few(op.namespace_prefix, op.filter, FEW)
        if few is not None:
            return search_few(self._collections[labels], query, few)
        return self._scored_by_index(labels, cache, op, query, wanted)

    def _scored_by_index(
        self, labels: Namespace, cache: RecordCache, op: SearchOp, query: Vector, wanted: int
    ) -> list[Scored]:
        def resolve(rows: Sequence[str]) -> Mapping[str, StoredRecord]:
            owners = {row: cache.by_main_row(owner_of(row)) for row in rows}
            return {
                row: record
                for row, record in owners.items()
                if record and record.owns(row) and matches(record.value, op.filter)
            }

        where = prefix_filter(op.namespace_prefix)
        return search_index(self._collections[labels], query, where, wanted, resolve, OVERFETCH)

    def held(self, labels: Namespace, records: Sequence[Write | StoredRecord]) -> Mapping[str, StoredRecord]:
        """Return the stored versions of `records` in a collection by main row id, expired ones included."""
        # Load the cache before the first vector row is written: a load deletes vector rows without a main row.
        cache = self._cache(labels)
        found = [cache.held(record.main_row) for record in records] if cache is not None else []
        return {record.main_row: record for record in found if record}

    def written(self, write: Write, record: StoredRecord | None) -> None:
        """Apply a durable write to the cache."""
        cache = self._cache(labels_of(write.namespace))
        with self.unchanging:
            if cache is not None and record:
                cache.put(record, write.vectors)
            elif cache is not None:
                cache.remove(write.main_row)

    def refresh_ttl(self, record: StoredRecord) -> bool:
        """Apply the new lifetime of `record`, and return whether the record has not expired yet."""
        cache = self._cache(labels_of(record.namespace))
        return cache is not None and cache.refresh_ttl(record)

    def swept(self, record: StoredRecord) -> None:
        """Remove a record from the cache, if the cache is loaded."""
        if cache := self._caches.get(labels_of(record.namespace)):
            cache.remove(record.main_row)

    def write(self, chunk: Chunk) -> None:
        """Make a chunk durable, then visible.

        Raises:
            StoreError: Chroma failed. Each record is either the old or the new one.
        """
        try:
            super().write(chunk)
        except BaseException:
            # It is unknown how much was written, so the next read loads the cache again.
            with self.unchanging:
                self._caches.pop(chunk.labels, None)
            raise

    def _changes(self, prefix: Namespace, known: Mapping[Namespace, LogPoint] | None) -> StoreDelta:
        """Return the changes below `prefix`.

        Raises:
            NotLoadedError: A cache is not loaded, and the calling thread is not the worker.
        """
        caches = {labels: self._cache(labels) for labels in self.labels(prefix)}
        parts = {labels: cache.changes(prefix, (known or {}).get(labels)) for labels, cache in caches.items() if cache}
        return self._store_delta(parts, known) or self._changes(prefix, None)

    def _cache(self, labels: Namespace) -> RecordCache | None:
        """Return the cache of a collection, loaded at first use. None if there is no such collection.

        Raises:
            NotLoadedError: It is not loaded, and the calling thread is not the worker.
        """
        cache = self._caches.get(labels)
        if cache is None and labels in self._collections:
            cache = self._load(labels)
        return cache

    def _check_owner(self) -> None:
        if threading.get_ident() != self._owner:
            raise NotLoadedError

    def _load(self, labels: Namespace) -> RecordCache:
        """Load a collection into a new cache, which replaces the old one.

        Raises:
            NotLoadedError: The calling thread is not the worker.
        """
        self._check_owner()
        collection = self._collections[labels]
        # By ids, since Chroma counts rows up to an offset: 18 s for 100,000 rows, against 4.
        ids = collection.get(include=[])["ids"]
        main_rows = [row for row in ids if is_main_row(row)]
        records: list[StoredRecord] = []
        for start in range(0, len(main_rows), ROWS_A_PAGE):
            page = collection.get(ids=main_rows[start : start + ROWS_A_PAGE], include=["metadatas"])
            records.extend(readable(page["ids"], page["metadatas"]))
        vectors: dict[str, Vector] = {}
        exact = len(records) <= self._exact_limit
        for start in range(0, len(ids) if exact else 0, ROWS_A_PAGE):
            vectors |= fetch_vectors(collection, ids[start : start + ROWS_A_PAGE])
        cache = RecordCache(self._dimension, self._exact_limit)
        for record in records:
            own = [record.main_row, *record.vector_rows] if record.vectors else []
            known = [vectors[row] for row in own if row in vectors]
            if exact and len(known) < len(own):
                _log.warning(
                    "%r in %s has %s of its %s vectors: put it again.",
                    record.key,
                    record.namespace,
                    f"{len(known):,}",
                    f"{len(own):,}",
                )
            cache.put(record, stacked(known, self._dimension) if exact else None)
        odd = set(main_rows).difference(record.main_row for record in records)
        vector_rows = {row for row in ids if not is_main_row(row) and owner_of(row) not in odd}
        self._remove_orphans(labels, vector_rows.difference(*(record.vector_rows for record in records)))
        self._caches[labels] = cache
        return cache

    def _remove_orphans(self, labels: Namespace, orphans: set[str]) -> None:
        """Delete the vector rows that no main row names, left by a killed process.

        Only at the first load: later, such a row may belong to a record whose main row is about to be written.
        """
        if labels not in self._swept and orphans:
            self._collections[labels].delete(ids=sorted(orphans))
        self._swept.add(labels)
