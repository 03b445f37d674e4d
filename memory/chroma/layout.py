"""Layout of records in Chroma: collections, rows, and the order of their writes.

Each pair of first two namespace labels has its own collection, so that recall needs no metadata filter. A record is one
`main_row` with the value and the first vector; its further vectors are `vector_rows`. Vector rows carry the token of
the write that made them, and only the main row says which token is valid. New vector rows are written before the main
row and old ones deleted after it, so that a reader sees the old record or the new one, never a mixture.
"""

import functools
import hashlib
import json
import logging
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import numpy as np
from langgraph.store.base import Item, PutOp, SearchItem, get_text_at_path

from memory.chroma.errors import BadRecordError
from memory.chroma.ttl import REFRESH_FROM, end_of, now
from memory.search.filters import Namespace
from memory.search.vectors import Vector, unit

LAYOUT = 2
IDENTITY = "billp"
"""Name of the collection that identifies a memory of this project: layout and embedding."""
OURS = re.compile(r"m-[0-9a-f]{32}")
"""Names of the collections that hold records."""
EXPIRY = "expires_at"
"""Field of a main row with the expiry time, in seconds since 1970. Absent if the record never expires."""
WRITTEN = "written_at"
"""Field of a main row with the moment of its last write or refresh, in seconds since 1970, by the writer's clock."""
CHUNK = 10
"""Rows in one call to Chroma, which blocks every thread of the process while it writes."""
BULK = 500
"""Rows in one call when many records are restored: a third of the time, but other calls wait for half a second."""

REQUEST_BYTES = 16 * 2**20
"""Bytes in one call to Chroma, unless one row alone has more. Its server accepts 40 MB."""
MOST_LEVELS = 200
"""Largest nesting depth of a value. A deeper one may be written, and then read by no caller whose own calls are nested
deeper: Python parses some 980 levels in all."""
NUMBER_BYTES = 24
"""Largest number of bytes of one number of a vector in a request."""

Metadata = Mapping[str, Any]
_log = logging.getLogger(__name__)


class Lifetime(NamedTuple):
    """Time to live of a record."""

    minutes: float
    """Minutes from its last write or read."""
    until: datetime
    """Expiry time unless it is written or read before."""


def labels_of(namespace: Namespace) -> Namespace:
    """Return the first two labels of a namespace. Namespaces with the same two share a collection."""
    return namespace[:2]


def collection_name(labels: Namespace) -> str:
    """Return the name of a collection. It is a hash, since labels may be any Unicode and names may not."""
    return f"m-{hashlib.sha256(to_json(list(labels)).encode()).hexdigest()[:32]}"


def to_json(value: Any) -> str:
    """Return `value` as ASCII JSON, since Chroma fails on some characters, such as NUL and lone surrogates."""
    return json.dumps(value, separators=(",", ":"))


