"""What a study consists of: its settings, its cells, and who is visited in which order."""

from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nodes.context import Context
from sim.world import World

Split = Literal["train", "dev", "test"]


class StudySettings(BaseModel):
    """What decides the results of a study."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    world: str
    variants: tuple[str, ...] = Field(min_length=1)
    """Variants of the agent and baselines, in the order of the table."""
    train: int = Field(40, ge=0, lt=1_000_000)
    """Train visits of each variant and seed; those of reinforcement learning are counted by `rl_steps`, the
    other baselines do not learn."""
    test: int = Field(40, ge=1, lt=1_000_000)
    """Users visited with what was learned."""
    seeds: int = Field(1, ge=1)
    """Number of seeds; each has a memory of its own."""
    cohort: int = Field(20, ge=1)
    """Visits that learn together."""
    max_steps: int = Field(100, ge=1, le=2_000)
    """Most rounds of a visit."""
    rl_steps: int = Field(100_000, ge=1)
    """Recommendations on the train table from which each reinforcement learning baseline and seed learns."""
    final: bool = False
    """Visit test users instead of dev users."""
    context: Context = Context()
    """Settings of the roles."""

    @property
    def test_split(self) -> Split:
        """Return the split of the users who are visited with what was learned."""
        return "test" if self.final else "dev"


class Cell(NamedTuple):
    """One variant and seed, with a memory of its own."""

    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant}-{self.seed}"


def visitors(world: World, split: Split, count: int, seed: int) -> list[str]:
    """Return users to visit, in an order drawn by seed; more than there are, and they come again in a new order."""
    users = world.split(split).users
    rng = np.random.default_rng(seed)
    rounds = -(-count // len(users))
    return [users[position] for _ in range(rounds) for position in rng.permutation(len(users))][:count]


def visit_seed(seed: int, number: int) -> int:
    """Return the seed of a cell's visit by its number, distinct for distinct arguments below a million visits."""
    return seed * 1_000_000 + number
