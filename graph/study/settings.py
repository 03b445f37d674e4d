"""Settings of a study, and its cells."""

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from graph.ablation import PARTS, WHOLE, Part, named
from graph.study.memory_controls import Control
from graph.variants import settings_schema
from nodes.context import Context
from sim.world.data import SplitName

Recall = Literal["own", "shared", "both", "none"]
TRAIN: SplitName = "train"
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
    def test_split(self) -> SplitName:
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
