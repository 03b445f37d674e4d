"""Calibration: quality of the Critic's value and of the leave-risk model's risk as predictions of a visit.

A step's `next_value` is V(s_{t+1}). The Critic gives it when the item is known, but before the reward and before the
user stays or leaves. The same holds for `risk`, the leave-risk model's probability that the user leaves.
"""

from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sim.arrays import Doubles, Positions
from sim.errors import BadInputError
from sim.metrics.bootstrap import LEVEL, interval

# Number of groups of similar predictions, with about equally many steps in each.
GROUPS = 8


class PredictionQuality(TypedDict):
    """Quality of values as predictions; see `judge_values`."""

    steps: int
    auc: float | None
    auc_ci: list[float] | None
    rank_correlation: float | None
    rank_correlation_ci: list[float] | None


class ReliabilityBin(TypedDict):
    """Steps of similar predicted risk; see `judge_risks`."""

    risk: float
    left: float
    left_ci: list[float]
    rounds: int


class _JudgedStep(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    next_value: float | None = Field(None, allow_inf_nan=False)
    risk: float | None = Field(None, allow_inf_nan=False)
    prior_risk: float | None = Field(None, allow_inf_nan=False)
    reward: float = Field(allow_inf_nan=False)
    left: bool


class _JudgedVisit(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    user_id: str
    seed: int = 0
    steps: list[_JudgedStep]


_VISITS = TypeAdapter(list[_JudgedVisit], config=ConfigDict(from_attributes=True))


class _Judged(NamedTuple):
    seed: int
    user_id: str
    value: float
    left: bool
    to_come: float | None


def judge_values(visits: Iterable[object], *, gamma: float, reward_offset: float) -> PredictionQuality | None:
    """Measure the Critic's `next_value` over all steps of the visits, pooled.

    The return after step t is the sum over k >= 1 of gamma^(k-1) (r_{t+k} - reward_offset), over the later steps at
    which the user stayed. It is 0 if the user leaves at step t or at the next. If a visit reached its limit, the return
    after its last step is unknown, so that step counts only for `auc`; the returns of its earlier steps stop at the
    limit.

    Args:
        visits: Mappings or objects with `user_id`, `steps`, each step with `next_value`, `reward` and `left`, and
            `seed`, the number of the training run, 0 if missing.
        gamma: Discount factor.
        reward_offset: Number subtracted from each reward.

    Returns:
        `auc` compares each step at which a user left with each step at which a user stayed: the share of pairs in which
        the leaving step has the lower value (0.5 is chance). Ties count half. None if there are no such pairs.
        `rank_correlation` is Spearman's correlation between value and return, with averaged ranks for ties. None if
        either is constant. Each comes with its 95% interval of `sim.metrics.bootstrap`, over users and training runs;
        resamples in which it is None are left out. `steps` counts the steps with a value. The result is None if no step
        has a value, as in a study without a Critic.

    Raises:
        BadInputError: A visit lacks a field.
    """
    checked = _checked(visits)
    judged = [
        _Judged(visit.seed, visit.user_id, step.next_value, step.left, to_come)
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
    runs, users = _numbered([one.seed for one in judged]), _numbered([one.user_id for one in judged])
    auc, auc_ci = _with_interval(leaving, runs, users)
    correlation, correlation_ci = _with_interval(ranking, runs, users, known)
    return PredictionQuality(
        steps=len(judged),
        auc=auc,
        auc_ci=auc_ci,
        rank_correlation=correlation,
        rank_correlation_ci=correlation_ci,
    )


def judge_risks(visits: Iterable[object], name: Literal["risk", "prior_risk"] = "risk") -> list[ReliabilityBin] | None:
    """Measure the leave-risk model's `risk` over all steps of the visits, pooled.

    Args:
        visits: Visits as for `judge_values`, with risks in their steps.
        name: Field of the risk; `prior_risk` is that without the evidence of pairs.

    Returns:
        Up to eight groups of about equally many steps, by risk. `risk` is the mean risk of the group, `left` the share
        of its steps at which the user left, `left_ci` Wilson's 95% interval of that share. All other intervals use the
        bootstrap over users, but for a group in which every user stayed it would have width 0. Wilson's interval treats
        steps as independent; that is nearly right, because a user leaves a visit only once. A user's visits in several
        training runs count as one. None if no step has a risk, as in a study without a leave-risk model.

    Raises:
        BadInputError: A visit lacks a field.
    """
    checked = _checked(visits)
    steps = [(getattr(step, name), step.left) for visit in checked for step in visit.steps]
    predicted = [(risk, left) for risk, left in steps if risk is not None]
    if not predicted:
        return None
    visits_a_user = len(checked) / len({visit.user_id for visit in checked})
    risks, left = np.array([risk for risk, _ in predicted]), np.array([left for _, left in predicted])
    groups = quantile_groups(risks)
    return [_reliability(risks[groups == one], left[groups == one], visits_a_user) for one in np.unique(groups)]


def _reliability(risks: Doubles, left: NDArray[np.bool_], visits_a_user: float) -> ReliabilityBin:
    share = float(left.mean())
    return ReliabilityBin(
        risk=float(risks.mean()), left=share, left_ci=wilson(share, len(left) / visits_a_user), rounds=len(left)
    )


def wilson(share: float, count: float) -> list[float]:
    """Return Wilson's 95% interval of a share (Journal of the American Statistical Association 1927).

    Args:
        share: Observed share, 0 to 1.
        count: Number of independent observations, above 0; it need not be whole.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    middle = share + z**2 / (2 * count)
    half = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    low, high = ((middle + side * half) / (1 + z**2 / count) for side in (-1, 1))
    return [max(low, 0.0), min(high, 1.0)]


def quantile_groups(values: Doubles) -> Positions:
    """Return each value's group, lowest first: eight groups of about equal size, fewer if many values tie."""
    bounds = np.unique(np.quantile(values, np.linspace(0, 1, GROUPS + 1)[1:-1]))
    return np.asarray(np.searchsorted(bounds, values), dtype=np.intp)


def _checked(visits: Iterable[object]) -> list[_JudgedVisit]:
    try:
        return _VISITS.validate_python(list(visits))
    except ValidationError as error:
        raise BadInputError(f"{error.errors()[0]['msg']}; give visits with the fields of VisitOutput") from error


def returns_to_come(steps: Sequence[_JudgedStep], gamma: float, reward_offset: float) -> list[float | None]:
    """Compute the return after each step, as defined in `judge_values`; None if unknown."""
    returns: list[float | None] = []
    to_come = 0.0
    for step in reversed(steps):
        returns.append(to_come)
        to_come = 0.0 if step.left else step.reward - reward_offset + gamma * to_come
    if steps and not steps[-1].left:
        returns[0] = None
    return returns[::-1]


class _Leaving:
    """AUC of low values as a sign of leaving, with a weight for each step."""

    bounds = (0.0, 1.0)

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
    """Spearman's rank correlation, with a weight for each step."""

    bounds = (-1.0, 1.0)

    def __init__(self, a: Doubles, b: Doubles) -> None:
        self._groups = (_groups(a), _groups(b))

    def measure(self, weights: Doubles) -> float | None:
        if not weights.sum():
            return None
        a, b = (_ranks(groups, weights) for groups in self._groups)
        spread = float(np.sqrt((weights @ a**2) * (weights @ b**2)))
        return float(weights @ (a * b)) / spread if spread else None


def _groups(values: Doubles) -> Positions:
    """Return, for each value, the number of distinct values below it."""
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.intp)


def _ranks(groups: Positions, weights: Doubles) -> Doubles:
    """Return the centred mean ranks of weighted values; a weight w counts as w equal values."""
    totals = np.bincount(groups, weights)
    ranks = (np.cumsum(totals) - totals / 2)[groups]
    return np.asarray(ranks - weights @ ranks / weights.sum(), dtype=np.float64)


def _numbered(values: Sequence[Any]) -> Positions:
    """Return the number of each value among the distinct values, in ascending order."""
    return np.asarray(np.unique(np.array(values), return_inverse=True)[1], dtype=np.intp)


def _with_interval(
    what: _Leaving | _Ranking, runs: Positions, users: Positions, known: Sequence[int] | slice = slice(None)
) -> tuple[float | None, list[float] | None]:
    """Return a statistic of the known steps and its interval; training runs and users count with all their steps."""
    of_run, of_user = runs[known], users[known]

    def measure(weights: Doubles, run: int | None) -> Doubles:
        # A user drawn twice counts as two equal users.
        chosen = np.ones(len(of_run)) if run is None else (of_run == run).astype(np.float64)
        found = (what.measure(row[of_user] * chosen) for row in weights)
        return np.array([np.nan if value is None else value for value in found])

    n_users = int(users.max()) + 1
    (measured,) = measure(np.ones((1, n_users)), None).tolist()
    if np.isnan(measured):
        return None, None
    found = interval(measure, int(runs.max()) + 1, n_users)
    return measured, None if found is None else np.clip(found, *what.bounds).tolist()
