"""How a record lies in Chroma: which collection, which rows, and in which order they are written.

One collection for each pair of first two namespace labels, so that recall needs no metadata filter. A record is one
row, its head, which holds the value and the first vector; further vectors are rows of their own. Extra rows carry
the token of the write that made them, and only the head says which token counts: they are written before the head
and the former ones deleted after it, so whoever looks sees the old record or the new one, never a mixture.
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
"""Name of the collection that says whose and what a memory is."""
OURS = re.compile(r"m-[0-9a-f]{32}")
"""Names of the collections that hold records."""
EXPIRY = "expires_at"
"""Field of a head with the second, since 1970, at which the record expires; others have none."""
CHUNK = 10
"""Rows a call to Chroma: it stops every thread of the process while it writes."""
BULK = 500
"""The same where many records are restored: a third of the time, but nobody else gets a turn for half a second."""

REQUEST_BYTES = 16 * 2**20
"""Bytes a call to Chroma, unless one row alone has more: its server takes 40 MB."""
NUMBER_BYTES = 24
"""Of a number of a vector, at most, in a request."""

Metadata = Mapping[str, Any]
_log = logging.getLogger(__name__)


class Lifetime(NamedTuple):
    """How long a record lives."""

    minutes: float
    """From its last write or read."""
    until: datetime
    """When it expires unless it is written or read before."""


def labels_of(namespace: Namespace) -> Namespace:
    """Return the first two labels of a namespace: what shares a collection."""
    return namespace[:2]


def collection_name(labels: Namespace) -> str:
    """Return the collection's name; labels may be any Unicode, names may not."""
    return f"m-{hashlib.sha256(to_json(list(labels)).encode()).hexdigest()[:32]}"


def to_json(value: Any) -> str:
    """Return `value` as JSON in ASCII, so that no character, NUL and lone surrogates included, can hurt Chroma."""
    return json.dumps(value, separators=(",", ":"))


