"""Policy interface: the protocol, the knowledge a policy may use, and helpers that policies share."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sim.arrays import Mask, Positions
from sim.catalogue import Catalogue
from sim.leave import WINDOW
from sim.world import LogsModel, Split
from sim.world.data import User

Choose = Callable[[Sequence[int]], int]
"""Function from the positions recommended so far in a visit, oldest first, to the position of the next item."""


@dataclass(frozen=True)
class Knowledge:
    """Knowledge that a policy may use in a visit; no field leads to a reward table.

    Attributes:
        catalogue: The items.
        logs: The model fitted on the logs alone, and popularity.
        user: The user of the visit, with history.
        rng: Random generator of this visit only.
        ratings: The user's rewards in this visit so far, oldest first.
        missing: Positions of items that this visit does not offer.
        known: Positions of items that the user had before the visit (`World.withheld`).
    """

    catalogue: Catalogue
    logs: LogsModel
    user: User
    rng: np.random.Generator
    ratings: list[float] = field(default_factory=list)
    missing: Positions = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    known: Positions = field(default_factory=lambda: np.empty(0, dtype=np.intp))

    def fresh(self, recommended: Sequence[int]) -> Mask:
        """Return a mask of the items to choose from: new to the visit, not missing, and not known."""
        return offered_items(len(self.catalogue), recommended, self.missing, self.known)


@runtime_checkable
class Policy(Protocol):
    """Policy that recommends from knowledge alone."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit and return the function that chooses its items."""
        ...


@runtime_checkable
class OraclePolicy(Protocol):
    """Policy that recommends from the truth: not a recommender, but an upper bound."""

    def begin_with_truth(self, knowledge: Knowledge, split: Split) -> Choose:
        """Start a visit and return the function that chooses its items."""
        ...


def visit_rng(seed: int, user_id: str) -> np.random.Generator:
    """Return the random generator of one user's visit: the same in every process, for every order of visits."""
    digest = hashlib.blake2b(f"{seed}:{user_id}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def fresh_items(n_items: int, recommended: Sequence[int]) -> Mask:
    """Return a mask of the items new to the visit; if none is left, of the items outside its last four."""
    mask = np.ones(n_items, dtype=bool)
    mask[list(recommended)] = False
    if not mask.any():
        mask[:] = True
        mask[list(recommended[-WINDOW:])] = False
    # A catalogue no larger than the window has only repeats: allow all of them.
    return mask if mask.any() else ~mask


def offered_items(n_items: int, recommended: Sequence[int], *left_out: Positions) -> Mask:
    """Return a mask of the items to choose from: those of `fresh_items`, without the groups of positions `left_out`.

    The groups are taken out in their order; a group stays in if nothing else would remain.
    """
    mask = fresh_items(n_items, recommended)
    for positions in left_out:
        rest = mask.copy()
        rest[positions] = False
        mask = rest if rest.any() else mask
    return mask


def best(scores: NDArray[np.floating], allowed: Mask) -> int:
    """Return the position of the highest allowed score; the first one if several are equal."""
    return int(np.argmax(np.where(allowed, scores, -np.inf)))