@dataclass(frozen=True)
class StoredRecord:
    """A stored record, without its vectors."""

    namespace: Namespace
    key: str
    text: str
    """Its value as JSON."""
    created_at: datetime
    updated_at: datetime
    paths: tuple[str, ...]
    """Paths of the indexed texts in its value. Empty if it is not indexed."""
    vectors: int
    """Number of its vectors, one for each distinct text."""
    token: str
    """Token of its valid vector rows."""
    lifetime: Lifetime | None = None
    """None if it never expires."""

    @functools.cached_property
    def place(self) -> tuple[Namespace, str]:
        """Namespace and key, the sort order of records with equal scores."""
        return (self.namespace, self.key)

    @functools.cached_property
    def value(self) -> dict[str, Any]:
        """Its value, for filters only. Callers outside get a fresh copy."""
        return self._fresh_value()

    @property
    def main_row(self) -> str:
        """Id of the main row, which makes the record exist."""
        return main_row_id(self.namespace, self.key)

    @property
    def vector_rows(self) -> list[str]:
        """Ids of the vector rows, for its second and later vectors."""
        return [vector_row_id(self.main_row, self.token, number) for number in range(1, self.vectors)]

    @property
    def expired(self) -> bool:
        """Whether its lifetime is over. It counts as deleted, even if it is still stored in Chroma."""
        return self.lifetime is not None and self.lifetime.until <= now()

    @property
    def ttl_is_due(self) -> bool:
        """Whether enough of its time to live has passed for a read to refresh it."""
        if self.lifetime is None:
            return False
        minutes = self.lifetime.minutes
        return end_of(minutes * (1 - REFRESH_FROM), now()) >= self.lifetime.until

    def refresh_ttl(self) -> Self:
        """Return the record with its time to live refreshed, if it has one."""
        if self.lifetime is None:
            return self
        minutes = self.lifetime.minutes
        return replace(self, lifetime=Lifetime(minutes, end_of(minutes, now())))

    def owns(self, row_id: str) -> bool:
        """Return whether a row holds a vector of this record, not an old or an arbitrary one."""
        if is_main_row(row_id):
            return row_id == self.main_row and self.vectors > 0
        number = row_id.rpartition("-")[2]
        return (
            number.isdecimal()
            and 0 < int(number) < self.vectors
            and row_id == vector_row_id(self.main_row, self.token, int(number))
        )

    def kept(self, vectors: Vector) -> "ImportedRecord":
        """Return the record and its `vectors` in the form that another store imports."""
        minutes, until = self.lifetime or (None, None)
        op = PutOp(self.namespace, self.key, self.value, list(self.paths) or False, ttl=minutes)
        return ImportedRecord(op, (self.created_at, self.updated_at), vectors, until)

    def item(self) -> Item:
        """Return the record as a result of `get`."""
        return Item(
            value=self._fresh_value(),
            key=self.key,
            namespace=self.namespace,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )

    def found(self, score: float | None) -> SearchItem:
        """Return the record as a result of `search`."""
        return SearchItem(self.namespace, self.key, self._fresh_value(), self.created_at, self.updated_at, score)

    def _fresh_value(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.text)
        return value

    def metadata(self, former: "StoredRecord | None" = None) -> dict[str, str | int | float | None]:
        """Return the metadata of the main row.

        Args:
            former: The record stored before. Chroma keeps its fields unless they are set to None.
        """
        fields: dict[str, str | int | float | None] = {
            "namespace": to_json(list(self.namespace)),
            "key": to_json(self.key),
            "value": self.text,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "paths": to_json(list(self.paths)),
            "vectors": self.vectors,
            "token": self.token,
            WRITTEN: now().timestamp(),
            **prefix_fields(self.namespace),
        }
        if self.lifetime:
            # With the token, since two clients that write one record at once may mix their fields.
            fields |= {EXPIRY: self.lifetime.until.timestamp(), "ttl": to_json([self.lifetime.minutes, self.token])}
        elif former and former.lifetime:
            fields |= {EXPIRY: None, "ttl": None}
        return fields


def readable(ids: Sequence[str], rows: Sequence[Metadata | None] | None) -> list[StoredRecord]:
    """Return the records of main rows. An invalid row is skipped and logged, so that it hides no other record."""
    records: list[StoredRecord] = []
    for row_id, metadata in zip(ids, rows or (), strict=True):
        try:
            records.append(read_record(row_id, metadata or {}))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            _log.warning("Skipped a row of the memory that is not a record (%s: %s).", type(error).__name__, error)
    return records


