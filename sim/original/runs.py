"""Recorded runs of the original BiLLP: readers and models of their six kinds of file, checked line by line."""

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from sim.catalogue import ITEM_ADAPTER, Catalogue, Item
from sim.errors import BadInputError

MAX_LINE = 4 * 2**20
"""Largest number of bytes in a line; the longest recorded episode takes 15 kB."""
MAX_LINES = 5_000_000
SENTINEL = -1000.0
"""Value that the authors' code wrote for a missing reward."""
CSV_HEADER = ["user_id", "item", "reward", "matrix"]


def _user_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _unknown(value: object) -> object:
    return None if value == SENTINEL else value


UserId = Annotated[str, BeforeValidator(_user_text), Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Reward = Annotated[Number | None, BeforeValidator(_unknown)]


class RecordedLine(BaseModel):
    """Line of a recorded file; other fields are ignored."""

    model_config = ConfigDict(frozen=True)


class Round(RecordedLine):
    """Recommendation of an episode; `done` is true if the user left at it."""

    generated: str | None = None
    grounded: str | None
    reward: Reward
    done: bool


class RecordedVisit(RecordedLine):
    """Recorded visit: `file` is its run, `matrix` the reward table it was played on."""

    file: str
    matrix: str
    user_id: UserId
    steps: tuple[Round, ...]


class Decision(RecordedLine):
    """Decision of a user at `item` after the last recommendations `window`: whether the user left, and the cause."""

    file: str
    matrix: str
    user_id: UserId
    t: int = Field(ge=0)
    item: str
    window: tuple[str, ...]
    left: bool
    reward: Reward
    cause: str | None


class Rewarded(RecordedLine):
    """Reward of a user for an item."""

    user_id: UserId
    item: str
    reward: Number
    matrix: str


class Credited(RecordedLine):
    """Step with V before and after it, and the stored sign."""

    run: str
    user_id: UserId
    t: int = Field(ge=0)
    v: Number
    v_next: Number
    memory: Number


@dataclass
class Recorded:
    """Contents of several recorded files.

    Attributes:
        files: Kind and number of rows of each file, by its name.
        catalogues: One catalogue for each file of items.
        grounded: Texts and the title that each was grounded to, from the file of groundings.
    """

    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    catalogues: list[Catalogue] = field(default_factory=list)
    episodes: list[RecordedVisit] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    rewards: list[Rewarded] = field(default_factory=list)
    credited: list[Credited] = field(default_factory=list)
    grounded: list[tuple[str, str]] = field(default_factory=list)


# Fields that occur in no other kind of file.
_SIGNS: Mapping[str, set[str]] = {
    "catalogues": {"title", "id", "genres"},
    "episodes": {"steps", "matrix"},
    "decisions": {"window", "left", "cause"},
    "credited": {"v", "v_next", "memory"},
}
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
_PAIRS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])
T = TypeVar("T")


def read_recorded(paths: list[Path]) -> Recorded:
    """Read recorded files; the content of a file shows its kind.

    Raises:
        BadInputError: A file is given twice, empty, of an unknown kind or not UTF-8, or a line is too long or invalid.
        OSError: A file cannot be opened.
    """
    recorded = Recorded()
    for path in paths:
        if str(path) in recorded.files:
            raise BadInputError(f"{path} is given twice; name each file once")
        lines = list(numbered_lines(path))
        if not lines:
            raise BadInputError(f"{path} is empty; give a file of recorded runs")
        kind = _kind(path, lines[0][1])
        rows: list[Any] = _READERS[kind](path, lines)
        recorded.files[str(path)] = (kind, len(rows))
        getattr(recorded, kind).extend([_catalogue(path, rows)] if kind == "catalogues" else rows)
    return recorded


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the non-blank lines of a file with their numbers.

    Raises:
        BadInputError: A line is too long or not UTF-8, or there are too many lines.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        for number in range(1, MAX_LINES + 1):
            line = file.readline(MAX_LINE + 1)
            if not line:
                return
            if len(line) > MAX_LINE:
                raise BadInputError(f"{path}: line {number} is longer than {MAX_LINE:,} bytes; leave it out")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise BadInputError(f"{path}: line {number} is not UTF-8; convert the file to UTF-8") from error
            if text.strip():
                yield number, text
    raise BadInputError(f"{path} has more than {MAX_LINES:,} lines; give it in parts")


def _kind(path: Path, first: str) -> str:
    if next(csv.reader([first]), [])[:1] == CSV_HEADER[:1]:
        return "rewards"
    try:
        fields = set(_OBJECT.validate_json(first))
    except ValidationError:
        fields = set()
    for kind, signs in _SIGNS.items():
        if signs <= fields:
            return kind
    if first.lstrip().startswith("{"):
        return "grounded"
    raise BadInputError(
        f"{path} is not a file of recorded runs: its start matches none of the six kinds (docs/worlds.md lists them)"
    )


def _rows(path: Path, lines: list[tuple[int, str]], adapter: TypeAdapter[T]) -> list[T]:
    rows = []
    for number, text in lines:
        with fault_at(path, number):
            rows.append(adapter.validate_json(text))
    return rows


def _rewards(path: Path, lines: list[tuple[int, str]]) -> list[Rewarded]:
    header = next(csv.reader([lines[0][1]]))
    missing = [name for name in CSV_HEADER if name not in header]
    if missing:
        raise BadInputError(f"{path}: the column {missing[0]} is missing; the header is {','.join(CSV_HEADER)}")
    rows = []
    for number, text in lines[1:]:
        with fault_at(path, number):
            rows.append(Rewarded.model_validate(dict(zip(header, next(csv.reader([text])), strict=False))))
    return rows


def _grounded(path: Path, lines: list[tuple[int, str]]) -> list[tuple[str, str]]:
    with fault_at(path, lines[0][0]):
        return list(_PAIRS.validate_json("".join(text for _, text in lines)).items())


@contextmanager
def fault_at(path: Path, number: int) -> Iterator[None]:
    """Add the file and the line number to errors of validation raised in the block.

    Raises:
        BadInputError: The line is invalid.
    """
    try:
        yield
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BadInputError(
            f"{path}: line {number}: {where + ': ' if where else ''}{fault['msg']}; correct it or leave it out"
        ) from error
    except csv.Error as error:
        raise BadInputError(f"{path}: line {number}: {error}; correct it or leave it out") from error


def _catalogue(path: Path, items: list[Item]) -> Catalogue:
    try:
        return Catalogue(items)
    except BadInputError as error:
        raise BadInputError(f"{path}: {error}") from error


_READERS: Mapping[str, Callable[[Path, list[tuple[int, str]]], list[Any]]] = {
    "catalogues": partial(_rows, adapter=ITEM_ADAPTER),
    "episodes": partial(_rows, adapter=TypeAdapter(RecordedVisit)),
    "decisions": partial(_rows, adapter=TypeAdapter(Decision)),
    "credited": partial(_rows, adapter=TypeAdapter(Credited)),
    "rewards": _rewards,
    "grounded": _grounded,
}
