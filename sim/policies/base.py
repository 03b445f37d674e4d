"""What a policy is, what it may know, and the pieces that policies are made of."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sim.arrays import Mask
from sim.catalogue import Catalogue
from sim.leave import WINDOW
from sim.world import LogsModel, Split
from sim.world.data import User

Choose = Callable[[Sequence[int]], int]
"""Gives the position of the next item, from those that the visit recommended so far, oldest first."""


@dataclass(frozen=True)
class Knowledge:
    """Hold all that a policy may know: nothing here leads to a reward table.

    Attributes:
        catalogue: The items.
        logs: The fit on the logs alone, and popularity.
        user: Whose visit it is, with history.
        rng: Draws for this visit only.
        ratings: What the user gave the items of this visit so far, oldest first.
    """

    catalogue: Catalogue
    logs: LogsModel
    user: User
    rng: np.random.Generator
    ratings: list[float] = field(default_factory=list)


@runtime_checkable
class Policy(Protocol):
    """Recommend from knowledge alone."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit and return how its items are chosen."""
        ...


@runtime_checkable
class OraclePolicy(Protocol):
    """Recommend from the truth: no recommender, but an upper mark."""

    def begin_with_truth(self, split: Split, user: User) -> Choose:
        """Begin a visit and return how its items are chosen."""
        ...


def visit_rng(seed: int, user_id: str) -> np.random.Generator:
    """Return the generator of one user's visit: the same in every process, whatever was drawn before."""
    digest = hashlib.blake2b(f"{seed}:{user_id}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def fresh_items(n_items: int, recommended: Sequence[int]) -> Mask:
    """Return which items the visit has not had; once it had all, which ones it has not had lately."""
    mask = np.ones(n_items, dtype=bool)
    mask[list(recommended)] = False
    if not mask.any():
        mask[:] = True
        mask[list(recommended[-WINDOW:])] = False
    # A catalogue no larger than the window leaves nothing but repeats.
    return mask if mask.any() else ~mask


def best(scores: NDArray[np.floating], allowed: Mask) -> int:
    """Return the position of the highest allowed score; of equals, the first."""
    return int(np.argmax(np.where(allowed, scores, -np.inf)))
