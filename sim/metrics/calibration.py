"""Critic and outlook as predictors: do value and risk foretell who leaves, and what a visit will still bring?

A step's `next_value` is V(s_{t+1}), given after the item is known and before its reward is, or whether the user left.
So is its `risk`, the probability that the user leaves by the outlook.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sim.arrays import Doubles, Positions
from sim.errors import BadInputError
from sim.metrics.bootstrap import LEVEL, percentiles, resamples

# Groups of about as many rounds each, of which about the same was said.
GROUPS = 8


class PredictionQuality(TypedDict):
    """Hold how well values predict; see `judge_values`."""

    steps: int
    auc: float | None
    auc_ci: list[float] | None
    rank_correlation: float | None
    rank_correlation_ci: list[float] | None


class ReliabilityBin(TypedDict):
    """Hold rounds of which the outlook said about the same; see `judge_risks`."""

    risk: float
    left: float
    left_ci: list[float]
    rounds: int


class _Step(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    next_value: float | None = Field(None, allow_inf_nan=False)
    risk: float | None = Field(None, allow_inf_nan=False)
    reward: float = Field(allow_inf_nan=False)
    left: bool


class _Visit(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    user_id: str
    steps: list[_Step]


_VISITS = TypeAdapter(list[_Visit], config=ConfigDict(from_attributes=True))


class _JudgedSteps(NamedTuple):
    user_id: str
    value: float
    left: bool
    to_come: float | None


def judge_values(visits: Iterable[object], *, gamma: float, reward_offset: float) -> PredictionQuality | None:
    """Measure the Critic's `next_value` over the rounds of visits, pooled.

    What is still to come after round t is the sum over k >= 1 of gamma^(k-1) (r_{t+k} - reward_offset) over the later
    rounds in which the user stayed: 0 where the user leaves at round t or the next. The last round of a visit that
    reached its limit has no known return, so it counts for leaving alone; for the rounds before it, the return ends
    with the visit.

    Args:
        visits: Mappings or objects with `user_id` and `steps`, each with `next_value`, `reward` and `left`.
        gamma: Discount.
        reward_offset: What is taken from each reward.

    Returns:
        `auc` is the share of pairs of a round at which a user left and one at which none did where the value is lower
        in the former (0.5 is chance), ties counting half; None where there is no such pair. `rank_correlation` is
        Spearman's between value and return to come, ranks of ties averaged; None where either is constant. Each has
        its 95% percentile bootstrap interval with users resampled, without the resamples for which it is None.
        `steps` counts the rounds. None where no round has a value, for there was no Critic.

    Raises:
        BadInputError: A visit that lacks a field.
    """
    checked = _checked(visits)
    judged = [
        _JudgedSteps(visit.user_id, step.next_value, step.left, to_come)
        for visit in checked
        for step, to_come in zip(visit.steps, returns_to_come(visit.steps, gamma, reward_offset), strict=True)
        if step.next_value is not None
    ]
    if not judged:
        return None
    values = np.array([one.value for one in judged])
    leaving = _Leaving(values, np.array([one.left for one in judged]))
    known = [row for row, one in enumerate(judged) if one.to_come is not None]
    ranking = _Ranking(values[known], np.array([judged[row].to_come for row in known], dtype=np.float64))
    names = sorted({one.user_id for one in judged})
    numbers = {name: number for number, name in enumerate(names)}
    users = np.array([numbers[one.user_id] for one in judged], dtype=np.intp)
    auc, auc_ci = _with_interval(leaving, users, len(names))
    correlation, correlation_ci = _with_interval(ranking, users[known], len(names))
    return PredictionQuality(
        steps=len(judged),
        auc=auc,
        auc_ci=auc_ci,
        rank_correlation=correlation,
        rank_correlation_ci=correlation_ci,
    )


def judge_risks(visits: Iterable[object]) -> list[ReliabilityBin] | None:
    """Measure the outlook's `risk` over the rounds of visits, pooled.

    Args:
        visits: As `judge_values` takes them, with `risk` in their steps.

    Returns:
        Up to eight groups of about as many rounds each, by risk. `risk` is its mean in the group, `left` the share of
        its rounds after which the user left, and `left_ci` Wilson's 95% interval of that share. Not the bootstrap over
        users of all other intervals: a group in which nobody left would get one of no width. A user leaves a visit
        once, so that rounds tell nearly as much as if each were another user's. None where no round has a risk, for
        there was no outlook.

    Raises:
        BadInputError: A visit that lacks a field.
    """
    told = [(step.risk, step.left) for visit in _checked(visits) for step in visit.steps if step.risk is not None]
    if not told:
        return None
    risks, left = np.array([risk for risk, _ in told]), np.array([left for _, left in told])
    groups = quantile_groups(risks)
    return [_reliability(risks[groups == one], left[groups == one]) for one in np.unique(groups)]


def _reliability(risks: Doubles, left: NDArray[np.bool_]) -> ReliabilityBin:
    from scipy.stats import binomtest  # Here: it takes a second, which every command would wait for.

    low, high = binomtest(int(left.sum()), len(left)).proportion_ci(LEVEL, "wilson")
    return ReliabilityBin(
        risk=float(risks.mean()), left=float(left.mean()), left_ci=[float(low), float(high)], rounds=len(left)
    )


def quantile_groups(values: Doubles) -> Positions:
    """Return the number of each value's group, from the lowest up: of eight about as large, fewer where many tie."""
    bounds = np.unique(np.quantile(values, np.linspace(0, 1, GROUPS + 1)[1:-1]))
    return np.asarray(np.searchsorted(bounds, values), dtype=np.intp)


