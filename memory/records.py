"""Memory records of a visit, as entries of a LangGraph store: lessons, experiences, values, statements, your own kinds.

A record that is read may have been written by anybody, so every field has bounds; recall passes over what breaks them.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny

# Bounds of what a record holds, in characters and entries; a visit writes far less.
MAX_NAME = 2_000
MAX_TITLE = 1_000
MAX_SITUATION = 300_000
MAX_TEXT = 10_000
MAX_CATEGORIES = 100
MAX_ROUNDS = 100_000
MAX_ADVANTAGE = 200.0

Name = Annotated[str, Field(max_length=MAX_NAME)]
Title = Annotated[str, Field(max_length=MAX_TITLE)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Categories = Annotated[list[Annotated[str, Field(max_length=MAX_TITLE)]], Field(max_length=MAX_CATEGORIES)]
# Predictions are ratings from 1 to 5; a reward of 0 stands for none.
Rating = Annotated[float, Field(ge=0, le=5)]
Distance = Annotated[float, Field(ge=-0.01, le=2.01)]
"""Cosine distance, with room for rounding."""

KINDS: "dict[str, type[Memory]]" = {}
"""The class of each kind of memory; a class enters when it is made."""


class Memory(BaseModel):
    """What is remembered in one record. A role that remembers something else has a subclass with a `kind` of its own.

    Raises:
        TypeError: A subclass is made whose kind another class has.
    """

    model_config = ConfigDict(use_attribute_docstrings=True, allow_inf_nan=False)

    indexed: ClassVar[tuple[str, ...]] = ("situation",)
    """Fields that it is found by; each is embedded on its own and the best one counts."""
    shuffled_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that say what came of it. The control `shuffled` deals them out anew among the records of the kind."""
    inverted_fields: ClassVar[frozenset[str]] = frozenset()
    """Those fields that say whether it was good; the control `inverted` turns them round."""

    kind: str
    """First label of its namespace."""
    visit: Name
    """Id of the visit that it is of."""
    user_id: Name
    situation: str = Field(max_length=MAX_SITUATION)
    """Labels of the last titles when it arose, one a line."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class known by its kind."""
        super().__pydantic_init_subclass__(**kwargs)
        kind = cls.model_fields["kind"].default
        if not isinstance(kind, str):
            return
        known = KINDS.setdefault(kind, cls)
        # A server loads a graph's file under a name of its own, and so the class again.
        if known.__qualname__ != cls.__qualname__:
            raise TypeError(f"{cls.__qualname__}: the kind {kind!r} is that of {known.__qualname__}: give it another")
        KINDS[kind] = cls


def of_its_kind(value: object) -> object:
    """Return what a record holds as the class of its kind.

    Raises:
        ValueError: There is no such kind, or it does not fit.
    """
    if isinstance(value, Memory):
        return value
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"there is no kind of memory {str(kind)[:80]!r}: known are {', '.join(KINDS)}")
    return KINDS[kind].model_validate(value)


class Lesson(Memory):
    """What a visit taught as a whole (macro level), in words. Its situation is that before the visit."""

    indexed: ClassVar[tuple[str, ...]] = ("text", "situation")
    shuffled_fields: ClassVar[frozenset[str]] = frozenset({"text", "length", "total_reward"})
    inverted_fields: ClassVar[frozenset[str]] = frozenset({"text"})

    kind: Literal["lessons"] = "lessons"
    text: Text
    length: int = Field(ge=0, le=MAX_ROUNDS)
    """Rounds that the user stayed."""
    total_reward: float = Field(ge=0, le=5 * MAX_ROUNDS)
    """Summed reward of those rounds."""


class Experience(Memory):
    """What one recommendation led to (micro level). Its situation is that before the recommendation."""

    # Not the item: handed on with what came of it, it would teach the same in a shuffled memory.
    shuffled_fields: ClassVar[frozenset[str]] = frozenset({"reward", "advantage", "left"})
    inverted_fields: ClassVar[frozenset[str]] = frozenset({"advantage", "left"})

    kind: Literal["experiences"] = "experiences"
    plan: Text
    item_id: Name = ""
    title: Title
    genres: Categories
    recent: list[Name] = Field([], max_length=20)
    """Ids of the items recommended before it, at most four, oldest first."""
    predicted: Rating | None
    """Rating that the logs model predicted; none where it is not known, as in memories of the original."""
    distance: Distance | None
    reward: Rating | None
    """None where it is not known."""
    advantage: float = Field(ge=-MAX_ADVANTAGE, le=MAX_ADVANTAGE)
    left: bool | None
    """None where it is not known."""


class Value(Memory):
    """What the Critic should have said of a situation."""

    shuffled_fields: ClassVar[frozenset[str]] = frozenset({"target"})
    inverted_fields: ClassVar[frozenset[str]] = frozenset({"target"})

    kind: Literal["values"] = "values"
    distance: Distance | None
    """Least distance of the situation's last item to the four before it."""
    target: float = Field(ge=-5, le=5)
    """Target of V, -5 to 5."""


class Statement(Memory):
    """One thing that a person said: a rating, a comment, a correction. Their profile follows from all of them."""

    indexed: ClassVar[tuple[str, ...]] = ()

    kind: Literal["statements"] = "statements"
    situation: str = Field("", max_length=MAX_SITUATION)
    number: int = Field(ge=0, le=MAX_ROUNDS * 10)
    """Orders the statements of one visit; visits are ordered by when their statements were first written."""
    said: Literal["wish", "liked", "rating", "skip", "leave", "seen", "never", "comment", "correction"]
    item_ids: list[Name] = Field([], max_length=1_000)
    """Items that it is about: one, or the titles that a person brought (`liked`)."""
    title: Title = ""
    rating: float | None = Field(None, ge=1, le=5)
    text: Text = ""
    """A wish or comment in the person's own words; lines that a correction added."""
    removed: Text = ""
    """Lines that a correction took out."""


class Record(BaseModel):
    """One memory with the key that makes writing it again harmless."""

    key: str
    value: Annotated[SerializeAsAny[Memory], BeforeValidator(of_its_kind)]


def record(value: Memory, step: int) -> Record:
    """Return `value` under a key derived from (visit, step, kind), so that replays and retries never duplicate."""
    digest = hashlib.sha256(f"{value.visit}\n{step}\n{value.kind}".encode()).hexdigest()
    return Record(key=digest[:32], value=value)


def namespace(kind: str, space: str, user_id: str) -> tuple[str, ...]:
    """Return the store namespace of one user's records of one kind.

    LangGraph refuses empty labels and labels with a dot, so both parts are escaped.
    """
    return (kind, escape(space), escape(user_id))


def private_space(space: str) -> str:
    """Return where records lie that only their own users recall. A colon stands in no name of a world or space."""
    return f"private:{space}"


def people_space(space: str) -> str:
    """Return the space of people's records. Simulated users lie apart from people, whose names they may have."""
    return f"people:{space}"


def account_space(account: str, space: str) -> str:
    """Return the space of what an account's simulated visits teach where the account may not share."""
    return f"account:{quote(account, safe='')}:{space}"


def escape(label: str) -> str:
    """Return `label` as a namespace label: `%` and `.` as in URLs, `%00` for the empty one."""
    return label.replace("%", "%25").replace(".", "%2E") or "%00"


def unescape(label: str) -> str:
    """Return what `escape` made `label` of."""
    return "" if label == "%00" else label.replace("%2E", ".").replace("%25", "%")
