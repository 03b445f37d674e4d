"""Recorded runs of the original BiLLP: the six kinds of file they are kept in, read line by line and checked."""

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
"""Bytes of a line at most; the longest recorded episode takes 15 kB."""
MAX_LINES = 5_000_000
SENTINEL = -1000.0
"""What the authors' code wrote for the reward of a round that was not rewarded."""
CSV_HEADER = ["user_id", "item", "reward", "matrix"]


def _user_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _unknown(value: object) -> object:
    return None if value == SENTINEL else value


UserId = Annotated[str, BeforeValidator(_user_text), Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Reward = Annotated[Number | None, BeforeValidator(_unknown)]


class RecordedLine(BaseModel):
    """One line of a recorded file; what else stands in it is passed over."""

    model_config = ConfigDict(frozen=True)


class Round(RecordedLine):
    """One recommendation of an episode, which `done` says the user left at."""

    generated: str | None = None
    grounded: str | None
    reward: Reward
    done: bool


class RecordedVisit(RecordedLine):
    """One visit: `file` is the run it belongs to, `matrix` the table of rewards it was played on."""

    file: str
    matrix: str
    user_id: UserId
    steps: tuple[Round, ...]


class Decision(RecordedLine):
    """Whether a user stayed at `item`, after the `window` of what was recommended last, and the cause of leaving."""

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
    """What a user gives an item."""

    user_id: UserId
    item: str
    reward: Number
    matrix: str


class Credited(RecordedLine):
    """One step with V before and after it, and the sign that was stored as its worth."""

    run: str
    user_id: UserId
    t: int = Field(ge=0)
    v: Number
    v_next: Number
    memory: Number


@dataclass
class Recorded:
    """Hold what several recorded files say together.

    Attributes:
        files: The kind of each file and how many rows it has, by its name.
        catalogues: One for each file of items.
        grounded: Texts with the title each was grounded to, from the file of groundings.
    """

    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    catalogues: list[Catalogue] = field(default_factory=list)
    episodes: list[RecordedVisit] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    rewards: list[Rewarded] = field(default_factory=list)
    credited: list[Credited] = field(default_factory=list)
    grounded: list[tuple[str, str]] = field(default_factory=list)


# What no other kind of file has in its lines.
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
    """Read recorded files; what each holds is told by its content.

    Raises:
        BadInputError: A file is empty, of no known kind or not UTF-8, or a line is too long or cannot be used.
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
    """Give the lines of a file that are not blank, with their numbers.

    Raises:
        BadInputError: A line is too long or not UTF-8, or there are too many.
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
        f"{path} is no file of recorded runs: it starts like none of the six kinds (docs/worlds.md lists them)"
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
    """Name the line where what is in the block does not fit its model.

    Raises:
        BadInputError: It does not.
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
