"""Schema of results.json and visits.jsonl for reports; fields missing from older studies are allowed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from graph.ablation import Part
from nodes.context import Context
from nodes.llm.endpoint.usage import Usage

Interval = tuple[float, float]
JsonMapping = Mapping[str, Any]


class Difference(BaseModel):
    """Difference in total reward between two variants, paired by user."""

    difference: float
    ci: Interval


class ShownPrediction(BaseModel):
    """Accuracy of the Critic's values."""

    steps: int
    auc: float | None = None
    auc_ci: Interval | None = None
    rank_correlation: float | None = None
    rank_correlation_ci: Interval | None = None


class CurvePoint(BaseModel):
    """Total reward of a variant after a number of train visits."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    cohorts: int
    train_visits: int
    total_reward: float
    """Mean over dev users."""
    total_reward_ci: Interval


class Return(BaseModel):
    """Total reward of returning users at one of their visits."""

    recall: str
    visit: int
    total_reward: float
    total_reward_ci: Interval


class ShownReliability(BaseModel):
    """Rounds of similar predicted leave risk."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    risk: float
    """Mean predicted risk of leaving, 0 to 1."""
    left: float
    """Share of the rounds after which the user left."""
    left_ci: Interval
    rounds: int


class ShownRow(BaseModel):
    """Row of a variant, possibly without a part or with a changed memory."""

    variant: str
    """Name of the variant."""
    without: Part | None = None
    """Part of the agent that is switched off."""
    memory: str = "full"
    agent: bool = False
    """Whether roles play the variant; false for the policy of a baseline."""
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
    """Settings of a study that a report shows."""

    train: int
    seeds: int
    cohort: int
    max_steps: int
    learn_at_test: bool = False
    context: Context


class Results(BaseModel):
    """Results of a study."""

    world: str
    model: str
    note: str
    settings: ShownSettings
    rows: list[ShownRow]


class ShownStep(BaseModel):
    """Round of a visit."""

    plan: str
    title: str
    genres: list[str]
    distance: float | None
    reward: float
    next_value: float | None
    left: bool


class ShownLesson(BaseModel):
    """Lesson that a visit recalled."""

    text: str


class ShownVisit(BaseModel):
    """Visit of a dev or test user."""

    variant: str
    seed: int
    user_id: str
    length: int
    total_reward: float
    leave_reason: str | None
    lessons: list[ShownLesson] = []
    steps: list[ShownStep]


def shown_visits(lines: Iterable[JsonMapping]) -> Iterator[ShownVisit]:
    """Yield visits one at a time, so that the rounds of a large study are in memory only once."""
    for line in lines:
        yield ShownVisit.model_validate(line)


# Baselines that follow a rule, fixed or tuned; the gap to `oracle` starts at the best of them.
RULE_BASELINES = ("random", "popular", "greedy", "diverse_greedy", "genre_greedy", "pop_greedy")


def best_rule(rows: Sequence[JsonMapping]) -> str | None:
    """Return the rule with the highest total reward; None if no row is a rule."""
    rules = [row for row in rows if row["variant"] in RULE_BASELINES]
    return max(rules, key=lambda row: float(row["total_reward"]))["variant"] if rules else None
