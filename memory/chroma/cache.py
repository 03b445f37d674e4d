"""Cache of one collection in the process: exact answers without a call to Chroma."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory.chroma.layout import StoredRecord
from memory.chroma.ttl import Deadlines, now
from memory.search.filters import Namespace, Place, matches
from memory.search.scoring import contenders, exact_scores, products
from memory.search.vectors import Vector

Scored = tuple[StoredRecord, float | None]
LOGGED = 20_000
"""Records whose latest change a log keeps. A reader that is further behind reads all records again."""


class LogPoint(NamedTuple):
    """Point in a log up to which a reader knows the changes."""

    log: object
    """Identity of the log. It does not keep the log in memory."""
    version: int


class ChangeLog:
    """Latest change of each record, in order. The caller guards it against concurrent use."""

    def __init__(self) -> None:
        self._identity = object()
        self._version = 0
        self._dropped = 0
        """Version of the last change that was dropped."""
        self._versions: OrderedDict[Place, int] = OrderedDict()

    @property
    def point(self) -> LogPoint:
        """The current end of the log."""
        return LogPoint(self._identity, self._version)

    def note(self, place: Place) -> None:
        """Add a change of the record at `place`."""
        self._version += 1
        self._versions[place] = self._version
        self._versions.move_to_end(place)
        if len(self._versions) > LOGGED:
            _, self._dropped = self._versions.popitem(last=False)

    def since(self, point: LogPoint | None) -> list[Place] | None:
        """Return the records changed after a point, last change last. None if the log does not reach back to it."""
        if point is None or point.log is not self._identity or point.version < self._dropped:
            return None
        newest_first = takewhile(lambda place: self._versions[place] > point.version, reversed(self._versions))
        return [*newest_first][::-1]


class Delta(NamedTuple):
    """Changes of one collection since a point of its log."""

    records: list[StoredRecord]
    """New, replaced and refreshed records; all records if `whole`."""
    gone: list[Place]
    """Deleted and expired records. Some may have been created after the point."""
    whole: bool
    """Whether the log does not reach back to the point."""
    point: LogPoint
    """Point for the next read."""


def ranked(records: Iterable[Scored]) -> list[Scored]:
    """Return `records` in the order of a search: best score first, no score last, ties by namespace and key."""
    return sorted(records, key=lambda found: (found[1] is None, -(found[1] or 0.0), found[0].place))


def best_of(rows: Iterable[tuple[StoredRecord, float]]) -> list[Scored]:
    """Return each record once, with the score of its best row."""
    best: dict[tuple[Namespace, str], tuple[StoredRecord, float]] = {}
    for record, score in rows:
        if record.place not in best or score > best[record.place][1]:
            best[record.place] = (record, score)
    return list(best.values())


class Matrix:
    """Matrix of vectors with the record of each row. It grows by doubling and reuses the rows of removed records."""

    def __init__(self, dimension: int) -> None:
        self._vectors: Vector = np.zeros((64, dimension), dtype=np.float32)
        self._records: list[StoredRecord | None] = []
        self._rows: dict[tuple[Namespace, str], list[int]] = {}
        self._free: list[int] = []
        self._most = 1
        """Largest number of rows that a record has or had."""

    def replace(self, record: StoredRecord, vectors: Vector) -> None:
        """Replace all vectors of `record` by `vectors`, (n, d)."""
        self.remove(record.place)
        rows = [self._free.pop() if self._free else self._new_row() for _ in vectors]
        for row, vector in zip(rows, vectors, strict=True):
            self._vectors[row] = vector
            self._records[row] = record
        if rows:
            self._rows[record.place] = rows
            self._most = max(self._most, len(rows))

    def update(self, record: StoredRecord) -> None:
        """Replace a record by a new version, and keep its rows."""
        for row in self._rows.get(record.place, ()):
            self._records[row] = record

    def remove(self, place: tuple[Namespace, str]) -> None:
        """Remove the rows of a record, if it has any."""
        for row in self._rows.pop(place, ()):
            self._records[row] = None
            self._free.append(row)

    def best(self, query: Vector, records: Iterable[StoredRecord] | None, wanted: int) -> list[Scored]:
        """Return at least the best `wanted` records with their exact scores, in any order.

        Args:
            query: (d,), of length 1 or 0.
            records: Records to score. None for all.
            wanted: Number of records needed.
        """
        if records is None:
            rows: NDArray[np.intp] = np.arange(len(self._records))
            scores = products(self._vectors[: len(rows)], query)
            scores[self._free] = -np.inf
        else:
            rows = np.array([row for record in records for row in self._rows.get(record.place, ())], dtype=np.intp)
            scores = products(self._vectors[rows], query)
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
    """Records of one collection, with their vectors up to `limit` records. Safe to use from many threads.

    Reads find no expired record. `held` returns expired records that are still stored in Chroma.

    Args:
        dimension: Numbers in a vector.
        limit: Records up to which vectors are cached: 20,000 of one vector with 384 numbers take 31 to 63 MB.
    """

    def __init__(self, dimension: int, limit: int) -> None:
        self._dimension = dimension
        self._limit = limit
        self._lock = threading.Lock()
        self._by_namespace: dict[Namespace, dict[str, StoredRecord]] = {}
        self._by_main_row: dict[str, StoredRecord] = {}
        self._matrix: Matrix | None = Matrix(dimension)
        self._deadlines = Deadlines()
        self._expired: dict[str, StoredRecord] = {}
        self._log = ChangeLog()

    @property
    def has_vectors(self) -> bool:
        """Whether the vectors are cached, so that `scored` can answer."""
        return self._matrix is not None

    @property
    def should_have_vectors(self) -> bool:
        """Whether the collection is small enough for exact search."""
        return len(self._by_main_row) <= self._limit

    def put(self, record: StoredRecord, vectors: Vector | None) -> None:
        """Add or replace a record.

        Args:
            record: The record.
            vectors: (n, d), its vectors; n = 0 if it is not indexed. None if vectors are not cached.
        """
        with self._lock:
            self._by_namespace.setdefault(record.namespace, {})[record.key] = record
            self._by_main_row[record.main_row] = record
            self._expired.pop(record.main_row, None)
            self._log.note(record.place)
            self._note_deadline(record)
            if not self.should_have_vectors or vectors is None:
                self._matrix = None
            elif self._matrix is not None:
                self._matrix.replace(record, vectors)

    def refresh_ttl(self, record: StoredRecord) -> bool:
        """Apply the new lifetime of an unexpired record. Return False if it has expired or was deleted."""
        with self._lock:
            self._evict_expired()
            if record.main_row not in self._by_main_row:
                return False
            self._by_namespace[record.namespace][record.key] = record
            self._by_main_row[record.main_row] = record
            self._log.note(record.place)
            self._note_deadline(record)
            if self._matrix is not None:
                self._matrix.update(record)
            return True

    def remove(self, main_row: str) -> None:
        """Remove a record, if it is cached."""
        with self._lock:
            if record := self._expired.pop(main_row, None) or self._by_main_row.get(main_row):
                self._log.note(record.place)
            self._take_out(main_row)

    def get(self, namespace: Namespace, key: str) -> StoredRecord | None:
        """Return a record. None if missing."""
        record = self._by_namespace.get(namespace, {}).get(key)
        return record if record and not record.expired else None

    def by_main_row(self, main_row: str) -> StoredRecord | None:
        """Return the record with this main row. None if missing."""
        record = self._by_main_row.get(main_row)
        return record if record and not record.expired else None

    def held(self, main_row: str) -> StoredRecord | None:
        """Return the record stored in this main row, expired or not. None if missing."""
        with self._lock:
            return self._by_main_row.get(main_row) or self._expired.get(main_row)

    def namespaces(self) -> list[Namespace]:
        """Return the namespaces that hold at least one record."""
        with self._lock:
            self._evict_expired()
            return list(self._by_namespace)

    def changes(self, prefix: Namespace, point: LogPoint | None) -> Delta:
        """Return the changes below `prefix` since a point, in the order of the changes; None for all records."""
        with self._lock:
            self._evict_expired()
            changed = self._log.since(point)
            if changed is None:
                # Without `_below`, which takes four times as long, since this may run in an event loop.
                groups = [group for labels, group in self._by_namespace.items() if labels[: len(prefix)] == prefix]
                everything = [record for group in groups for record in group.values()]
                return Delta(everything, [], True, self._log.point)
            found: dict[Place, StoredRecord | None] = {
                (namespace, key): self._by_namespace.get(namespace, {}).get(key)
                for namespace, key in changed
                if namespace[: len(prefix)] == prefix
            }
            records = [record for record in found.values() if record]
            return Delta(records, [place for place, record in found.items() if not record], False, self._log.point)

    def listed(self, prefix: Namespace, filter_: dict[str, Any] | None, wanted: int) -> list[Scored]:
        """Return the first `wanted` records below `prefix` without scores, sorted by namespace and key."""
        with self._lock:
            self._evict_expired()
            return [(record, None) for record in islice(self._below(prefix, filter_), wanted)]

    def unindexed(self, prefix: Namespace, filter_: dict[str, Any] | None, wanted: int) -> list[Scored]:
        """Return the first `wanted` records below `prefix` without a vector, sorted by namespace and key."""
        with self._lock:
            self._evict_expired()
            below = (record for record in self._below(prefix, filter_) if not record.vectors)
            return [(record, None) for record in islice(below, wanted)]

    def few(self, prefix: Namespace, filter_: dict[str, Any] | None, most: int) -> list[StoredRecord] | None:
        """Return the indexed records below `prefix`, in any order. None if there are more than `most`."""
        with self._lock:
            self._evict_expired()
            below = (record for record in self._below(prefix, filter_, False) if record.vectors)
            found = list(islice(below, most + 1))
        return found if len(found) <= most else None

    def scored(
        self, prefix: Namespace, query: Vector, filter_: dict[str, Any] | None, wanted: int
    ) -> list[Scored] | None:
        """Return at least the best `wanted` indexed records below `prefix` with their scores, in any order.

        None if the vectors are not cached (`has_vectors`).
        """
        with self._lock:
            if self._matrix is None:
                return None
            self._evict_expired()
            everything = len(prefix) <= 2 and not filter_
            return self._matrix.best(query, None if everything else self._below(prefix, filter_, False), wanted)

    def _note_deadline(self, record: StoredRecord) -> None:
        """Note the expiry time of a record, if it has one. The caller holds the lock."""
        if record.lifetime is None:
            return
        self._deadlines.add(record.lifetime.until, record.main_row)
        if len(self._deadlines) > 2 * len(self._by_main_row) + 64:
            mortal = (one for one in self._by_main_row.values() if one.lifetime)
            self._deadlines.renew((one.lifetime.until, one.main_row) for one in mortal if one.lifetime)

    def _evict_expired(self) -> None:
        """Evict expired records. The caller holds the lock."""
        if not self._deadlines:
            return
        for main_row in self._deadlines.passed(now()):
            record = self._by_main_row.get(main_row)
            if record is not None and record.expired:
                self._take_out(main_row)
                self._expired[main_row] = record

    def _take_out(self, main_row: str) -> None:
        """Remove an unexpired record, if it is cached. The caller holds the lock."""
        record = self._by_main_row.pop(main_row, None)
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
        """Yield the records below `prefix` that pass the filter. The caller holds the lock."""
        namespaces = [namespace for namespace in self._by_namespace if namespace[: len(prefix)] == prefix]
        for namespace in sorted(namespaces) if in_order else namespaces:
            group = self._by_namespace[namespace]
            for key in sorted(group) if in_order else group:
                if matches(group[key].value, filter_) if filter_ else True:
                    yield group[key]
