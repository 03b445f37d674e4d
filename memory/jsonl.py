"""Memory records as JSON lines, for export and for import of files from any source."""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self

import numpy as np
from langgraph.store.base import PutOp
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from memory.chroma.layout import ImportedRecord, StoredRecord, texts_at
from memory.chroma.ttl import LONGEST
from memory.embeddings import identity
from memory.records import KINDS, escape
from memory.search.filters import Namespace
from memory.search.vectors import Vector
from memory.store import ChromaStore

MAX_LABELS, LONGEST_KEY, MAX_FIELDS = 10, 2_000, 50
# Largest deviation of a vector's length from 1, since the written digits are rounded.
ROUNDED = 1e-4

# Labels that the store accepts: no dot, no NUL.
Label = Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern=r"^[^.\x00]+$")]


class RecordLine(BaseModel):
    """One record of a memory."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    namespace: tuple[Label, ...] = Field(min_length=1, max_length=MAX_LABELS)
    key: str = Field(min_length=1, max_length=LONGEST_KEY)
    value: dict[str, JsonValue]
    created_at: AwareDatetime
    updated_at: AwareDatetime
    ttl: float | None = Field(None, ge=-LONGEST, le=LONGEST)
    """Time to live in minutes after the last write or read. Null for ever."""
    expires_at: AwareDatetime | None = None
    """Expiry time unless the record is read before. Null if it never expires."""
    embedded: list[Annotated[str, Field(max_length=LONGEST_KEY)]] | None = Field(None, max_length=MAX_FIELDS)
    """Paths of the indexed fields. Null for the whole value."""
    embedding: str = Field("", max_length=LONGEST_KEY)
    """Name of the embedding that made the vectors. Empty without vectors."""
    vectors: list[list[float]] | None = Field(None, max_length=MAX_FIELDS)
    """One vector of length 1 for each distinct text at those paths. Null if not exported."""

    @model_validator(mode="after")
    def _writable(self) -> Self:
        if self.namespace[0] == "langgraph":
            raise ValueError("the namespace langgraph is reserved")
        try:
            json.dumps(self.value, allow_nan=False)
        except ValueError as error:
            raise ValueError("the value holds a number that is not finite") from error
        if (self.ttl is None) != (self.expires_at is None):
            raise ValueError("of ttl and expires_at there is one without the other")
        if self.vectors is not None and not self.embedding:
            raise ValueError("there are vectors, but not the name of their embedding")
        if self.vectors is not None and self.embedded is not None and len(self.vectors) != len(self.texts):
            raise ValueError(f"there are {len(self.vectors)} vectors for {len(self.texts)} texts")
        if len({len(vector) for vector in self.vectors or ()}) > 1:
            raise ValueError("the vectors differ in their number of dimensions")
        return self

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        model = KINDS.get(self.namespace[0])
        if model is None:
            return self
        if len(self.namespace) != 3:
            raise ValueError(f"the namespace of {self.namespace[0]} has the parts kind, space and user")
        try:
            record = model.model_validate(self.value)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise ValueError(f"value.{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
        if escape(record.user_id) != self.namespace[2]:
            raise ValueError(f"the user is {record.user_id[:80]!r} in the value and another in the namespace")
        return self

    @property
    def paths(self) -> list[str]:
        """Return the paths of the indexed texts."""
        return ["$"] if self.embedded is None else self.embedded

    @property
    def texts(self) -> list[str]:
        """Return the distinct indexed texts."""
        return texts_at(self.value, self.paths)

    @property
    def vector_array(self) -> Vector | None:
        """Return the vectors, (n, d). None if the line has none.

        Raises:
            ValueError: A vector is not of length 1.
        """
        if self.vectors is None:
            return None
        array = np.array(self.vectors, dtype=np.float32)
        lengths = np.linalg.norm(array.astype(np.float64), axis=-1) if array.size else np.ones(len(array))
        # An embedding may give a zero vector for a text.
        if not np.all((np.abs(lengths - 1) < ROUNDED) | (lengths == 0)):
            raise ValueError("a vector is not of length 1")
        return array


def exported(store: ChromaStore, records: Sequence[StoredRecord], *, with_vectors: bool) -> Iterator[dict[str, Any]]:
    """Yield records as the fields of a `RecordLine`."""
    name, _ = identity(store.embeddings)
    vectors = store.vectors(records) if with_vectors else None
    for position, record in enumerate(records):
        line: dict[str, Any] = {
            "namespace": list(record.namespace),
            "key": record.key,
            "value": record.value,
            "created_at": record.created_at.isoformat(),
            "updated_at": record.updated_at.isoformat(),
            "embedded": list(record.paths),
        }
        if record.lifetime:
            line |= {"ttl": record.lifetime.minutes, "expires_at": record.lifetime.until.isoformat()}
        if vectors is not None:
            line |= {"embedding": name, "vectors": [_digits(vector) for vector in vectors[position]]}
        yield line


def _digits(vector: Vector) -> list[float]:
    # The shortest decimal that reads back as the same float32.
    return [float(str(number)) for number in vector]


def check_vectors(line: RecordLine, name: str, dimension: int) -> None:
    """Raise if the vectors of a line cannot be imported unchanged.

    Args:
        line: The line.
        name: Name of the memory's embedding.
        dimension: Numbers in each of its vectors.

    Raises:
        ValueError: The vectors come from another embedding, have another number of dimensions, or are not of length 1.
    """
    others = {len(vector) for vector in line.vectors or ()} - {dimension}
    if line.vectors and (line.embedding != name or others):
        raise ValueError(
            f"the vectors are of the embedding {line.embedding} ({len(line.vectors[0])} dimensions), this memory's are "
            f"of {name} ({dimension}): `--recompute` makes them anew"
        )
    _ = line.vector_array


def kept(line: RecordLine, *, recompute: bool, dimension: int) -> ImportedRecord:
    """Return a line as a record to write.

    Args:
        line: A line that passes `check_vectors`, unless its vectors are recomputed.
        recompute: Whether to compute the vectors even if the line has them.
        dimension: Numbers in a vector.
    """
    namespace: Namespace = line.namespace
    vectors = None if recompute or line.vectors is None else line.vector_array
    if vectors is not None:
        vectors = vectors.reshape(-1, dimension)
    op = PutOp(namespace, line.key, dict(line.value), index=line.paths or False, ttl=line.ttl)
    return ImportedRecord(op, (line.created_at, line.updated_at), vectors, line.expires_at)
