"""Evidence of pairs: what earlier rounds tell about two items of which one followed the other within four rounds.

A round is evidence of each pair of its item and one of the items before it. If the user stayed, no pair of the round
made them leave. If the user left, one cause did: a pair, or dislike of the item. The leaving is shared among the causes
in proportion to their hazards, as in expectation maximisation (Dempster, Laird and Rubin 1977). The order of the two
items does not matter. The hazard of a pair is then the mean of a Gamma posterior,

    (s h + left) / (s + stayed + left),

with the prior mean h and the strength s, in rounds. The strength is the one with which the pairs of all other rounds
foretell a round best. So it is small where the same pair always ends alike, and large where users differ.

Users of another reward table, such as those of a simulator before a launch, react to other likenesses. Their rounds do
not count in the posterior, and shares and strength are found within each table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from sim.arrays import Doubles, Mask, Positions
from sim.leave import WINDOW

# Strengths to choose from, in rounds. A smaller one fits a single table of rewards still better, but a pair that went
# well on one table goes well on another only somewhat more often.
STRENGTHS = tuple(2.0**power for power in range(8))
# Rounds of expectation maximisation; more change little.
_SHARINGS = 3
NOTHING = -1
"""Mark in `Rounds.recent` where a round had fewer earlier items than fit."""


class RoundOutcome(NamedTuple):
    """Outcome of one step."""

    item: int
    """Position of the recommended item in the catalogue."""
    recent: tuple[int, ...]
    """Positions of the items recommended before it, at most four. A step with none teaches nothing."""
    predicted: float
    """Predicted rating of the item."""
    left: bool
    elsewhere: bool = False
    """Whether the user reacts by another reward table than those whom the evidence is for."""


@dataclass(frozen=True)
class Rounds:
    """Outcomes of rounds as arrays."""

    item: Positions
    """Shape (n_rounds,)."""
    recent: Positions
    """Items before it, shape (n_rounds, 4); `NOTHING` fills the row."""
    predicted: Doubles
    """Shape (n_rounds,)."""
    left: Mask
    """Shape (n_rounds,)."""
    elsewhere: Mask
    """Whether the user reacts by another reward table than those whom the evidence is for, shape (n_rounds,)."""

    @classmethod
    def of(cls, outcomes: Sequence[RoundOutcome]) -> "Rounds":
        """Return the outcomes as arrays."""
        recent = np.full((len(outcomes), WINDOW), NOTHING, dtype=np.intp)
        for row, one in zip(recent, outcomes, strict=True):
            row[: len(one.recent)] = one.recent
        return cls(
            np.array([one.item for one in outcomes], dtype=np.intp),
            recent,
            np.array([one.predicted for one in outcomes], dtype=np.float64),
            np.array([one.left for one in outcomes], dtype=np.bool_),
            np.array([one.elsewhere for one in outcomes], dtype=np.bool_),
        )

    def __len__(self) -> int:
        return len(self.item)

    def only(self, chosen: Mask | Positions) -> "Rounds":
        """Return the chosen rounds, by a mask or by positions."""
        return Rounds(
            self.item[chosen], self.recent[chosen], self.predicted[chosen], self.left[chosen], self.elsewhere[chosen]
        )

    def _columns(self) -> tuple[Positions, Positions, Doubles, Mask, Mask]:
        return self.item, self.recent, self.predicted, self.left, self.elsewhere

    @classmethod
    def joined(cls, parts: Sequence["Rounds"]) -> "Rounds":
        """Return the rounds of all parts."""
        item, recent, predicted, left, elsewhere = zip(*(one._columns() for one in parts), strict=True)
        return cls(*map(np.concatenate, (item, recent, predicted, left, elsewhere)))

    def same(self, other: "Rounds") -> bool:
        """Return whether both hold the same rounds in the same order."""
        return all(np.array_equal(one, two) for one, two in zip(self._columns(), other._columns(), strict=True))

    def with_pairs(self) -> "Rounds":
        """Return the rounds that had an earlier item, in an order that depends on their content alone."""
        kept = self.only((self.recent != NOTHING).any(axis=1))
        return kept.only(np.lexsort((kept.predicted, kept.left, kept.elsewhere, *kept.recent.T, kept.item)))


class Pairs:
    """Pairs of rounds: each pair of items once for each of the two kinds of tables, and where it occurs.

    Attributes:
        low: The item of each pair with the smaller position, shape (n_pairs,).
        high: The other item, shape (n_pairs,).
        elsewhere: Whether the pair is one of another table, shape (n_pairs,).
        pair: Index of the pair of each occurrence, shape (n_occurrences,).
        round: Index of the round of each occurrence, shape (n_occurrences,).
        left: Whether the user left in that round, shape (n_occurrences,).
        stayed: Rounds of each pair in which the user stayed, shape (n_pairs,).
    """

    def __init__(self, rounds: Rounds, n_items: int) -> None:
        self.round, column = np.nonzero(rounds.recent != NOTHING)
        items, others = rounds.item[self.round], rounds.recent[self.round, column]
        low, high = np.minimum(items, others), np.maximum(items, others)
        elsewhere = rounds.elsewhere[self.round]
        keys, self.pair = np.unique((elsewhere * n_items + low) * n_items + high, return_inverse=True)
        self.low, self.high = keys // n_items % n_items, keys % n_items
        self.elsewhere = keys >= n_items * n_items
        self.left = rounds.left[self.round]
        self.stayed = np.bincount(self.pair[~self.left], minlength=len(keys)).astype(np.float64)


@dataclass(frozen=True)
class PairEvidence:
    """Evidence of the pairs of some rounds.

    Attributes:
        stayed: Rounds of each pair in which the user stayed, shape (n_items, n_items), symmetric.
        left: Leavings that fall to each pair, likewise.
        here: Both without the rounds of another table, as they count in the posterior.
        ends: Rounds in which a user left.
        strength: Strength of the prior, in rounds.
    """

    stayed: csr_matrix
    left: csr_matrix
    here: tuple[csr_matrix, csr_matrix]
    ends: Rounds
    strength: float

    def posterior(self, other: int, hazards: Doubles) -> Doubles:
        """Return the hazard of every item paired with one item, given the prior ones; both have shape (n_items,)."""
        stayed, left = (_row(counted, other) for counted in self.here)
        return (self.strength * hazards + left) / (self.strength + stayed + left)

    def known(self, recent: Sequence[int]) -> Mask:
        """Return whether users have taken each item with each recent one and stayed, shape (n_items, len(recent))."""
        taken = [_row(self.stayed, other) > 0 for other in recent]
        return np.array(taken, dtype=np.bool_).reshape(-1, self.stayed.shape[1]).T

    def ended(self, recent: Sequence[int]) -> Positions:
        """Return how many visits ended when each item and one of the recent ones met, shape (n_items,)."""
        n_items = self.stayed.shape[1]
        after = np.flatnonzero(np.isin(self.ends.recent, recent).any(axis=1))
        before, column = np.nonzero(np.isin(self.ends.item, recent)[:, None] & (self.ends.recent != NOTHING))
        # A round counts once for an item, however many of its pairs met.
        items = np.concatenate([self.ends.item[after], self.ends.recent[before, column]])
        met = np.unique(np.concatenate([after, before]) * n_items + items)
        return np.bincount(met % n_items, minlength=n_items)


def _row(matrix: csr_matrix, row: int) -> Doubles:
    """Return a row of a sparse matrix as a dense array; much faster than its own slicing."""
    dense = np.zeros(matrix.shape[1])
    of = slice(matrix.indptr[row], matrix.indptr[row + 1])
    dense[matrix.indices[of]] = matrix.data[of]
    return dense


class Sharing:
    """Leavings of rounds, shared among their causes, for one prior hazard of each pair and of dislike.

    Args:
        pairs: Pairs of the rounds.
        hazards: Prior hazard of each pair, shape (n_pairs,).
        dislike: Hazard of dislike in each round, shape (n_rounds,).
    """

    def __init__(self, pairs: Pairs, hazards: Doubles, dislike: Doubles) -> None:
        self._pairs, self._hazards, self._dislike = pairs, hazards, dislike

    def shares(self, strength: float) -> tuple[Doubles, Doubles]:
        """Return the leavings that fall to each pair, shape (n_pairs,), and to each occurrence in a leaving."""
        pairs = self._pairs
        of_round, of_pair = pairs.round[pairs.left], pairs.pair[pairs.left]
        fallen, own = np.zeros(len(self._hazards)), np.zeros(len(of_round))
        for _ in range(_SHARINGS):
            hazards = (strength * self._hazards + fallen) / (strength + pairs.stayed + fallen)
            own = hazards[of_pair]
            own /= (np.bincount(of_round, own, len(self._dislike)) + self._dislike)[of_round]
            fallen = np.bincount(of_pair, own, len(fallen)).astype(np.float64)
        return fallen, own

    def foretold(self, strength: float) -> Doubles:
        """Return the hazard of each round as all other rounds foretell it, shape (n_rounds,)."""
        pairs = self._pairs
        fallen, own = self.shares(strength)
        left = fallen[pairs.pair]
        left[pairs.left] -= own
        stayed = pairs.stayed[pairs.pair] - ~pairs.left
        hazards = (strength * self._hazards[pairs.pair] + left) / (strength + stayed + left)
        return np.bincount(pairs.round, hazards, len(self._dislike)) + self._dislike


def log_probability(hazards: Doubles, left: Mask) -> float:
    """Return the log probability of rounds, given the hazard of each."""
    return float(np.log(-np.expm1(-hazards[left])).sum() - hazards[~left].sum())


def evidence_of(rounds: Rounds, n_items: int, sharing: Sharing, pairs: Pairs) -> PairEvidence:
    """Return the evidence of rounds, with the strength that foretells each round best from all others."""
    fit = [log_probability(sharing.foretold(strength), rounds.left) for strength in STRENGTHS]
    strength = STRENGTHS[int(np.argmax(fit))]
    fallen, _ = sharing.shares(strength)

    def symmetric(values: Doubles) -> csr_matrix:
        once = coo_matrix((values, (pairs.low, pairs.high)), (n_items, n_items))
        # A pair of an item with itself is on the diagonal, which the transpose would count twice.
        twice = coo_matrix((values * (pairs.low != pairs.high), (pairs.high, pairs.low)), (n_items, n_items))
        return (once + twice).tocsr()

    counted = stayed, left = symmetric(pairs.stayed), symmetric(fallen)
    # Most memories are of one table.
    own = ~pairs.elsewhere
    here = counted if own.all() else (symmetric(own * pairs.stayed), symmetric(own * fallen))
    return PairEvidence(stayed, left, here, rounds.only(rounds.left), float(strength))
