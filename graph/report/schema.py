"""Schema of results.json and visits.jsonl, as far as a report shows them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from graph.ablation import Part
from graph.report.replies import ReplyCounts
from nodes.context import Context
from nodes.llm.endpoint.usage import Usage
from sim.errors import BadInputError
from sim.metrics.calibration import PredictionQuality, ReliabilityBin
from sim.metrics.diversity import Variety
from sim.metrics.summary import PairedDifference, Summary

JsonMapping = Mapping[str, Any]


class CurvePoint(TypedDict):
    """Total reward of dev users after a number of train visits."""

    train_visits: int
    total_reward: float
    total_reward_ci: list[float] | None


class Return(TypedDict):
    """Total reward of returning users at one of their visits."""

    recall: str
    visit: int
    total_reward: float
    total_reward_ci: list[float] | None


class Row(Summary, Variety):
    """Row of a variant, possibly without a part or with a changed memory."""

    variant: str
    without: Part | None
    memory: str
    split: str
    failed: int
    usage: Usage
    cost: float | None
    minus_billp: PairedDifference | None
    learned: PairedDifference | None
    minus_full: PairedDifference | None
    gap_closed: float | None
    tuning_visits: int
    training_steps: int
    training_visits: int
    critic: PredictionQuality | None
    reliability: list[ReliabilityBin] | None
    replies: dict[str, ReplyCounts]
    curve: NotRequired[list[CurvePoint]]
    returning: NotRequired[list[Return]]


class ShownSettings(TypedDict):
    """Settings of a study that a report shows."""

    train: int
    seeds: int
    cohort: int
    max_steps: int
    visits_per_user: int
    recall: list[str]
    learn_at_test: bool
    context: Context


class Results(TypedDict):
    """Content of results.json."""

    world: str
    world_checksum: NotRequired[str]
    """Missing in runs of earlier versions."""
    model: str
    note: str
    settings: ShownSettings
    rows: list[Row]


class ShownStep(TypedDict):
    """Round of a visit."""

    plan: str
    title: str
    genres: list[str]
    distance: float | None
    reward: float
    next_value: float | None
    left: bool


class ShownLesson(TypedDict):
    """Lesson that a visit recalled."""

    text: str


class ShownVisit(TypedDict):
    """Visit of a dev or test user: a line of visits.jsonl."""

    variant: str
    without: Part | None
    memory: str
    split: str
    seed: int
    user_id: str
    length: int
    total_reward: float
    leave_reason: str | None
    lessons: list[ShownLesson]
    steps: list[ShownStep]


RESULTS_SCHEMA = TypeAdapter(Results)
_VISIT = TypeAdapter(ShownVisit)


def shown_visits(lines: Iterable[JsonMapping]) -> Iterator[ShownVisit]:
    """Yield visits one at a time, so that the rounds of a large study are in memory only once."""
    for line in lines:
        yield _VISIT.validate_python(line)


def read_results(file: Path) -> Results:
    """Read results.json.

    Raises:
        BadInputError: The file is damaged or from another version.
        OSError: The file cannot be read.
    """
    try:
        return RESULTS_SCHEMA.validate_json(file.read_bytes())
    except ValidationError as error:
        raise BadInputError(unreadable(file, error)) from error


def read_visits(file: Path) -> list[JsonMapping]:
    """Read and check visits.jsonl.

    Raises:
        BadInputError: A line is damaged or from another version.
        OSError: The file cannot be read.
    """
    lines: list[JsonMapping] = []
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                lines.append(json.loads(line))
                _VISIT.validate_python(lines[-1])
            except ValueError as error:
                raise BadInputError(unreadable(file, error, f", line {number}")) from error
    return lines


def unreadable(file: Path, error: ValueError, place: str = "") -> str:
    """Return the one-line message about a file of a run that cannot be used."""
    why = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}" if where else first["msg"]
    return f"{file}{place} is damaged or from another version ({why}): run the study again"


# Baselines that follow a rule, fixed or tuned; the gap to `oracle` starts at the best of them.
RULE_BASELINES = ("random", "popular", "greedy", "diverse_greedy", "genre_greedy", "pop_greedy")


def best_rule(rows: Sequence[JsonMapping]) -> str | None:
    """Return the rule with the highest total reward; None if no row is a rule."""
    rules = [row for row in rows if row["variant"] in RULE_BASELINES]
    return max(rules, key=lambda row: float(row["total_reward"]))["variant"] if rules else None
