"""A copy of one collection in the process, which answers reads exactly and without touching Chroma."""

import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory.chroma.layout import StoredRecord
from memory.chroma.ttl import Deadlines, now
from memory.search.filters import Namespace, matches
from memory.search.scoring import contenders, exact_scores
from memory.search.vectors import Vector

Scored = tuple[StoredRecord, float | None]


def ranked(records: Iterable[Scored]) -> list[Scored]:
    """Return `records` as a search lists them: best score first, those without last, ties by namespace and key."""
    return sorted(records, key=lambda found: (found[1] is None, -(found[1] or 0.0), found[0].place))


def best_of(rows: Iterable[tuple[StoredRecord, float]]) -> list[Scored]:
    """Return each record once, with the score of its best row."""
    best: dict[tuple[Namespace, str], tuple[StoredRecord, float]] = {}
    for record, score in rows:
        if record.place not in best or score > best[record.place][1]:
            best[record.place] = (record, score)
    return list(best.values())


def _products(vectors: Vector, query: Vector) -> Vector:
    """Return the inner product of each of `vectors`, (n, d), with `query`, (d,), as float32.

    `vectors @ query` would be shared out among threads that wait for a core: 11 ms for 10,000 rows where
    another process computes, against 0.4 ms.
    """
    products: Vector = np.vecdot(vectors, query)
    return products


class Matrix:
    """Rows of vectors with the records they belong to; grows by doubling, reuses the rows of what was removed."""

    def __init__(self, dimension: int) -> None:
        self._vectors: Vector = np.zeros((64, dimension), dtype=np.float32)
        self._records: list[StoredRecord | None] = []
        self._rows: dict[tuple[Namespace, str], list[int]] = {}
        self._free: list[int] = []
        self._most = 1
        """Rows of the record that has most, or once had."""

    def replace(self, record: StoredRecord, vectors: Vector) -> None:
        """Let `vectors`, (n, d), be those of `record`, whatever it had before."""
        self.remove(record.place)
        rows = [self._free.pop() if self._free else self._new_row() for _ in vectors]
        for row, vector in zip(rows, vectors, strict=True):
            self._vectors[row] = vector
            self._records[row] = record
        if rows:
            self._rows[record.place] = rows
            self._most = max(self._most, len(rows))

    def update(self, record: StoredRecord) -> None:
        """Let `record` stand for the rows that it has already."""
        for row in self._rows.get(record.place, ()):
            self._records[row] = record

    def remove(self, place: tuple[Namespace, str]) -> None:
        """Forget the rows of a record, if it has any."""
        for row in self._rows.pop(place, ()):
            self._records[row] = None
            self._free.append(row)

    def best(self, query: Vector, records: Iterable[StoredRecord] | None, wanted: int) -> list[Scored]:
        """Return at least the best `wanted` records with their exact scores, in any order.

        Args:
            query: (d,), of length 1 or 0.
            records: Which ones count; all if None.
            wanted: Records that are wanted.
        """
        if records is None:
            rows: NDArray[np.intp] = np.arange(len(self._records))
            scores = _products(self._vectors[: len(rows)], query)
            scores[self._free] = -np.inf
        else:
            rows = np.array([row for record in records for row in self._rows.get(record.place, ())], dtype=np.intp)
            scores = _products(self._vectors[rows], query)
        rows = rows[contenders(scores, wanted * self._most)]
        exact = exact_scores(self._vectors[rows], query)
        owners = (self._records[row] for row in rows)
        return best_of((owner, score) for owner, score in zip(owners, exact, strict=True) if owner is not None)

    def _new_row(self) -> int:
        row = len(self._records)
        self._records.append(None)
        if row == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        return row


