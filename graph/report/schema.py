"""Schema of results.json and visits.jsonl, as far as a report shows them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from graph.ablation import Part
from graph.report.replies import ReplyCounts
from nodes.context import Context
from nodes.llm.endpoint.usage import Usage
from sim.errors import BadInputError
from sim.metrics.calibration import PredictionQuality, ReliabilityBin
from sim.metrics.diversity import Variety
from sim.metrics.summary import PairedDifference, Summary, UnpairedDifference

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


class CohortReward(TypedDict):
    """Total reward of the users of a cohort, or of joined cohorts, of test visits."""

    first_visit: int
    """Number of the first visit, from 1."""
    last_visit: int
    users: int
    total_reward: float
    total_reward_ci: list[float] | None
    """95% interval over users and training runs; null with too few users."""


class FirstAndLast(UnpairedDifference):
    """Total rewards of the first and of the last test visits, and the last minus the first."""

    first: CohortReward
    last: CohortReward
    gap_closed: float | None
    """Share of the gap between the best rule and the oracle that the last visits close, all with the same users."""


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
    reliability_without_pairs: list[ReliabilityBin] | None
    replies: dict[str, ReplyCounts]
    curve: NotRequired[list[CurvePoint]]
    returning: NotRequired[list[Return]]
    by_cohort: NotRequired[list[CohortReward]]
    first_and_last: NotRequired[FirstAndLast]


class Lead(PairedDifference):
    """Total reward of the variant that is ahead, less that of the next best."""

    variant: str
    runner_up: str


class MemoryWorth(PairedDifference):
    """Total reward of an agent with its memory, less that of the same agent with a changed memory."""

    variant: str
    control: str


class Verdict(TypedDict):
    """Answers of a study to its two questions; see `graph.study.verdict`."""

    lead: Lead | None
    memory: MemoryWorth | None
    remembers: bool
    """Whether any variant has a memory."""


class WorldProvenance(TypedDict):
    """World of a study."""

    name: str
    checksum: str
    source: str | None
    """Source of its ratings; null for a world of an earlier version."""
    seed: int
    cut: str
    users: int
    items: int
    ratings: int


class Provenance(TypedDict):
    """Code, command, dates and world of a study."""

    version: str
    commit: str | None
    """Git commit of the project's checkout; null without a checkout or without Git."""
    changed: bool | None
    """Whether the code of the checkout differed from that commit; null without a commit."""
    command: str | None
    """Command line without credentials; null for a study that a program started."""
    started: str
    ended: str
    resumed: int
    world: WorldProvenance


class SavedContext(Context):
    """Settings of a study's visits; those of its own roles may be missing here, because their files are not loaded."""

    model_config = ConfigDict(extra="ignore")


class ShownSettings(TypedDict):
    """Settings of a study that a report shows."""

    train: int
    seeds: int
    cohort: int
    max_steps: int
    visits_per_user: int
    recall: list[str]
    learn_at_test: bool
    context: SavedContext


class Results(TypedDict):
    """Content of results.json."""

    world: str
    world_checksum: NotRequired[str]
    """Missing in runs of earlier versions."""
    model: str
    note: str
    settings: ShownSettings
    verdict: NotRequired[Verdict]
    """Missing in runs of earlier versions."""
    warnings: NotRequired[list[str]]
    """Sentences of `graph.study.warnings`; missing in runs of earlier versions."""
    rows: list[Row]
    provenance: NotRequired[Provenance]
    """The only part that differs between runs of the same study; missing in runs of earlier versions."""


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
# Policy that sees the true rewards: the gap ends here.
UPPER_MARK = "oracle"


def best_rule(rows: Sequence[JsonMapping]) -> str | None:
    """Return the rule with the highest total reward; None if no row is a rule."""
    rules = [row for row in rows if row["variant"] in RULE_BASELINES]
    return max(rules, key=lambda row: float(row["total_reward"]))["variant"] if rules else None