def read_record(row_id: str, metadata: Metadata) -> StoredRecord:
    """Return the record of a main row.

    Raises:
        KeyError: A field is missing.
        TypeError: A field has another type.
        ValueError: A field cannot be parsed, or the row's id is that of another record.
        RecursionError: The value is nested too deep.
    """
    namespace, key = _namespace(metadata["namespace"]), json.loads(metadata["key"])
    if not isinstance(key, str) or not all(isinstance(label, str) for label in namespace):
        raise TypeError(f"{key!r} in {namespace} is not the name of a record")
    if row_id != main_row_id(namespace, key):
        raise ValueError(f"{key!r} in {namespace} has another row")
    if not isinstance(json.loads(metadata["value"]), dict):
        raise TypeError(f"the value of {key!r} in {namespace} is not a dict")
    if not isinstance(metadata["vectors"], int):
        raise TypeError(f"the number of vectors of {key!r} in {namespace} is not a whole number")
    return StoredRecord(
        namespace=namespace,
        key=key,
        text=metadata["value"],
        created_at=datetime.fromisoformat(metadata["created_at"]),
        updated_at=datetime.fromisoformat(metadata["updated_at"]),
        paths=_paths(metadata["paths"]),
        vectors=metadata["vectors"],
        token=metadata["token"],
        lifetime=_lifetime(metadata) if "ttl" in metadata else None,
    )


@functools.lru_cache(maxsize=16_384)
def _namespace(text: str) -> Namespace:
    """Return the namespace in a main row. Records of one namespace share one tuple, since there are many."""
    return tuple(json.loads(text))


@functools.lru_cache(maxsize=1_024)
def _paths(text: str) -> tuple[str, ...]:
    """Return the paths in a main row. Records with the same paths share one tuple, since there are many."""
    return tuple(json.loads(text))


def _lifetime(metadata: Metadata) -> Lifetime | None:
    minutes, token = json.loads(metadata["ttl"])
    if token != metadata["token"]:
        return None
    return Lifetime(minutes, datetime.fromtimestamp(metadata[EXPIRY], UTC))


@functools.lru_cache(maxsize=65_536)
def main_row_id(namespace: Namespace, key: str) -> str:
    """Return the id of a record's main row."""
    return hashlib.sha256(to_json([list(namespace), key]).encode()).hexdigest()[:32]


def vector_row_id(main_row: str, token: str, number: int) -> str:
    """Return the id of the vector row of a record's vector `number`, from 1, written with `token`."""
    return f"{main_row}-{token}-{number}"


def owner_of(row_id: str) -> str:
    """Return the id of the main row that a row belongs to."""
    return row_id.partition("-")[0]


def is_main_row(row_id: str) -> bool:
    """Return whether a row is a main row."""
    return "-" not in row_id


def arbitrary_vector(row_id: str, dimension: int) -> Vector:
    """Return a vector for a row that no search should find, since Chroma needs one for each row.

    It is drawn at random, seeded by the main row id: equal vectors would form a cluster in Chroma's graph that searches
    cannot leave.
    """
    return unit(np.random.default_rng(int(owner_of(row_id), 16)).standard_normal(dimension))


def texts_at(value: Mapping[str, Any], paths: Iterable[str]) -> list[str]:
    """Return the distinct texts of a value at some paths."""
    return list(dict.fromkeys(text for path in paths for text in get_text_at_path(value, path)))


def texts_to_index(op: PutOp, paths: Sequence[str]) -> list[str]:
    """Return the distinct texts to index for a record. Empty for a record to delete.

    Raises:
        BadRecordError: A path does not fit the value.
    """
    try:
        return texts_at(op.value, paths) if op.value is not None else []
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        raise BadRecordError(
            f"The value of {op.key!r} in {op.namespace} cannot be indexed by {list(paths)} ({error}): correct "
            "the paths."
        ) from error


def prefix_fields(namespace: Namespace) -> dict[str, str]:
    """Return one field for each prefix longer than two labels, so that one equality selects all records below it."""
    return {f"p{depth}": to_json(list(namespace[:depth])) for depth in range(3, len(namespace) + 1)}


def prefix_filter(prefix: Namespace) -> dict[str, Any] | None:
    """Return the Chroma filter for the records below `prefix`. None if they are the whole collection."""
    return {f"p{len(prefix)}": to_json(list(prefix))} if len(prefix) > 2 else None


def _quoted(text: str) -> int:
    """Return the bytes of an ASCII text as a JSON string."""
    return len(text) + text.count('"') + text.count("\\") + 2


