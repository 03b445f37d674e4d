"""What a report reads of results.json and visits.jsonl; what an older study does not have is absent, not an error."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from graph.ablation import Part
from nodes.context import Context
from nodes.llm.endpoint.usage import Usage

Interval = tuple[float, float]
JsonMapping = Mapping[str, Any]


class Difference(BaseModel):
    """How much more a variant collects than another one, paired by user."""

    difference: float
    ci: Interval


class ShownPrediction(BaseModel):
    """How well the Critic's values predict."""

    steps: int
    auc: float | None = None
    auc_ci: Interval | None = None
    rank_correlation: float | None = None
    rank_correlation_ci: Interval | None = None


class CurvePoint(BaseModel):
    """What a variant collects after so much training."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    cohorts: int
    train_visits: int
    total_reward: float
    """Mean over dev users."""
    total_reward_ci: Interval


class Return(BaseModel):
    """What users collect at one of their visits."""

    recall: str
    visit: int
    total_reward: float
    total_reward_ci: Interval


class ShownReliability(BaseModel):
    """Rounds of which the outlook said about the same."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    risk: float
    """Mean risk of leaving that the outlook named, 0 to 1."""
    left: float
    """Share of the rounds after which the user left."""
    left_ci: Interval
    rounds: int


class ShownRow(BaseModel):
    """One variant of a study, or one without a part or with its memory changed."""

    variant: str
    """What it is called."""
    without: Part | None = None
    """The part of the agent that was switched off."""
    memory: str = "full"
    agent: bool = False
    """Whether roles play it, and no policy of the baselines."""
    split: str
    visits: int
    failed: int = 0
    length: float
    length_with_exit: float
    mean_reward: float
    total_reward: float
    total_reward_ci: Interval
    prompt_tokens_per_step: float
    calls_per_step: float
    leave_reasons: dict[str, int]
    usage: Usage
    cost: float | None = None
    minus_billp: Difference | None = None
    minus_full: Difference | None = None
    gap_closed: float | None = None
    distinct_items: int | None = None
    tail_share: float | None = None
    repeats: float | None = None
    tuning_visits: int | None = None
    training_steps: int | None = None
    critic: ShownPrediction | None = None
    reliability: list[ShownReliability] | None = None
    curve: list[CurvePoint] = []
    returning: list[Return] = []


class ShownSettings(BaseModel):
    """What decided the results, as far as a report says it."""

    train: int
    seeds: int
    cohort: int
    max_steps: int
    learn_at_test: bool = False
    context: Context


class Results(BaseModel):
    """The results of a study."""

    world: str
    model: str
    note: str
    settings: ShownSettings
    rows: list[ShownRow]


class ShownStep(BaseModel):
    """One round of a visit."""

    plan: str
    title: str
    genres: list[str]
    distance: float | None
    reward: float
    next_value: float | None
    left: bool


class ShownLesson(BaseModel):
    """A lesson that a visit recalled."""

    text: str


class ShownVisit(BaseModel):
    """A visit of a dev or test user."""

    variant: str
    seed: int
    user_id: str
    length: int
    total_reward: float
    leave_reason: str | None
    lessons: list[ShownLesson] = []
    steps: list[ShownStep]


def shown_visits(lines: Iterable[JsonMapping]) -> Iterator[ShownVisit]:
    """Yield visits one at a time: the rounds of a large study do not all have to be in memory twice."""
    for line in lines:
        yield ShownVisit.model_validate(line)


# Baselines that follow a rule, fixed or tuned; the best of those in a study is where its gap begins.
RULE_BASELINES = ("random", "popular", "greedy", "diverse_greedy", "genre_greedy", "pop_greedy")


def best_rule(rows: Sequence[JsonMapping]) -> str | None:
    """Return the rule that collects most; None where none is among the rows."""
    rules = [row for row in rows if row["variant"] in RULE_BASELINES]
    return max(rules, key=lambda row: float(row["total_reward"]))["variant"] if rules else None