class RecordCache:
    """The records of one collection and, up to `limit` of them, their vectors. Safe to use from many threads.

    Reads find no expired record. What still lies of one in Chroma, `held` says.

    Args:
        dimension: Numbers in a vector.
        limit: Records up to which vectors are kept: 20,000 of one vector with 384 numbers take 31 to 63 MB.
    """

    def __init__(self, dimension: int, limit: int) -> None:
        self._dimension = dimension
        self._limit = limit
        self._lock = threading.Lock()
        self._by_namespace: dict[Namespace, dict[str, StoredRecord]] = {}
        self._by_head: dict[str, StoredRecord] = {}
        self._matrix: Matrix | None = Matrix(dimension)
        self._deadlines = Deadlines()
        self._expired: dict[str, StoredRecord] = {}

    @property
    def has_vectors(self) -> bool:
        """Whether the vectors are here, so that `search` can score."""
        return self._matrix is not None

    @property
    def should_have_vectors(self) -> bool:
        """Whether the collection is small enough for exact search."""
        return len(self._by_head) <= self._limit

    def put(self, record: StoredRecord, vectors: Vector | None) -> None:
        """Take in a new or changed record.

        Args:
            record: The record.
            vectors: (n, d), its vectors, n = 0 if it is not indexed; None where they are not kept.
        """
        with self._lock:
            self._by_namespace.setdefault(record.namespace, {})[record.key] = record
            self._by_head[record.head] = record
            self._expired.pop(record.head, None)
            self._note_deadline(record)
            if not self.should_have_vectors or vectors is None:
                self._matrix = None
            elif self._matrix is not None:
                self._matrix.replace(record, vectors)

    def refresh_ttl(self, record: StoredRecord) -> bool:
        """Let a record that lives expire as late as it says now; False where it has expired, or is gone."""
        with self._lock:
            self._evict_expired()
            if record.head not in self._by_head:
                return False
            self._by_namespace[record.namespace][record.key] = record
            self._by_head[record.head] = record
            self._note_deadline(record)
            if self._matrix is not None:
                self._matrix.update(record)
            return True

    def remove(self, head: str) -> None:
        """Forget a record, if it is there."""
        with self._lock:
            self._expired.pop(head, None)
            self._take_out(head)

    def get(self, namespace: Namespace, key: str) -> StoredRecord | None:
        """Return a record, None if there is none."""
        record = self._by_namespace.get(namespace, {}).get(key)
        return record if record and not record.expired else None

    def by_head(self, head: str) -> StoredRecord | None:
        """Return the record whose head is the row `head`, None if there is none."""
        record = self._by_head.get(head)
        return record if record and not record.expired else None

    def held(self, head: str) -> StoredRecord | None:
        """Return what lies in Chroma in the row `head`: a record, even an expired one, or None."""
        with self._lock:
            return self._by_head.get(head) or self._expired.get(head)

    def namespaces(self) -> list[Namespace]:
        """Return the namespaces that hold at least one record."""
        with self._lock:
            self._evict_expired()
            return list(self._by_namespace)

    def listed(self, prefix: Namespace, filter_: dict[str, Any] | None, wanted: int) -> list[Scored]:
        """Return the first `wanted` records below `prefix`, by namespace and key, without scores."""
        with self._lock:
            self._evict_expired()
            return [(record, None) for record in islice(self._below(prefix, filter_), wanted)]

    def unindexed(self, prefix: Namespace, filter_: dict[str, Any] | None, wanted: int) -> list[Scored]:
        """Return the first `wanted` records below `prefix` that have no vector, by namespace and key."""
        with self._lock:
            self._evict_expired()
            below = (record for record in self._below(prefix, filter_) if not record.vectors)
            return [(record, None) for record in islice(below, wanted)]

    def few(self, prefix: Namespace, filter_: dict[str, Any] | None, most: int) -> list[StoredRecord] | None:
        """Return the indexed records below `prefix`, in any order; None where there are more than `most`."""
        with self._lock:
            self._evict_expired()
            below = (record for record in self._below(prefix, filter_, False) if record.vectors)
            found = list(islice(below, most + 1))
        return found if len(found) <= most else None

    def scored(
        self, prefix: Namespace, query: Vector, filter_: dict[str, Any] | None, wanted: int
    ) -> list[Scored] | None:
        """Return at least the best `wanted` indexed records below `prefix` with their scores, in any order.

        None means that the vectors are not here (`has_vectors`).
        """
        with self._lock:
            if self._matrix is None:
                return None
            self._evict_expired()
            everything = len(prefix) <= 2 and not filter_
            return self._matrix.best(query, None if everything else self._below(prefix, filter_, False), wanted)

    def _note_deadline(self, record: StoredRecord) -> None:
        """Remember when a record expires, if it does; the lock is held."""
        if record.lifetime is None:
            return
        self._deadlines.add(record.lifetime.until, record.head)
        if len(self._deadlines) > 2 * len(self._by_head) + 64:
            mortal = (one for one in self._by_head.values() if one.lifetime)
            self._deadlines.renew((one.lifetime.until, one.head) for one in mortal if one.lifetime)

    def _evict_expired(self) -> None:
        """Let reads find nothing more of what has expired; the lock is held."""
        if not self._deadlines:
            return
        for head in self._deadlines.passed(now()):
            record = self._by_head.get(head)
            if record is not None and record.expired:
                self._take_out(head)
                self._expired[head] = record

    def _take_out(self, head: str) -> None:
        """Forget a living record, if it is there; the lock is held."""
        record = self._by_head.pop(head, None)
        if record is None:
            return
        group = self._by_namespace[record.namespace]
        del group[record.key]
        if not group:
            del self._by_namespace[record.namespace]
        if self._matrix is not None:
            self._matrix.remove(record.place)

    def _below(
        self, prefix: Namespace, filter_: dict[str, Any] | None, in_order: bool = True
    ) -> Iterator[StoredRecord]:
        """Yield the records below `prefix` that pass the filter; the lock is held."""
        namespaces = [namespace for namespace in self._by_namespace if namespace[: len(prefix)] == prefix]
        for namespace in sorted(namespaces) if in_order else namespaces:
            group = self._by_namespace[namespace]
            for key in sorted(group) if in_order else group:
                if matches(group[key].value, filter_) if filter_ else True:
                    yield group[key]
