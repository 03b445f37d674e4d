"""Backend of a Chroma server: other clients may write at any time, so every read is a request and nothing is cached."""

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from langgraph.store.base import SearchOp

from memory.chroma.backend import Backend, ReadOp, ReadResult, Seen, StoreDelta, reaches
from memory.chroma.cache import ChangeLog, Delta, LogPoint, Scored, ranked
from memory.chroma.connection import Connection, GoneError, Table, TooLargeError
from memory.chroma.errors import BadRecordError
from memory.chroma.index_search import search_index
from memory.chroma.layout import (
    EXPIRY,
    WRITTEN,
    Chunk,
    Lifetime,
    StoredRecord,
    Write,
    is_main_row,
    labels_of,
    main_row_id,
    owner_of,
    prefix_filter,
    readable,
)
from memory.chroma.ttl import now
from memory.search.filters import Namespace, Place, matches
from memory.search.vectors import Vector

CLOCKS_DIFFER = 30.0
"""Seconds by which clocks of clients may differ, or a write may be late, so that its change is still noticed."""
ROWS_A_STEP = 250
"""Rows read in one call for changes. Other calls of the store come in between."""
MOST_STAMPS = 5_000
"""Known moments of writes in one request."""
MOST_FOLLOWED = 500_000
"""Records whose changes are followed. Above, the collection that was read longest ago is dropped."""

T = TypeVar("T")


def _too_large(chunk: Chunk, error: TooLargeError) -> BadRecordError:
    writes = [*chunk.main_rows, *(write for write, _ in chunk.vector_rows)]
    names = ", ".join(f"{write.key!r} in {write.namespace}" for write in writes)
    return BadRecordError(f"The record {names} is too large, {chunk.bytes:,} bytes. {error}")


class _Known(NamedTuple):
    """Place and version of a record."""

    place: Place
    token: str
    lifetime: Lifetime | None
    rows: int