@dataclass(frozen=True)
class Write:
    """One record to write, or to delete if `text` is None."""

    namespace: Namespace
    key: str
    text: str | None
    paths: tuple[str, ...]
    """Paths of the texts to index in the value."""
    vectors: Vector
    """(n, d), of length 1: one for each of these texts, in order."""
    times: tuple[datetime, datetime] | None = None
    """Creation and last change of an imported record. None for now."""
    ttl: float | None = None
    """Time to live in minutes. None for ever."""
    until: datetime | None = None
    """Expiry time of an imported record. None for `ttl` minutes from now."""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def main_row(self) -> str:
        """Id of the main row, which makes the record exist."""
        return main_row_id(self.namespace, self.key)

    @property
    def fields(self) -> dict[str, str]:
        """Metadata of a vector row."""
        return {"owner": self.main_row, **prefix_fields(self.namespace)}

    @functools.cached_property
    def name_bytes(self) -> int:
        """Upper bound of the bytes of the names of each of its rows in a request."""
        return sum(map(_quoted, self.fields.values())) + 2 * _quoted(to_json([list(self.namespace), self.key])) + 1_000

    @functools.cached_property
    def main_row_bytes(self) -> int:
        """Upper bound of the bytes of its main row in a request."""
        values = _quoted(self.text or "") + _quoted(to_json(list(self.paths)))
        return self.vector_row_bytes + values

    @property
    def vector_row_bytes(self) -> int:
        """Upper bound of the bytes of one of its vector rows in a request."""
        return self.name_bytes + NUMBER_BYTES * int(self.vectors.shape[-1])

    def vector_row(self, number: int) -> str:
        """Return the id of the vector row of vector `number`, from 1."""
        return vector_row_id(self.main_row, self.token, number)

    def record(self, former: StoredRecord | None) -> StoredRecord | None:
        """Return the record to store, with the creation time of `former` unless expired. None for a deletion."""
        if self.text is None:
            return None
        moment = now()
        created = former.created_at if former and not former.expired else moment
        created, updated = self.times or (created, moment)
        lifetime = Lifetime(self.ttl, self.until or end_of(self.ttl, moment)) if self.ttl is not None else None
        count = len(self.vectors)
        return StoredRecord(
            self.namespace, self.key, self.text, created, updated, self.paths, count, self.token, lifetime
        )

    def first_vector(self, dimension: int) -> Vector:
        """Return the first vector. An arbitrary one if the record has none."""
        if len(self.vectors):
            first: Vector = self.vectors[0]
            return first
        return arbitrary_vector(self.main_row, dimension)


class ImportedRecord(NamedTuple):
    """A record from another store, to be written unchanged."""

    op: PutOp
    """Its time to live counts from now on, unless `until` is given."""
    times: tuple[datetime, datetime]
    """Creation and last change."""
    vectors: Vector | None = None
    """(n, d), each of length 1. None if they are to be computed."""
    until: datetime | None = None
    """Expiry time. None if it never expires or `ttl` counts from now on."""


