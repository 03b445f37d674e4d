"""Memory records of a visit as entries of a LangGraph store: lessons, experiences, values, statements, your own kinds.

Anybody may have written a record, so every field has bounds. Recall skips records that break them.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny

# Bounds of a record's fields, in characters and entries. A visit writes far less.
MAX_NAME = 2_000
MAX_TITLE = 1_000
MAX_SITUATION = 300_000
MAX_TEXT = 10_000
MAX_CATEGORIES = 100
MAX_ROUNDS = 100_000
MAX_ADVANTAGE = 200.0
# Records that one lesson may replace. A lesson of more visits is replaced over several visits.
MAX_REPLACED = 200
MAX_KEY = 100
V_MAX = 5.0
"""Largest absolute value V of a state."""

Name = Annotated[str, Field(max_length=MAX_NAME)]
Title = Annotated[str, Field(max_length=MAX_TITLE)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Categories = Annotated[list[Annotated[str, Field(max_length=MAX_TITLE)]], Field(max_length=MAX_CATEGORIES)]
# 0 means no reward.
Rating = Annotated[float, Field(ge=0, le=5)]
Predicted = Annotated[float, Field(ge=-5, le=15)]
"""Rating predicted by the logs model. It is not cut to the scale of 1 to 5, because it ranks items."""
Distance = Annotated[float, Field(ge=-0.01, le=2.01)]
"""Cosine distance, with a margin for rounding."""
Risk = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Risk that the user leaves."""
Keys = Annotated[list[Annotated[str, Field(max_length=MAX_KEY)]], Field(max_length=MAX_REPLACED)]
"""Keys of records."""

KINDS: "dict[str, type[Memory]]" = {}
"""Class of each kind of memory. Defining a class registers it."""


class Memory(BaseModel):
    """Content of one record. A role with records of its own defines a subclass with a `kind` of its own.

    Raises:
        TypeError: A subclass is defined with the kind of another class.
    """

    model_config = ConfigDict(use_attribute_docstrings=True, allow_inf_nan=False)

    indexed: ClassVar[tuple[str, ...]] = ("situation",)
    """Fields to embed for search. Each is embedded separately; the best score counts."""
    shuffled_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that hold the outcome. The control `shuffled` permutes them among the records of the kind."""
    inverted_fields: ClassVar[frozenset[str]] = frozenset()
    """Outcome fields that say whether it was good. The control `inverted` reverses them."""

    kind: str
    """First label of the namespace."""
    visit: Name
    """Id of the visit that wrote the record."""
    user_id: Name
    situation: str = Field(max_length=MAX_SITUATION)
    """Labels of the last titles at that moment, one a line."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register the class under its kind."""
        super().__pydantic_init_subclass__(**kwargs)
        kind = cls.model_fields["kind"].default
        if not isinstance(kind, str):
            return
        known = KINDS.setdefault(kind, cls)
        # A server loads a graph's file under another module name, and so defines the class twice.
        if known.__qualname__ != cls.__qualname__:
            raise TypeError(f"{cls.__qualname__} has the kind {kind!r} of {known.__qualname__}: choose another kind")
        KINDS[kind] = cls


def of_its_kind(value: object) -> object:
    """Return a record's content as the class of its kind.

    Raises:
        ValueError: The kind is unknown, or the content does not fit its class.
    """
    if isinstance(value, Memory):
        return value
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"unknown kind of memory {str(kind)[:80]!r}: use one of {', '.join(KINDS)}")
    return KINDS[kind].model_validate(value)


class Lesson(Memory):
    """Lesson of a whole visit (macro level), in words. Its situation is the one before the visit."""

    indexed: ClassVar[tuple[str, ...]] = ("text", "situation")
    shuffled_fields: ClassVar[frozenset[str]] = frozenset({"text", "length", "total_reward", "replaces"})
    inverted_fields: ClassVar[frozenset[str]] = frozenset({"text"})

    kind: Literal["lessons"] = "lessons"
    text: Text
    length: int = Field(ge=0, le=MAX_ROUNDS)
    """Rounds that the user stayed."""
    total_reward: float = Field(ge=0, le=5 * MAX_ROUNDS)
    """Sum of the rewards of those rounds."""
    replaces: Keys = []
    """Keys of the lessons that it takes up or corrects. Recall leaves them out as long as this lesson exists."""