@dataclass(frozen=True)
class StoredRecord:
    """A record as it is stored, without its vectors."""

    namespace: Namespace
    key: str
    text: str
    """Its value as JSON."""
    created_at: datetime
    updated_at: datetime
    paths: tuple[str, ...]
    """Of the texts in its value that it is found by; none if it is not indexed."""
    vectors: int
    """Vectors that it is found by, one for each distinct text."""
    token: str
    """Which extra rows are its own."""
    lifetime: Lifetime | None = None
    """None where it never expires."""

    @functools.cached_property
    def place(self) -> tuple[Namespace, str]:
        """Namespace and key: what orders records of equal score."""
        return (self.namespace, self.key)

    @functools.cached_property
    def value(self) -> dict[str, Any]:
        """The value, for filters only; who hands it out gives a fresh copy."""
        return self._fresh_value()

    @property
    def head(self) -> str:
        """Id of the row that makes the record exist."""
        return main_row_id(self.namespace, self.key)

    @property
    def extras(self) -> list[str]:
        """Ids of the rows of its second and later vectors."""
        return [vector_row_id(self.head, self.token, number) for number in range(1, self.vectors)]

    @property
    def expired(self) -> bool:
        """Whether its time is over: it counts as deleted, though it may still lie in Chroma."""
        return self.lifetime is not None and self.lifetime.until <= now()

    @property
    def ttl_is_due(self) -> bool:
        """Whether so much of its time is gone that a read should start it anew."""
        if self.lifetime is None:
            return False
        minutes = self.lifetime.minutes
        return end_of(minutes * (1 - REFRESH_FROM), now()) >= self.lifetime.until

    def refresh_ttl(self) -> Self:
        """Return the record with its time to live, if it has one, started anew."""
        if self.lifetime is None:
            return self
        minutes = self.lifetime.minutes
        return replace(self, lifetime=Lifetime(minutes, end_of(minutes, now())))

    def owns(self, row_id: str) -> bool:
        """Say whether a row holds a vector of this record, not a former or an arbitrary one."""
        return (row_id == self.head and self.vectors > 0) or row_id in self.extras

    def kept(self, vectors: Vector) -> "ImportedRecord":
        """Return the record, and its `vectors`, as another store takes it in."""
        minutes, until = self.lifetime or (None, None)
        op = PutOp(self.namespace, self.key, self.value, list(self.paths) or False, ttl=minutes)
        return ImportedRecord(op, (self.created_at, self.updated_at), vectors, until)

    def item(self) -> Item:
        """Return the record as `get` answers it."""
        return Item(
            value=self._fresh_value(),
            key=self.key,
            namespace=self.namespace,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )

    def found(self, score: float | None) -> SearchItem:
        """Return the record as `search` answers it."""
        return SearchItem(self.namespace, self.key, self._fresh_value(), self.created_at, self.updated_at, score)

    def _fresh_value(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.text)
        return value

    def metadata(self, former: "StoredRecord | None" = None) -> dict[str, str | int | float | None]:
        """Return what the head's row is to hold.

        Args:
            former: The record that it holds so far; Chroma keeps fields that it is not told to drop.
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
            **prefix_fields(self.namespace),
        }
        if self.lifetime:
            # With the token: of two clients that write one record at once, one may not see the other's field.
            fields |= {EXPIRY: self.lifetime.until.timestamp(), "ttl": to_json([self.lifetime.minutes, self.token])}
        elif former and former.lifetime:
            fields |= {EXPIRY: None, "ttl": None}
        return fields


def readable(heads: Sequence[Metadata | None] | None) -> list[StoredRecord]:
    """Return the records that rows of heads hold; one that holds none is passed over, so that it hides no other."""
    records: list[StoredRecord] = []
    for metadata in heads or ():
        try:
            records.append(read_record(metadata or {}))
        except (KeyError, TypeError, ValueError) as error:
            _log.warning(
                "A row of the memory holds no record and is passed over (%s: %s).", type(error).__name__, error
            )
    return records


def read_record(metadata: Metadata) -> StoredRecord:
    """Return the record that a head's row holds.

    Raises:
        KeyError: A field is missing.
        TypeError: A field is of another type.
        ValueError: A field cannot be read.
    """
    namespace, key = json.loads(metadata["namespace"]), json.loads(metadata["key"])
    if not isinstance(key, str) or not all(isinstance(label, str) for label in namespace):
        raise TypeError(f"{key!r} in {namespace} is no name of a record")
    return StoredRecord(
        namespace=tuple(namespace),
        key=key,
        text=metadata["value"],
        created_at=datetime.fromisoformat(metadata["created_at"]),
        updated_at=datetime.fromisoformat(metadata["updated_at"]),
        paths=_paths(metadata["paths"]),
        vectors=metadata["vectors"],
        token=metadata["token"],
        lifetime=_lifetime(metadata) if "ttl" in metadata else None,
    )


@functools.lru_cache(maxsize=1_024)
def _paths(text: str) -> tuple[str, ...]:
    """Return the paths that a head's row tells: one tuple for all records of them, which are many."""
    return tuple(json.loads(text))


def _lifetime(metadata: Metadata) -> Lifetime | None:
    minutes, token = json.loads(metadata["ttl"])
    if token != metadata["token"]:
        return None
    return Lifetime(minutes, datetime.fromtimestamp(metadata[EXPIRY], UTC))


@functools.lru_cache(maxsize=65_536)
def main_row_id(namespace: Namespace, key: str) -> str:
    """Return the id of a record's first row."""
    return hashlib.sha256(to_json([list(namespace), key]).encode()).hexdigest()[:32]


def vector_row_id(head: str, token: str, number: int) -> str:
    """Return the id of the row of a record's vector `number`, from 1, as written under `token`."""
    return f"{head}-{token}-{number}"


def owner_of(row_id: str) -> str:
    """Return the head that a row, head or extra, belongs to."""
    return row_id.partition("-")[0]


def is_main_row(row_id: str) -> bool:
    """Say whether a row is the head of a record."""
    return "-" not in row_id


def arbitrary_vector(row_id: str, dimension: int) -> Vector:
    """Return a vector for a row that nothing is to be found by, as Chroma wants one for each.

    Equal ones would make a knot in Chroma's graph that searches cannot pass, so it is drawn by the row's head.
    """
    return unit(np.random.default_rng(int(owner_of(row_id), 16)).standard_normal(dimension))