@dataclass
class Chunk:
    """Rows of one collection, written together: vector rows first, then main rows."""

    labels: Namespace
    vector_rows: list[tuple[Write, int]] = field(default_factory=list)
    main_rows: list[Write] = field(default_factory=list)
    read: list[StoredRecord] = field(default_factory=list)
    """Records whose time to live is refreshed."""

    @property
    def records(self) -> set[str]:
        """Return the main row ids of all its records."""
        writes = (*self.main_rows, *(write for write, _ in self.vector_rows))
        return {write.main_row for write in writes} | {record.main_row for record in self.read}

    @property
    def rows(self) -> int:
        """Number of rows that it writes."""
        return len(self.vector_rows) + len(self.main_rows) + len(self.read)

    @property
    def bytes(self) -> int:
        """Upper bound of its bytes in a request."""
        vector_rows = sum(write.vector_row_bytes for write, _ in self.vector_rows)
        return vector_rows + sum(write.main_row_bytes for write in self.main_rows)

    def fits_with(self, others: Sequence["Chunk"]) -> bool:
        """Return whether it can be written with others of its collection: within the limits, and no record twice."""
        return (
            sum(one.rows for one in (self, *others)) <= CHUNK
            and sum(one.bytes for one in (self, *others)) <= REQUEST_BYTES
            and all(self.records.isdisjoint(other.records) for other in others)
        )

    def apart(self) -> Iterator["Chunk"]:
        """Yield each row as a chunk of its own, vector rows first."""
        for row in self.vector_rows:
            yield Chunk(self.labels, vector_rows=[row])
        for write in self.main_rows:
            yield Chunk(self.labels, main_rows=[write])
        for record in self.read:
            yield Chunk(self.labels, read=[record])

    @classmethod
    def joined(cls, parts: Sequence["Chunk"]) -> "Chunk":
        """Return one chunk with the rows of several chunks of one collection."""
        vector_rows = [row for part in parts for row in part.vector_rows]
        main_rows = [write for part in parts for write in part.main_rows]
        return cls(parts[0].labels, vector_rows, main_rows, [record for part in parts for record in part.read])


def chunks(writes: Sequence[Write], most: int = CHUNK) -> Iterator[Chunk]:
    """Yield `writes` in chunks by collection, each record's vector rows before its main row.

    A chunk has at most `most` rows, and fits into a request unless it is a single row.
    """
    by_labels: dict[Namespace, list[Write]] = {}
    for write in writes:
        by_labels.setdefault(labels_of(write.namespace), []).append(write)
    for labels, group in by_labels.items():
        chunk, rows, taken = Chunk(labels), 0, 0
        for write in group:
            for number in (*range(1, len(write.vectors)), 0):
                size = write.vector_row_bytes if number else write.main_row_bytes
                if rows and (rows == most or taken + size > REQUEST_BYTES):
                    yield chunk
                    chunk, rows, taken = Chunk(labels), 0, 0
                if number:
                    chunk.vector_rows.append((write, number))
                else:
                    chunk.main_rows.append(write)
                rows, taken = rows + 1, taken + size
        yield chunk


def read_chunks(records: Sequence[StoredRecord]) -> Iterator[Chunk]:
    """Yield the chunks that refresh the time to live of `records`, each record once."""
    by_labels: dict[Namespace, dict[str, StoredRecord]] = {}
    for record in records:
        by_labels.setdefault(labels_of(record.namespace), {})[record.main_row] = record
    for labels, group in by_labels.items():
        once = list(group.values())
        for start in range(0, len(once), CHUNK):
            yield Chunk(labels, read=once[start : start + CHUNK])


def value_text(namespace: Namespace, key: str, value: Mapping[str, Any]) -> str:
    """Return a value as JSON.

    Raises:
        BadRecordError: The value is not JSON.
    """
    try:
        # Sorted, as LangGraph does when it turns a value into text, so that keys of several types are an error: JSON
        # would write 1 and "1" in one dict under the same name.
        json.dumps(dict(value), sort_keys=True)
        text = to_json(dict(value))
        # Fewer brackets than levels are shallow, and quick to count.
        if text.count("{") + text.count("[") > MOST_LEVELS and not _is_shallow(value, MOST_LEVELS):
            raise ValueError(f"more than {MOST_LEVELS} levels")
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRecordError(
            f"The value of {key!r} in {namespace} cannot be stored ({error}): use JSON types only "
            "(dict, list, str, int, float, bool, None)."
        ) from error
    return text


def _is_shallow(value: Any, levels: int) -> bool:
    """Return whether a value has at most a number of nested dicts and lists."""
    if not isinstance(value, Mapping | list | tuple):
        return True
    parts = value.values() if isinstance(value, Mapping) else value
    return levels > 0 and all(_is_shallow(part, levels - 1) for part in parts)
