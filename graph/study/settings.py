"""What a study consists of: its settings, its cells, and who is visited in which order."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from graph.ablation import PARTS, WHOLE, Part, named
from graph.study.memory_controls import Control
from graph.variants import settings_schema
from nodes.context import Context
from sim.world import World

Split = Literal["train", "dev", "test"]
Recall = Literal["own", "shared", "both", "none"]
TRAIN: Split = "train"
# What lets users who come back recall what only they, only others, or all have taught.
WHOSE: dict[Recall, dict[str, bool]] = {
    "own": {"private": True},
    "shared": {"recall_own": False},
    "both": {},
    "none": {},
}
# Fields of a visit's line that say what it is one of.
WITHOUT, MEMORY, CURVE, RETURNING = "without", "memory", "train_visits", "recall"
# Seeds of a cell's visits are told apart below this number.
MOST_VISITS = 1_000_000


class StudySettings(BaseModel):
    """What decides the results of a study."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    world: str
    ablate: bool = False
    """Whether each part of the agent is measured as well, by the same agent without it."""
    variants: tuple[str, ...] = Field(min_length=1)
    """Variants of the agent and baselines, in the order of the table; `billp_outlook`, which has all parts, is always
    among them where each part is measured."""
    train: int = Field(40, ge=0, lt=MOST_VISITS)
    """Train visits of each variant and seed; `outlook_only` learns from as many. Reinforcement learning goes by
    `rl_steps`, and the other baselines do not learn."""
    test: int = Field(40, ge=1, lt=MOST_VISITS)
    """Users visited with what was learned."""
    seeds: int = Field(1, ge=1)
    """Number of seeds; each has a memory of its own."""
    cohort: int = Field(20, ge=1)
    """Visits that learn together."""
    max_steps: int = Field(100, ge=1, le=2_000)
    """Most rounds of a visit."""
    rl_steps: int = Field(100_000, ge=1)
    """Recommendations on the train table from which each reinforcement learning baseline and seed learns."""
    learn_at_test: bool = False
    """Let these visits teach too, cohort by cohort, as the original did; not those of learning curves."""
    final: bool = False
    """Visit test users instead of dev users."""
    memory: tuple[Control, ...] = ("full",)
    """What the train visits wrote as it is (`full`, always among them), and changed in these ways."""
    curve: int = Field(0, ge=0)
    """Cohorts between two points of the learning curve; 0 for none."""
    curve_users: int = Field(20, ge=1, lt=MOST_VISITS)
    """Dev users visited for each of its points."""
    visits_per_user: int = Field(1, ge=1, lt=MOST_VISITS)
    """Visits for which each user comes back, when they do more than once."""
    recall: tuple[Recall, ...] = Field(("own", "shared", "none"), min_length=1)
    """Whose records users who come back are served with, besides those of the train visits: what their own former
    visits wrote, what other users' did, both, or none."""
    context: SerializeAsAny[Context] = Context()
    """Settings of the roles."""

    @field_validator("variants")
    @classmethod
    def _with_whole(cls, variants: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return (*variants, WHOLE) if info.data.get("ablate") and WHOLE not in variants else variants

    @field_validator("memory")
    @classmethod
    def _full_first(cls, memory: tuple[Control, ...]) -> tuple[Control, ...]:
        # Once each, and the same however they were named.
        return tuple(dict.fromkeys(("full", *memory)))

    @field_validator("context", mode="before")
    @classmethod
    def _with_those_of_roles(cls, context: Any, info: ValidationInfo) -> Any:
        # Roles of one's own have settings of their own.
        schema = settings_schema(info.data.get("variants", ()))
        return schema.model_validate(context) if isinstance(context, dict) else context

    @field_validator("recall")
    @classmethod
    def _once(cls, recall: tuple[Recall, ...]) -> tuple[Recall, ...]:
        return tuple(dict.fromkeys(recall))

    @model_validator(mode="after")
    def _enough_seeds(self) -> "StudySettings":
        if self.test * self.visits_per_user >= MOST_VISITS:
            raise ValueError(f"test times visits_per_user must be below {MOST_VISITS:,}")
        return self

    @property
    def test_split(self) -> Split:
        """Return the split of the users who are visited with what was learned."""
        return "test" if self.final else "dev"


class Cell(NamedTuple):
    """One variant and seed, with a memory of its own; where parts are measured, one of a part as well."""

    variant: str
    seed: int
    without: Part | None = None
    """The part that is switched off."""

    @property
    def name(self) -> str:
        """Return what its variant is called."""
        return named(self.variant, self.without)

    def __str__(self) -> str:
        part = "" if self.without is None else f"no-{self.without}-"
        return f"{self.variant}-{part}{self.seed}"


def cells_of(settings: StudySettings) -> list[Cell]:
    """Return the cells of a study in the order of the table; those without a part follow the whole agent's."""
    return [
        Cell(variant, seed, part)
        for variant in settings.variants
        for part in (None, *(PARTS if settings.ablate and variant == WHOLE else ()))
        for seed in range(settings.seeds)
    ]


class Stage(NamedTuple):
    """Visits that see the same memory."""

    name: str
    """Names the visits, with their numbers; stages of one name count on."""
    split: Split
    users: Sequence[str]
    start: int
    """Number of the first visit."""
    learns: bool
    """Whether what they teach is written when all of them have ended."""
    about: dict[str, Any]
    """What the lines of its visits say besides."""

    @property
    def numbers(self) -> range:
        """Return the numbers of its visits."""
        return range(self.start, self.start + len(self.users))


class Course(NamedTuple):
    """Stages that follow each other, with a memory of their own."""

    name: str
    """Names the memory; empty for that of the train visits."""
    begins_with: Control
    """What is in it of what the train visits taught."""
    stages: tuple[Stage, ...]
    changes: Mapping[str, Any] = {}
    """Settings of the roles that are others than the study's."""


def courses(world: World, settings: StudySettings, seed: int, remembers: bool) -> Iterator[Course]:
    """Yield the courses of a cell, that of the train visits first: the others begin with what these taught.

    Args:
        world: Where its users live.
        settings: What decides the results.
        seed: Seed of the cell.
        remembers: Whether its variant remembers anything; if not, memory cannot change its visits.
    """
    users = visitors(world, settings.test_split, settings.test, 0)
    tested: tuple[Stage, ...] = (Stage(settings.test_split, settings.test_split, users, 0, False, {MEMORY: "full"}),)
    if settings.learn_at_test and remembers:
        tested = tuple(_cohorts(tested[0], settings.cohort))
    yield Course("", "empty", (*_training(world, settings, seed, remembers), *tested))
    if not remembers:
        return
    for control in settings.memory[1:]:
        yield Course(control, control, tuple(one._replace(name=control, about={MEMORY: control}) for one in tested))
    if settings.visits_per_user == 1:
        return
    for recall in settings.recall:
        name = f"returning-{recall}"
        stages = tuple(
            Stage(
                name,
                settings.test_split,
                users,
                visit * len(users),
                recall != "none",
                {MEMORY: "full", RETURNING: recall, "visit": visit + 1},
            )
            for visit in range(settings.visits_per_user)
        )
        yield Course(name, "full", stages, WHOSE[recall])


def _cohorts(stage: Stage, size: int) -> Iterator[Stage]:
    """Yield a stage in cohorts, each of which recalls what those before it taught."""
    for start in range(0, len(stage.users), size):
        yield stage._replace(users=stage.users[start : start + size], start=stage.start + start, learns=True)


def _training(world: World, settings: StudySettings, seed: int, remembers: bool) -> Iterator[Stage]:
    """Yield the train cohorts, and the points of the learning curve between them."""
    train = visitors(world, TRAIN, settings.train, seed)
    every = settings.curve if remembers else 0
    watched = visitors(world, "dev", settings.curve_users, 0) if every else []
    cohorts = list(_cohorts(Stage(TRAIN, TRAIN, train, 0, True, {MEMORY: "full"}), settings.cohort))
    for number, cohort in enumerate(cohorts):
        if every and number % every == 0:
            yield _point(watched, number, cohort.start)
        yield cohort
    if every and len(cohorts) % every == 0:
        yield _point(watched, len(cohorts), len(train))


def _point(watched: Sequence[str], cohorts: int, train_visits: int) -> Stage:
    about = {MEMORY: "full", "cohorts": cohorts, CURVE: train_visits}
    return Stage(f"curve-{cohorts}", "dev", watched, 0, False, about)


def visitors(world: World, split: Split, count: int, seed: int) -> list[str]:
    """Return users to visit, in an order drawn by seed; more than there are, and they come again in a new order."""
    users = world.split(split).users
    rng = np.random.default_rng(seed)
    rounds = -(-count // len(users))
    return [users[position] for _ in range(rounds) for position in rng.permutation(len(users))][:count]


def visit_seed(seed: int, number: int) -> int:
    """Return the seed of a cell's visit by its number, distinct for distinct arguments below `MOST_VISITS`."""
    return seed * MOST_VISITS + number