class Experience(Memory):
    """Result of one recommendation (micro level). Its situation is the one before the recommendation."""

    # The item id is left out: shuffled together with its outcome, it would still teach the right lesson.
    shuffled_fields: ClassVar[frozenset[str]] = frozenset({"reward", "advantage", "left"})
    inverted_fields: ClassVar[frozenset[str]] = frozenset({"advantage", "left"})

    kind: Literal["experiences"] = "experiences"
    plan: Text
    item_id: Name = ""
    title: Title
    genres: Categories
    recent: list[Name] = Field([], max_length=20)
    """Ids of the items recommended before it, at most four, oldest first."""
    predicted: Predicted | None
    """Rating predicted by the logs model. None if unknown, as in memories of the original."""
    distance: Distance | None
    reward: Rating | None
    """None if unknown."""
    advantage: float = Field(ge=-MAX_ADVANTAGE, le=MAX_ADVANTAGE)
    left: bool | None
    """None if unknown."""


class Value(Memory):
    """Value that the Critic should have given to a situation."""

    shuffled_fields: ClassVar[frozenset[str]] = frozenset({"target"})
    inverted_fields: ClassVar[frozenset[str]] = frozenset({"target"})

    kind: Literal["values"] = "values"
    distance: Distance | None
    """Smallest distance between the situation's last item and the four before it."""
    genres: Categories = []
    """Categories of that item."""
    risk: Risk | None = None
    """Risk of that item. None if unknown."""
    target: float = Field(ge=-V_MAX, le=V_MAX)
    """Target of V, -5 to 5."""


class Statement(Memory):
    """One statement of a person: a rating, a comment, a correction. All of them together make the person's profile."""

    indexed: ClassVar[tuple[str, ...]] = ()

    kind: Literal["statements"] = "statements"
    situation: str = Field("", max_length=MAX_SITUATION)
    number: int = Field(ge=0, le=MAX_ROUNDS * 10)
    """Position among the statements of one visit. Visits are ordered by the first write of their statements."""
    said: Literal["wish", "liked", "rating", "skip", "leave", "seen", "never", "comment", "correction"]
    item_ids: list[Name] = Field([], max_length=1_000)
    """Items of the statement: one, or the titles that the person named (`liked`)."""
    title: Title = ""
    rating: float | None = Field(None, ge=1, le=5)
    text: Text = ""
    """Wish or comment in the person's own words, or lines added by a correction."""
    removed: Text = ""
    """Lines deleted by a correction."""


class Record(BaseModel):
    """One memory with a key that makes repeated writes harmless."""

    key: str
    value: Annotated[SerializeAsAny[Memory], BeforeValidator(of_its_kind)]


def record(value: Memory, step: int) -> Record:
    """Return `value` under a key derived from (visit, step, kind), so that replays and retries write no duplicates."""
    digest = hashlib.sha256(f"{value.visit}\n{step}\n{value.kind}".encode()).hexdigest()
    return Record(key=digest[:32], value=value)


def namespace(kind: str, space: str, user_id: str) -> tuple[str, ...]:
    """Return the store namespace of one user's records of one kind.

    Space and user are escaped, since LangGraph rejects empty labels and labels with a dot.
    """
    return (kind, escape(space), escape(user_id))


def private_space(space: str) -> str:
    """Return the space of records that only their own users recall. Names of worlds and shared spaces have no colon."""
    return f"private:{space}"


def people_space(space: str) -> str:
    """Return the space of people's records. It is separate, since a simulated user may have the same id as a person."""
    return f"people:{space}"


def account_space(account: str, space: str) -> str:
    """Return the space for the records of an account's simulated visits if the account may not share."""
    return f"account:{quote(account, safe='')}:{space}"


def escape(label: str) -> str:
    """Return `label` as a namespace label: `%` and `.` escaped as in URLs, `%00` for the empty label."""
    return label.replace("%", "%25").replace(".", "%2E") or "%00"


def unescape(label: str) -> str:
    """Return the label that `escape` was given."""
    return "" if label == "%00" else label.replace("%2E", ".").replace("%25", "%")
