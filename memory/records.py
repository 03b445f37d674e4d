"""What is remembered of a visit, as entries of a LangGraph store: lessons, experiences, values, and what you add."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny

KINDS: "dict[str, type[Memory]]" = {}
"""The class of each kind of memory; a class enters when it is made."""


class Memory(BaseModel):
    """What is remembered in one record. A role that remembers something else has a subclass with a `kind` of its own.

    Raises:
        TypeError: A subclass is made whose kind another class has.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    indexed: ClassVar[tuple[str, ...]] = ("situation",)
    """Fields that it is found by; each is embedded on its own and the best one counts."""
    outcome: ClassVar[frozenset[str]] = frozenset()
    """Fields that say what came of it. The control `shuffled` deals them out anew among the records of the kind."""
    judgement: ClassVar[frozenset[str]] = frozenset()
    """Those fields that say whether it was good; the control `inverted` turns them round."""

    kind: str
    """First label of its namespace."""
    visit: str
    """Id of the visit that it is of."""
    user_id: str
    situation: str
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
    outcome: ClassVar[frozenset[str]] = frozenset({"text", "length", "total_reward"})
    judgement: ClassVar[frozenset[str]] = frozenset({"text"})

    kind: Literal["lessons"] = "lessons"
    text: str
    length: int
    """Rounds that the user stayed."""
    total_reward: float
    """Summed reward of those rounds."""


class Experience(Memory):
    """What one recommendation led to (micro level). Its situation is that before the recommendation."""

    # Not the item: handed on with what came of it, it would teach the same in a shuffled memory.
    outcome: ClassVar[frozenset[str]] = frozenset({"reward", "advantage", "left"})
    judgement: ClassVar[frozenset[str]] = frozenset({"advantage", "left"})

    kind: Literal["experiences"] = "experiences"
    plan: str
    item_id: str = ""
    title: str
    genres: list[str]
    recent: list[str] = []
    """Ids of the items recommended before it, at most four, oldest first."""
    predicted: float | None
    """Rating that the logs model predicted; none where it is not known, as in memories of the original."""
    distance: float | None
    reward: float | None
    """None where it is not known."""
    advantage: float
    left: bool | None
    """None where it is not known."""


class Value(Memory):
    """What the Critic should have said of a situation."""

    outcome: ClassVar[frozenset[str]] = frozenset({"target"})
    judgement: ClassVar[frozenset[str]] = frozenset({"target"})

    kind: Literal["values"] = "values"
    distance: float | None
    """Least distance of the situation's last item to the four before it."""
    target: float
    """Target of V, -5 to 5."""


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


def escape(label: str) -> str:
    """Return `label` as a namespace label: `%` and `.` as in URLs, `%00` for the empty one."""
    return label.replace("%", "%25").replace(".", "%2E") or "%00"


def unescape(label: str) -> str:
    """Return what `escape` made `label` of."""
    return "" if label == "%00" else label.replace("%2E", ".").replace("%25", "%")
