"""Leave-risk model: probability that the user leaves after an item, fitted to the outcomes of earlier recommendations.

A user leaves after an item that is too similar to one of the last four, or that the user dislikes. The threshold of
similarity is unknown, and the logs model shows similarity only roughly. The model therefore gives a hazard to each pair
of the item and a recent item, and one more to dislike. The user stays with probability exp(-sum of hazards), as if all
were independent chance events (a complementary log-log model, Prentice and Gloeckler, Biometrics 1978). The logarithm
of a pair's hazard is linear in the features of the pair from the logs model; the logarithm of the hazard of dislike is
linear in the predicted rating. The fit takes the most probable weights given the observed steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from sim.arrays import Doubles, Positions
from sim.catalogue import Catalogue
from sim.errors import BadInputError
from sim.world import LogsModel

# Number of steps lost if the user leaves.
AHEAD = 100
# Size of the sample of items that represents the catalogue if all pairs would be too many.
_SAMPLE = 2_000
# Share of the sample that counts as near: an item's isolation is its mean distance to these nearest items.
_NEAREST = 0.025
_PAIR = 5
_MIDDLE = 3.0
# Bounds for logarithms of hazards: values beyond them change nothing and would overflow.
_LEAST, _MOST = -30.0, 5.0


class WeightPrior(NamedTuple):
    """Prior of the weights: a normal distribution for each.

    Order of the weights: constant, distance, shared genres, isolation, isolation times distance; then for dislike:
    constant, predicted rating above the middle of the scale.
    """

    means: Doubles
    """Shape (7,)."""
    strengths: Doubles
    """Inverse variances, shape (7,)."""


# Pairs are less risky if they are farther apart, share fewer genres, or consist of items with close neighbours. (The
# logs show little of an item. An item that looks isolated in them is really closer to others, so its distance says
# less.) The means are those that `python -m tests.benchmarks.leave_risk_prior` finds on five cuts of MovieLens that no
# table of results uses; the strengths were chosen by hand, so that the base rate is almost free.
WEIGHT_PRIOR = WeightPrior(
    np.array([-4.4, -2.4, 1.1, 0.6, 0.6, -6.0, -5.1]), np.array([0.05, 10.0, 10.0, 10.0, 10.0, 0.5, 2.0])
)


class RoundOutcome(NamedTuple):
    """Outcome of one step."""

    item: int
    """Position of the recommended item in the catalogue."""
    recent: tuple[int, ...]
    """Positions of the items recommended before it, at most four. A step with none is ignored by the fit."""
    predicted: float
    """Predicted rating of the item, 1 to 5."""
    left: bool


@dataclass(frozen=True)
class LeaveRiskModel:
    """Fitted leave-risk model."""

    pairs: "PairFeatures"
    weights: Doubles
    """Shape (7,): weights of a pair's hazard, then of dislike."""

    @classmethod
    def of(cls, pairs: "PairFeatures", weights: Sequence[float]) -> "LeaveRiskModel":
        """Return the leave-risk model with these weights.

        Raises:
            BadInputError: The number of weights is wrong, or one is not a finite number.
        """
        found = np.asarray(weights, dtype=np.float64)
        if found.shape != WEIGHT_PRIOR.means.shape or not np.isfinite(found).all():
            raise BadInputError(
                "the weights are not those of a leave-risk model; train it again (`billp study --fresh`)"
            )
        return cls(pairs, found)

    @classmethod
    def prior(cls, pairs: "PairFeatures") -> "LeaveRiskModel":
        """Return the model before any observation: every weight is at its prior mean."""
        return cls(pairs, WEIGHT_PRIOR.means.copy())

    def risks(self, recent: Sequence[int], predicted: NDArray[np.floating]) -> Doubles:
        """Return the risk that the user leaves after each item, shape (n_items,); 0 at the first step.

        Args:
            recent: Positions of the last items of the visit, at most four.
            predicted: Predicted rating of every item, shape (n_items,).
        """
        if not recent:
            return np.zeros(len(predicted))
        hazard = np.exp(_bounded(_of_disliked(predicted.astype(np.float64)) @ self.weights[_PAIR:]))
        for other in recent:
            hazard += np.exp(_bounded(self.pairs.with_item(other) @ self.weights[:_PAIR]))
        return np.asarray(-np.expm1(-hazard), dtype=np.float64)