def texts_at(value: Mapping[str, Any], paths: Iterable[str]) -> list[str]:
    """Return the texts of a value at some paths, each once."""
    return list(dict.fromkeys(text for path in paths for text in get_text_at_path(value, path)))


def texts_to_index(op: PutOp, paths: Sequence[str]) -> list[str]:
    """Return the texts that a record is to be found by, each once; none for one to delete.

    Raises:
        BadRecordError: The paths cannot be followed in its value.
    """
    try:
        return texts_at(op.value, paths) if op.value is not None else []
    except (TypeError, ValueError, LookupError, RecursionError) as error:
        raise BadRecordError(
            f"The value of {op.key!r} in {op.namespace} cannot be indexed by {list(paths)} ({error}): correct "
            "the paths."
        ) from error


def prefix_fields(namespace: Namespace) -> dict[str, str]:
    """Return one field for each prefix longer than two labels, so that one equality finds what is below it."""
    return {f"p{depth}": to_json(list(namespace[:depth])) for depth in range(3, len(namespace) + 1)}


def prefix_filter(prefix: Namespace) -> dict[str, Any] | None:
    """Return the Chroma filter for what is below `prefix`, None where the collection alone says it."""
    return {f"p{len(prefix)}": to_json(list(prefix))} if len(prefix) > 2 else None


def _quoted(text: str) -> int:
    """Return the bytes of a text of ASCII as a string of JSON."""
    return len(text) + text.count('"') + text.count("\\") + 2


@dataclass(frozen=True)
class Write:
    """One record to write, or to delete where `text` is None."""

    namespace: Namespace
    key: str
    text: str | None
    paths: tuple[str, ...]
    """Of the texts in the value that it is to be found by."""
    vectors: Vector
    """(n, d), of length 1: one for each of these texts, in order."""
    times: tuple[datetime, datetime] | None = None
    """When it was created and last changed, where that was elsewhere; None for now."""
    ttl: float | None = None
    """Minutes to live; None for ever."""
    until: datetime | None = None
    """When it expires, where that was settled elsewhere; None for `ttl` from now on."""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def head(self) -> str:
        """Id of the row that makes the record exist."""
        return main_row_id(self.namespace, self.key)

    @property
    def fields(self) -> dict[str, str]:
        """What an extra row holds."""
        return {"owner": self.head, **prefix_fields(self.namespace)}

    @functools.cached_property
    def place_bytes(self) -> int:
        """How much of a request the names of each of its rows take, at most."""
        return sum(map(_quoted, self.fields.values())) + 2 * _quoted(to_json([list(self.namespace), self.key])) + 1_000

    @functools.cached_property
    def head_bytes(self) -> int:
        """How much of a request its head takes, at most."""
        values = _quoted(self.text or "") + _quoted(to_json(list(self.paths)))
        return self.extra_bytes + values

    @property
    def extra_bytes(self) -> int:
        """How much of a request one of its extra rows takes, at most."""
        return self.place_bytes + NUMBER_BYTES * int(self.vectors.shape[-1])

    def extra_id(self, number: int) -> str:
        """Return the id of the row of vector `number`, from 1."""
        return vector_row_id(self.head, self.token, number)

    def record(self, former: StoredRecord | None) -> StoredRecord | None:
        """Return the record as it will be; it keeps the time at which `former`, if it lives, was created."""
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

    def head_vector(self, dimension: int) -> Vector:
        """Return the first vector, or for a record that has none an arbitrary one."""
        if len(self.vectors):
            first: Vector = self.vectors[0]
            return first
        return arbitrary_vector(self.head, dimension)


class ImportedRecord(NamedTuple):
    """A record from elsewhere, to be written as it was there."""

    op: PutOp
    """Its time to live counts from now on, unless `until` is given."""
    times: tuple[datetime, datetime]
    """When it was created, and when it was last changed."""
    vectors: Vector | None = None
    """(n, d), of length 1 each; None where they are to be computed."""
    until: datetime | None = None
    """When it expires, for one that does."""


