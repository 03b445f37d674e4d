"""Leave-risk model: probability that the user leaves after an item, fitted to the outcomes of earlier recommendations.

A user leaves after an item that is too similar to one of the last four, or that the user dislikes. The threshold of
similarity is unknown, and the logs model shows similarity only roughly. The model therefore gives a hazard to each pair
of the item and a recent item, and one more to dislike. The user stays with probability exp(-sum of hazards), as if all
were independent chance events (a complementary log-log model, Prentice and Gloeckler, Biometrics 1978). The logarithm
of a pair's hazard is linear in the features of the pair from the logs model; the logarithm of the hazard of dislike is
linear in the predicted rating. The fit takes the most probable weights given the observed steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.arrays import Doubles, Mask
from sim.policies.pair_evidence import PairEvidence, Pairs, Rounds, Sharing, evidence_of, log_probability
from sim.policies.pair_features import PairFeatures

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


# Nothing is believed of people but that they rarely leave: the likeness of items may drive them away or keep them, and
# the weights follow the first leavings.
PEOPLE_PRIOR = WeightPrior(
    np.array([-4.4, 0.0, 0.0, 0.0, 0.0, -4.4, 0.0]), np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
)
# Pairs are less risky if they are farther apart, share fewer genres, or consist of items with close neighbours. (The
# logs show little of an item. An item that looks isolated in them is really closer to others, so its distance says
# less.) The means are those that `python -m tests.benchmarks.leave_risk_prior` finds on five cuts of MovieLens that no
# table of results uses; the strengths were chosen by hand. They are high, because weights fitted on one table of
# rewards tell little of another: only many leavings move the weights.
WEIGHT_PRIOR = WeightPrior(
    np.array([-4.4, -2.4, 1.1, 0.6, 0.6, -6.0, -5.1]), np.array([5.0, 100.0, 100.0, 100.0, 100.0, 5.0, 20.0])
)


@dataclass(frozen=True)
class LeaveRiskModel:
    """Leave-risk model: prior hazards from features, and the evidence of pairs.

    Attributes:
        features: Features of pairs.
        weights: Weights of a pair's prior hazard, then of the hazard of dislike, shape (7,).
        evidence: Evidence of pairs; None at the prior.
        tells: Whether the model foretold the rounds better than their leave rate alone; true at the prior, without any.
    """

    features: PairFeatures
    weights: Doubles
    evidence: PairEvidence | None = None
    tells: bool = True

    @classmethod
    def prior(cls, features: PairFeatures) -> "LeaveRiskModel":
        """Return the model before any observation: every weight is at its prior mean."""
        return cls(features, WEIGHT_PRIOR.means.copy())

    def without_pairs(self) -> "LeaveRiskModel":
        """Return the model without the evidence of pairs."""
        return replace(self, evidence=None)

    def risks(self, recent: Sequence[int], predicted: NDArray[np.floating]) -> Doubles:
        """Return the risk that the user leaves after each item, shape (n_items,); 0 at the first step.

        Args:
            recent: Positions of the last items of the visit, at most four.
            predicted: Predicted rating of every item, shape (n_items,).
        """
        return self.risks_and_prior(recent, predicted)[0]

    def risks_and_prior(self, recent: Sequence[int], predicted: NDArray[np.floating]) -> tuple[Doubles, Doubles]:
        """Return the risk after each item as `risks` does, and the same without the evidence of pairs."""
        if not recent:
            return np.zeros(len(predicted)), np.zeros(len(predicted))
        without = _hazards(_of_disliked(predicted.astype(np.float64)), self.weights[_PAIR:])
        hazard = without.copy()
        for other in recent:
            of_pairs = _hazards(self.features.with_item(other), self.weights[:_PAIR])
            without += of_pairs
            hazard += of_pairs if self.evidence is None else self.evidence.posterior(other, of_pairs)
        return -np.expm1(-hazard), -np.expm1(-without)


def fit_leave_risk(features: PairFeatures, outcomes: Rounds, prior: WeightPrior = WEIGHT_PRIOR) -> LeaveRiskModel:
    """Return the leave-risk model learned from rounds; at its prior if no round had an earlier item in its visit.

    The model depends on the rounds alone, not on their order.
    """
    rounds = outcomes.with_pairs()
    if not len(rounds):
        return LeaveRiskModel(features, prior.means.copy())
    pairs = Pairs(rounds, features.n_items)
    of_pairs, disliked = features.of(pairs.low, pairs.high), _of_disliked(rounds.predicted)
    weights = _most_probable(pairs, rounds.left, of_pairs, disliked, prior)
    sharing = Sharing(pairs, _hazards(of_pairs, weights[:_PAIR]), _hazards(disliked, weights[_PAIR:]))
    evidence = evidence_of(rounds, features.n_items, sharing, pairs)
    told = log_probability(sharing.foretold(evidence.strength), rounds.left)
    return LeaveRiskModel(features, weights, evidence, told > _of_leave_rate(rounds.left))


def _most_probable(pairs: Pairs, left: Mask, of_pairs: Doubles, disliked: Doubles, prior: WeightPrior) -> Doubles:
    """Return the most probable weights, without the evidence of pairs."""
    # Imported here, since most visits begin without a fit.
    from scipy.optimize import minimize

    # Where users stayed, hazards add up, so each pair counts once, times its rounds. Only rounds with a leaving are
    # looked at one by one.
    stayed, pair_of, round_of = pairs.stayed, pairs.pair[pairs.left], pairs.round[pairs.left]

    def loss(weights: Doubles) -> tuple[float, Doubles]:
        """Return the negative log probability of the weights, and its gradient."""
        by_pair, of_dislike = _hazards(of_pairs, weights[:_PAIR]), _hazards(disliked, weights[_PAIR:])
        hazard = np.bincount(round_of, by_pair[pair_of], len(left))[left] + of_dislike[left]
        value = stayed @ by_pair + of_dislike[~left].sum() - np.log(-np.expm1(-hazard)).sum()
        slope = np.ones(len(left))
        slope[left] = -1 / np.expm1(hazard)
        slope_of_pair = stayed + np.bincount(pair_of, slope[round_of], len(stayed))
        gradient = np.concatenate([of_pairs.T @ (by_pair * slope_of_pair), disliked.T @ (of_dislike * slope)])
        off = weights - prior.means
        return value + (prior.strengths * off**2).sum() / 2, gradient + prior.strengths * off

    return np.asarray(minimize(loss, prior.means, jac=True, method="L-BFGS-B").x, dtype=np.float64)


def _of_leave_rate(left: Mask) -> float:
    """Return the log probability of rounds, each foretold by the leave rate of the others (by Laplace's rule)."""
    rate = (left.sum() - left + 1) / (len(left) + 1)
    return float(np.log(np.where(left, rate, 1 - rate)).sum())


def expected_return(risks: Doubles, predicted: NDArray[np.floating], ahead: float) -> Doubles:
    """Return the expected return of each item: its own rating plus the ratings of the steps ahead, if the user stays.

    Args:
        risks: Risk that the user leaves after each item, shape (n_items,).
        predicted: Predicted rating of each item, shape (n_items,).
        ahead: Number of steps lost if the user leaves, each with the rating of a liked item.
    """
    return np.asarray((1 - risks) * (predicted + ahead * liked_rating(predicted)), dtype=np.float64)


def liked_rating(predicted: NDArray[np.floating]) -> float:
    """Return the rating that a later step will bring: the 90% quantile of the predicted ratings, shape (n_items,)."""
    return float(np.quantile(predicted, 0.9))


def _of_disliked(predicted: Doubles) -> Doubles:
    return np.stack([np.ones(len(predicted)), predicted - _MIDDLE], axis=1)


def _hazards(features: Doubles, weights: Doubles) -> Doubles:
    return np.exp(np.clip(features @ weights, _LEAST, _MOST))