class Follower:
    """Follows the records of a collection below a prefix as other clients write and delete them.

    Written rows are found by the moment of their write, deleted ones by the number of rows: only if it does not fit,
    and no sweep explains it, are all ids read. Below a longer prefix Chroma counts no rows, so there the ids are read
    each time.

    Each step of its iterators makes a few requests, and yields the records that it read. Iterators may alternate.

    Args:
        table: Rows of the collection.
        where: Chroma's filter for the prefix. None for the whole collection.
    """

    def __init__(self, table: Table, where: dict[str, Any] | None) -> None:
        self.log = ChangeLog()
        self._table = table
        self._where = where
        self._known: dict[str, _Known] = {}
        self._rows = 0
        """Rows of the known records."""
        self._others = 0
        """Further rows of the collection: invalid ones, and vectors that no record owns."""
        self._invalid: set[str] = set()
        self._since = now().timestamp() - CLOCKS_DIFFER
        self._stamps: dict[str, float] = {}
        """Moment of the write of each row that was written after `_since`."""

    def __len__(self) -> int:
        """Return the number of known records, expired ones included."""
        return len(self._known)

    def is_latest(self, record: StoredRecord) -> bool:
        """Return whether a record is the latest known version."""
        known = self._known.get(record.main_row)
        return known is not None and (known.token, known.lifetime) == (record.token, record.lifetime)

    def changed(self, point: LogPoint | None) -> tuple[list[Place], list[Place], bool]:
        """Return the places of the records that exist, and of those that do not, among the ones changed since a point.

        The third value is True if the log does not reach back to the point; then the first ones are all records.
        """
        places = self.log.since(point)
        if places is None:
            return [known.place for known in self._known.values()], [], True
        exists = {place: main_row_id(*place) in self._known for place in places}
        return [place for place in places if exists[place]], [place for place in places if not exists[place]], False

    def read_all(self) -> Iterator[list[StoredRecord]]:
        """Compare all ids with the known ones, and read the records that are not known."""
        ids = self._table.get(where=self._where, include=[])["ids"]
        main_rows = {row: None for row in ids if is_main_row(row)}
        for row in [row for row in self._known if row not in main_rows]:
            self._forget(row)
        self._invalid.intersection_update(main_rows)
        yield from self.read([row for row in main_rows if row not in self._known and row not in self._invalid])
        self._others = len(ids) - self._rows

    def catch_up(self) -> Iterator[list[StoredRecord]]:
        """Read the records that have changed."""
        start = now().timestamp() - CLOCKS_DIFFER
        # A row written between the two requests makes the number wrong, but hardly twice.
        for _ in range(0 if self._where else 2):
            count = self._table.count()
            yield from self.read(self._changed_rows())
            if count != self._rows + self._others:
                self._forget_swept()
            if count == self._rows + self._others:
                break
        else:
            yield from self.read(self._changed_rows())
            yield from self.read_all()
        self._since = max(self._since, start)
        self._stamps = {row: stamp for row, stamp in self._stamps.items() if stamp > self._since}

    def read(self, main_rows: Sequence[str]) -> Iterator[list[StoredRecord]]:
        """Read records by their main rows."""
        for start in range(0, len(main_rows), ROWS_A_STEP):
            asked = main_rows[start : start + ROWS_A_STEP]
            page = self._table.get(ids=asked, include=["metadatas"])
            records = readable(page["ids"], page["metadatas"])
            for row, metadata in zip(page["ids"], page["metadatas"] or (), strict=True):
                stamp = (metadata or {}).get(WRITTEN)
                if isinstance(stamp, float) and stamp > self._since:
                    self._stamps[row] = stamp
            for record in records:
                self._learn(record)
            valid = {record.main_row for record in records}
            self._invalid.update(row for row in page["ids"] if row not in valid)
            for row in asked:
                if row not in valid:
                    self._forget(row)
            yield records

    def _changed_rows(self) -> list[str]:
        """Return the rows written after `_since`, without those whose write is known."""
        stamps = list(self._stamps.values())[-MOST_STAMPS:]
        conditions: list[dict[str, Any]] = [{WRITTEN: {"$gt": self._since}}]
        conditions += [{WRITTEN: {"$nin": stamps}}] if stamps else []
        conditions += [self._where] if self._where else []
        where = {"$and": conditions} if len(conditions) > 1 else conditions[0]
        return self._table.get(where=where, include=[])["ids"]

    def _forget_swept(self) -> None:
        """Forget the expired records that are no longer stored."""
        moment = now()
        over = [row for row, one in self._known.items() if one.lifetime and one.lifetime.until <= moment]
        stored = set(self._table.get(where={EXPIRY: {"$lte": moment.timestamp()}}, include=[])["ids"]) if over else ()
        for row in over:
            if row not in stored:
                self._forget(row)

    def _learn(self, record: StoredRecord) -> None:
        self._invalid.discard(record.main_row)
        if not self.is_latest(record):
            self._forget(record.main_row)
            rows = max(1, record.vectors)
            self._known[record.main_row] = _Known(record.place, record.token, record.lifetime, rows)
            self._rows += rows
            self.log.note(record.place)

    def _forget(self, main_row: str) -> None:
        if known := self._known.pop(main_row, None):
            self._rows -= known.rows
            self.log.note(known.place)


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
        self._followers: OrderedDict[Namespace, Follower] = OrderedDict()
        """Followers by their prefix, the one used last at the end."""

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

    def changes_at_once(self, prefix: Namespace, seen: Seen | None) -> StoreDelta | None:
        """Return None: each read is a request."""
        return None

    def changes(self, prefix: Namespace, seen: Seen | None) -> Iterator[StoreDelta | None]:
        """Yield the changes below `prefix` at the end, as `Backend.changes` does."""
        try:
            yield from self._changes(prefix, seen)
        except GoneError:
            self.drop_caches()
            self._settle()
            yield from self._changes(prefix, seen)

    def _changes(self, prefix: Namespace, seen: Seen | None) -> Iterator[StoreDelta | None]:
        fetched: dict[Place, StoredRecord] = {}
        followers: dict[Namespace, Follower] = {}
        for labels in self.labels(prefix):
            if table := self._existing(labels):
                below = prefix if len(prefix) > 2 else labels
                followers[labels] = yield from self._caught_up(table, below, fetched)
        known, delta = self._points(seen), None
        while delta is None:
            parts: dict[Namespace, Delta] = {}
            for labels, follower in followers.items():
                parts[labels] = yield from self._delta(follower, (known or {}).get(labels), fetched)
            delta = self._store_delta(parts, known)
            known = None
        yield delta

    def _caught_up(
        self, table: Table, prefix: Namespace, fetched: dict[Place, StoredRecord]
    ) -> Generator[None, None, Follower]:
        """Return the follower of a prefix after it has caught up. The records that it read are added to `fetched`."""
        follower = self._followers.get(prefix)
        if follower is None:
            first = Follower(table, prefix_filter(prefix))
            for records in first.read_all():
                fetched |= {record.place: record for record in records}
                yield
            # Another read of the prefix may have been quicker.
            follower = self._followers.setdefault(prefix, first)
        for records in follower.catch_up():
            fetched |= {record.place: record for record in records}
            yield
        self._followers[prefix] = follower
        self._followers.move_to_end(prefix)
        while len(self._followers) > 1 and sum(map(len, self._followers.values())) > MOST_FOLLOWED:
            self._followers.popitem(last=False)
        return follower

    def _delta(
        self, follower: Follower, point: LogPoint | None, fetched: dict[Place, StoredRecord]
    ) -> Generator[None, None, Delta]:
        """Return the changes of a collection. Records that are not in `fetched` are read, and added to it."""
        end = follower.log.point
        there, gone, whole = follower.changed(point)
        # Another read took up these, or a later version of them.
        rest = [place for place in there if place not in fetched or not follower.is_latest(fetched[place])]
        for records in follower.read([main_row_id(*place) for place in rest]):
            fetched |= {record.place: record for record in records}
            yield
        # A record that changed meanwhile is left to the next read.
        latest = [one for place in there if (one := fetched.get(place)) and follower.is_latest(one)]
        expired = [] if whole else [one.place for one in latest if one.expired]
        return Delta([one for one in latest if not one.expired], [*gone, *expired], whole, end)

    def drop_caches(self) -> None:
        """Drop the known collections and their followers. Records are not cached."""
        self._collections.clear()
        self._followers.clear()

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