@dataclass
class Chunk:
    """Some rows of one collection, written together: extra rows first, then heads."""

    labels: Namespace
    extras: list[tuple[Write, int]] = field(default_factory=list)
    heads: list[Write] = field(default_factory=list)
    read: list[StoredRecord] = field(default_factory=list)
    """Records whose time to live starts anew."""

    @property
    def records(self) -> set[str]:
        """Return the heads of all records that have rows in it."""
        writes = (*self.heads, *(write for write, _ in self.extras))
        return {write.head for write in writes} | {record.head for record in self.read}

    @property
    def rows(self) -> int:
        """Number of rows that it writes."""
        return len(self.extras) + len(self.heads) + len(self.read)

    @property
    def bytes(self) -> int:
        """How much of a request it takes, at most."""
        return sum(write.extra_bytes for write, _ in self.extras) + sum(write.head_bytes for write in self.heads)

    def fits_beside(self, others: Sequence["Chunk"]) -> bool:
        """Say whether it can be written with others of its collection: not too much, and no record twice."""
        return (
            sum(one.rows for one in (self, *others)) <= CHUNK
            and sum(one.bytes for one in (self, *others)) <= REQUEST_BYTES
            and all(self.records.isdisjoint(other.records) for other in others)
        )

    def apart(self) -> Iterator["Chunk"]:
        """Yield each row as a chunk of its own, extra rows first."""
        for extra in self.extras:
            yield Chunk(self.labels, extras=[extra])
        for head in self.heads:
            yield Chunk(self.labels, heads=[head])
        for record in self.read:
            yield Chunk(self.labels, read=[record])

    @classmethod
    def joined(cls, parts: Sequence["Chunk"]) -> "Chunk":
        """Return chunks of one collection as one."""
        extras = [extra for part in parts for extra in part.extras]
        heads = [head for part in parts for head in part.heads]
        return cls(parts[0].labels, extras, heads, [record for part in parts for record in part.read])


def chunks(writes: Sequence[Write], most: int = CHUNK) -> Iterator[Chunk]:
    """Yield `writes` in chunks, by collection, no record's head before its extra rows.

    A chunk has at most `most` rows, and no more bytes than a request may have, unless it is a single row.
    """
    by_labels: dict[Namespace, list[Write]] = {}
    for write in writes:
        by_labels.setdefault(labels_of(write.namespace), []).append(write)
    for labels, group in by_labels.items():
        chunk, rows, taken = Chunk(labels), 0, 0
        for write in group:
            for number in (*range(1, len(write.vectors)), 0):
                size = write.extra_bytes if number else write.head_bytes
                if rows and (rows == most or taken + size > REQUEST_BYTES):
                    yield chunk
                    chunk, rows, taken = Chunk(labels), 0, 0
                if number:
                    chunk.extras.append((write, number))
                else:
                    chunk.heads.append(write)
                rows, taken = rows + 1, taken + size
        yield chunk


def read_chunks(records: Sequence[StoredRecord]) -> Iterator[Chunk]:
    """Yield the chunks that start the time to live of `records` anew, each record once."""
    by_labels: dict[Namespace, dict[str, StoredRecord]] = {}
    for record in records:
        by_labels.setdefault(labels_of(record.namespace), {})[record.head] = record
    for labels, group in by_labels.items():
        once = list(group.values())
        for start in range(0, len(once), CHUNK):
            yield Chunk(labels, read=once[start : start + CHUNK])


def value_text(namespace: Namespace, key: str, value: Mapping[str, Any]) -> str:
    """Return a value as JSON.

    Raises:
        BadRecordError: The value is no JSON.
    """
    try:
        # In order of its keys, as LangGraph makes a text of it, keys of several types are an error: of 1 and "1" in
        # one dict JSON would keep both under one name.
        json.dumps(dict(value), sort_keys=True)
        return to_json(dict(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRecordError(
            f"The value of {key!r} in {namespace} cannot be stored ({error}): use JSON types only "
            "(dict, list, str, int, float, bool, None)."
        ) from error
