"""What is remembered of a visit: lessons, experiences and values, as entries of a LangGraph store."""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["lessons", "experiences", "values"]


class Lesson(BaseModel):
    """What a visit taught as a whole (macro level), in words."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: Literal["lessons"] = "lessons"
    visit: str
    """Id of the visit that taught it."""
    user_id: str
    situation: str
    """Labels of the last titles before the visit, one a line: what the lesson is recalled by."""
    text: str
    length: int
    """Rounds that the user stayed."""
    total_reward: float
    """Summed reward of those rounds."""


class Experience(BaseModel):
    """What one recommendation led to (micro level)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: Literal["experiences"] = "experiences"
    visit: str
    user_id: str
    situation: str
    """Labels of the last titles before the recommendation, one a line."""
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


class Value(BaseModel):
    """What the Critic should have said of a situation."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: Literal["values"] = "values"
    visit: str
    user_id: str
    situation: str
    distance: float | None
    """Least distance of the situation's last item to the four before it."""
    target: float
    """Target of V, -5 to 5."""


class Record(BaseModel):
    """One memory with the key that makes writing it again harmless."""

    key: str
    value: Annotated[Lesson | Experience | Value, Field(discriminator="kind")]


# What each kind is found by; a field is embedded on its own and the best one counts.
INDEXED: dict[Kind, list[str]] = {
    "lessons": ["text", "situation"],
    "experiences": ["situation"],
    "values": ["situation"],
}


def record(value: Lesson | Experience | Value, step: int) -> Record:
    """Return `value` under a key derived from (visit, step, kind), so that replays and retries never duplicate."""
    digest = hashlib.sha256(f"{value.visit}\n{step}\n{value.kind}".encode()).hexdigest()
    return Record(key=digest[:32], value=value)


def namespace(kind: Kind, space: str, user_id: str) -> tuple[str, ...]:
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