def _checked(visits: Iterable[object]) -> list[_Visit]:
    try:
        return _VISITS.validate_python(list(visits))
    except ValidationError as error:
        raise BadInputError(f"{error.errors()[0]['msg']}; give visits with the fields of VisitOutput") from error


def returns_to_come(steps: Sequence[_Step], gamma: float, reward_offset: float) -> list[float | None]:
    """Return what is still to come after each round, as `judge_values` says; None where it is not known."""
    returns: list[float | None] = []
    to_come = 0.0
    for step in reversed(steps):
        returns.append(to_come)
        to_come = 0.0 if step.left else step.reward - reward_offset + gamma * to_come
    if steps and not steps[-1].left:
        returns[0] = None
    return returns[::-1]


class _Leaving:
    """The AUC of low values for leaving, with a weight for each round."""

    def __init__(self, values: Doubles, left: NDArray[np.bool_]) -> None:
        self._groups = _groups(-values)
        self._left = left

    def measure(self, weights: Doubles) -> float | None:
        left = np.bincount(self._groups, weights * self._left)
        stayed = np.bincount(self._groups, weights * ~self._left)
        pairs = left.sum() * stayed.sum()
        below = np.cumsum(stayed) - stayed / 2
        return float(left @ below / pairs) if pairs else None


class _Ranking:
    """Spearman's rank correlation, with a weight for each round."""

    def __init__(self, a: Doubles, b: Doubles) -> None:
        self._groups = (_groups(a), _groups(b))

    def measure(self, weights: Doubles) -> float | None:
        if not weights.sum():
            return None
        a, b = (_ranks(groups, weights) for groups in self._groups)
        spread = float(np.sqrt((weights @ a**2) * (weights @ b**2)))
        return float(weights @ (a * b)) / spread if spread else None


def _groups(values: Doubles) -> Positions:
    """Return for each value how many distinct values are lower."""
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.intp)


def _ranks(groups: Positions, weights: Doubles) -> Doubles:
    """Return the mean ranks of weighted values, less their mean; a weight stands for so many equal values."""
    totals = np.bincount(groups, weights)
    ranks = (np.cumsum(totals) - totals / 2)[groups]
    return np.asarray(ranks - weights @ ranks / weights.sum(), dtype=np.float64)


def _with_interval(
    what: _Leaving | _Ranking, users: Positions, n_users: int
) -> tuple[float | None, list[float] | None]:
    measured = what.measure(np.ones(len(users)))
    if measured is None:
        return None, None
    # A user drawn twice is two users alike, so how often each was drawn is all that a resample says.
    again = [
        what.measure(np.bincount(drawn, minlength=n_users)[users].astype(np.float64))
        for block in resamples(n_users)
        for drawn in block
    ]
    return measured, percentiles([value for value in again if value is not None])
