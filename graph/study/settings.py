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
# Settings that let returning users recall their own records, other users' records, or none.
WHOSE: dict[Recall, dict[str, bool]] = {
    "own": {"private": True},
    "shared": {"recall_own": False},
    "both": {},
    "none": {},
}
# Fields of a visit's line that name the group the visit belongs to.
WITHOUT, MEMORY, CURVE, RETURNING = "without", "memory", "train_visits", "recall"
# Field of a failed visit's line: the reason.
FAILED = "failed"
# Upper bound of visit numbers, so that visits of different cells have different seeds.
MOST_VISITS = 1_000_000
# Each seed is a training of each variant, so more would take months.
MOST_SEEDS = 1_000


class StudySettings(BaseModel):
    """Settings that determine the results of a study."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    world: str
    ablate: bool = False
    """Whether to measure each part of the agent, by the same agent without the part."""
    variants: tuple[str, ...] = Field(min_length=1)
    """Variants of the agent and baselines, in the order of the table. If parts are measured, `billp_outlook`, which has
    all parts, is always included."""
    train: int = Field(40, ge=0, lt=MOST_VISITS)
    """Train visits of each variant and seed, also for `outlook_only`. Reinforcement learning uses `rl_steps`, and the
    other baselines do not learn."""
    test: int = Field(40, ge=1, lt=MOST_VISITS)
    """Number of users visited after training."""
    seeds: int = Field(1, ge=1, le=MOST_SEEDS)
    """Number of seeds; each has its own memory."""
    cohort: int = Field(10, ge=1)
    """Visits per cohort: records are written, and `outlook_only` is fitted, when the cohort ends."""
    max_steps: int = Field(100, ge=1, le=2_000)
    """Maximum rounds of a visit."""
    rl_steps: int = Field(100_000, ge=1)
    """Recommendations on the train table from which each reinforcement learning baseline and seed learns."""
    learn_at_test: bool = False
    """Whether agents and `outlook_only` also learn from test visits, cohort by cohort, as in the original; nothing is
    learned from curve visits."""
    final: bool = False
    """Visit test users instead of dev users."""
    memory: tuple[Control, ...] = ("full",)
    """Memory controls: the train visits' records unchanged (`full`, always included) or changed."""
    curve: int = Field(0, ge=0)
    """Cohorts between two points of the learning curve; 0 for no curve."""
    curve_users: int = Field(20, ge=1, lt=MOST_VISITS)
    """Dev users visited for each point of the curve."""
    visits_per_user: int = Field(1, ge=1, lt=MOST_VISITS)
    """Visits of each returning user; 1 for no returning users."""
    recall: tuple[Recall, ...] = Field(("own", "shared", "none"), min_length=1)
    """Records that returning users recall in addition to those of the train visits: of their own earlier visits
    (`own`), of other users' visits (`shared`), of both, or none."""
    context: SerializeAsAny[Context] = Context()
    """Settings of the roles."""

    @field_validator("variants")
    @classmethod
    def _with_whole(cls, variants: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return (*variants, WHOLE) if info.data.get("ablate") and WHOLE not in variants else variants

    @field_validator("memory")
    @classmethod
    def _full_first(cls, memory: tuple[Control, ...]) -> tuple[Control, ...]:
        # Each control once, in order, with `full` first.
        return tuple(dict.fromkeys(("full", *memory)))

    @field_validator("context", mode="before")
    @classmethod
    def _with_those_of_roles(cls, context: Any, info: ValidationInfo) -> Any:
        # Custom roles add settings of their own.
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
        """Split of the users visited after training."""
        return "test" if self.final else "dev"


class Cell(NamedTuple):
    """Variant and seed with a memory of their own; if parts are measured, also the missing part."""

    variant: str
    seed: int
    without: Part | None = None
    """Part that is switched off."""

    @property
    def name(self) -> str:
        """Display name of the variant."""
        return named(self.variant, self.without)

    def __str__(self) -> str:
        part = "" if self.without is None else f"no-{self.without}-"
        return f"{self.variant}-{part}{self.seed}"


def cells_of(settings: StudySettings) -> list[Cell]:
    """Return the cells of a study in the order of the table; cells without a part follow the whole agent's."""
    return [
        Cell(variant, seed, part)
        for variant in settings.variants
        for part in (None, *(PARTS if settings.ablate and variant == WHOLE else ()))
        for seed in range(settings.seeds)
    ]