class PairFeatures:
    """Features of pairs of items, as a recommender sees them: distance, shared genres and isolation.

    Distances are in units of the world, 0 at their median and -1 at their 5% quantile, so that the same prior suits
    every world.

    Args:
        catalogue: The items.
        logs: The logs model.
    """

    def __init__(self, catalogue: Catalogue, logs: LogsModel) -> None:
        self._logs = logs
        self._genres = catalogue.genre_matrix.astype(np.float32)
        self._counts = self._genres.sum(axis=1)
        n_items = len(catalogue)
        sample = np.sort(np.random.default_rng(0).choice(n_items, min(n_items, _SAMPLE), replace=False))
        nearest = max(1, round(_NEAREST * len(sample)))
        between = []
        rows = np.empty((len(sample), n_items), dtype=np.float32)
        for row, item in enumerate(sample):
            rows[row] = logs.distances(int(item))
            between.append(rows[row, sample[row + 1 :]])
        # The sample may contain the item itself, at distance 0.
        total = np.partition(rows, min(nearest, len(sample) - 1), axis=0)[: nearest + 1].sum(axis=0) / nearest
        spread = float(total.std())
        self._isolation = (total - total.mean()) / (spread if spread > 0 else 1.0)
        distances = np.concatenate(between) if len(sample) > 1 else np.zeros(1)
        low, self._median = (float(value) for value in np.quantile(distances, (0.05, 0.5)))
        self._unit = max(self._median - low, 1e-6)

    def with_item(self, other: int) -> Doubles:
        """Return the features of every item paired with one item, shape (n_items, 5)."""
        return self._features(np.arange(len(self._counts)), other)

    def of(self, item: int, others: Sequence[int]) -> Doubles:
        """Return the features of one item paired with others, shape (len(others), 5)."""
        return self._features(np.asarray(others, dtype=np.intp), item)

    def _features(self, items: Positions, other: int) -> Doubles:
        distance = (self._logs.distances(other)[items] - self._median) / self._unit
        shared = self._genres[items] @ self._genres[other]
        alike = shared / np.maximum(self._counts[items] + self._counts[other] - shared, 1.0)
        isolation = (self._isolation[items] + self._isolation[other]) / 2
        return np.stack([np.ones(len(items)), distance, alike, isolation, isolation * distance], axis=1)


def fit_leave_risk(
    pairs: PairFeatures, observations: Sequence[RoundOutcome], prior: WeightPrior = WEIGHT_PRIOR
) -> LeaveRiskModel | None:
    """Return the most probable leave-risk model; None if no step had an earlier item in its visit."""
    seen = [one for one in observations if one.recent]
    if not seen:
        return None
    features = np.concatenate([pairs.of(one.item, one.recent) for one in seen])
    of_round = np.repeat(np.arange(len(seen)), [len(one.recent) for one in seen])
    disliked = _of_disliked(np.array([one.predicted for one in seen]))
    left = np.array([one.left for one in seen])

    def loss(weights: Doubles) -> tuple[float, Doubles]:
        """Return the negative log probability of the weights, and its gradient."""
        by_pair = np.exp(_bounded(features @ weights[:_PAIR]))
        of_dislike = np.exp(_bounded(disliked @ weights[_PAIR:]))
        hazard = np.bincount(of_round, by_pair, len(seen)) + of_dislike
        value = hazard[~left].sum() - np.log(-np.expm1(-hazard[left])).sum()
        slope = np.ones(len(seen))
        slope[left] = -1 / np.expm1(hazard[left])
        gradient = np.concatenate([features.T @ (by_pair * slope[of_round]), disliked.T @ (of_dislike * slope)])
        off = weights - prior.means
        return float(value + (prior.strengths * off**2).sum() / 2), gradient + prior.strengths * off

    found = minimize(loss, prior.means, jac=True, method="L-BFGS-B")
    return LeaveRiskModel(pairs, np.asarray(found.x, dtype=np.float64))


def expected_return(risks: Doubles, predicted: NDArray[np.floating], ahead: float = AHEAD) -> Doubles:
    """Return the expected return of each item: its own rating plus the ratings of the steps ahead, if the user stays.

    Args:
        risks: Risk that the user leaves after each item, shape (n_items,).
        predicted: Predicted rating of each item, shape (n_items,).
        ahead: Number of steps lost if the user leaves, each with the 90% quantile of the predicted ratings.
    """
    return np.asarray((1 - risks) * (predicted + ahead * float(np.quantile(predicted, 0.9))), dtype=np.float64)


def _of_disliked(predicted: Doubles) -> Doubles:
    return np.stack([np.ones(len(predicted)), predicted - _MIDDLE], axis=1)


def _bounded(logarithms: Doubles) -> Doubles:
    return np.clip(logarithms, _LEAST, _MOST)
