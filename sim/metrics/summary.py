"""Study metrics: means over visits, with bootstrap intervals over users."""

from collections.abc import Iterable, Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import TypedDict

from sim.errors import BadInputError
from sim.leave import LeaveReason
from sim.metrics.bootstrap import mean_interval


class LeaveReasons(TypedDict):
    """Numbers of visits by how they ended."""

    repeat: int
    similar: int
    disliked: int
    chose: int
    stayed: int


class Summary(TypedDict):
    """Metrics of one set of visits; see `summarize`."""

    visits: int
    length: float
    length_with_exit: float
    mean_reward: float
    total_reward: float
    total_reward_ci: list[float]
    prompt_tokens_per_step: float
    cached_tokens_per_step: float
    completion_tokens_per_step: float
    calls_per_step: float
    leave_reasons: LeaveReasons


class PairedDifference(TypedDict):
    """Difference of two sets of visits by the same users; see `paired`."""

    difference: float
    ci: list[float]
    users: int


class _Usage(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    calls: int = Field(0, ge=0)
    prompt_tokens: int = Field(0, ge=0)
    cached_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)


class _VisitTotals(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    user_id: str
    length: int = Field(ge=0)
    length_with_exit: int = Field(ge=0)
    total_reward: float = Field(allow_inf_nan=False)
    left: bool
    leave_reason: LeaveReason | None = None
    usage: _Usage = _Usage()

    @model_validator(mode="after")
    def _agree(self) -> "_VisitTotals":
        if self.length_with_exit != self.length + self.left:
            raise ValueError("length_with_exit must be length, plus one if the user left")
        if self.left != (self.leave_reason is not None):
            raise ValueError("leave_reason must be given exactly if the user left")
        return self


def summarize(visits: Iterable[object]) -> Summary:
    """Summarise visits.

    Args:
        visits: Mappings or objects with the fields of a VisitOutput (`user_id`, `length`, `length_with_exit`,
            `total_reward`, `left`, `leave_reason`, `usage`).

    Returns:
        `length`, `length_with_exit` and `total_reward` are means over visits. `mean_reward` is pooled: the sum of
        rewards over the sum of lengths, so that length x mean_reward = total_reward; 0 if all lengths are 0.
        `total_reward_ci` is the 95% percentile bootstrap interval, with users resampled, not visits. Tokens and calls
        are per step, including the step at which the user left. `leave_reasons` counts visits.

    Raises:
        BadInputError: There are no visits, or a visit lacks a field or contradicts itself.
    """
    checked = _check(visits)
    played = sum(visit.length_with_exit for visit in checked)
    counted = sum(visit.length for visit in checked)
    rewards = np.array([visit.total_reward for visit in checked])
    reasons = LeaveReasons(repeat=0, similar=0, disliked=0, chose=0, stayed=0)
    for visit in checked:
        reasons[visit.leave_reason or "stayed"] += 1
    sums, counts = _by_user(checked)

    def a_step(what: str) -> float:
        return sum(getattr(visit.usage, what) for visit in checked) / played if played else 0.0

    return Summary(
        visits=len(checked),
        length=counted / len(checked),
        length_with_exit=played / len(checked),
        mean_reward=float(rewards.sum()) / counted if counted else 0.0,
        total_reward=float(rewards.mean()),
        total_reward_ci=mean_interval(np.array(list(sums.values())), np.array(list(counts.values()))),
        prompt_tokens_per_step=a_step("prompt_tokens"),
        cached_tokens_per_step=a_step("cached_tokens"),
        completion_tokens_per_step=a_step("completion_tokens"),
        calls_per_step=a_step("calls"),
        leave_reasons=reasons,
    )


def paired(a: Iterable[object], b: Iterable[object]) -> PairedDifference:
    """Compare two sets of visits user by user.

    Args:
        a: Visits as for `summarize`.
        b: Visits of the same users under another policy.

    Returns:
        `difference` is a user's mean total reward in `a` minus that in `b`, as the mean over the users in both sets.
        `ci` is its 95% percentile bootstrap interval over users. `users` counts the users in both sets.

    Raises:
        BadInputError: A set is empty, a visit is invalid, or the sets have no user in common.

    Examples:
        >>> def visit(user, reward):
        ...     return {"user_id": user, "length": 2, "length_with_exit": 2, "total_reward": reward, "left": False}
        >>> difference = paired([visit("ann", 9.0), visit("bob", 6.0)], [visit("ann", 7.0), visit("bob", 6.0)])
        >>> difference["difference"], difference["users"]
        (1.0, 2)
    """
    means = []
    for visits in (a, b):
        sums, counts = _by_user(_check(visits))
        means.append({user: sums[user] / counts[user] for user in sums})
    common = sorted(means[0].keys() & means[1].keys())
    if not common:
        raise BadInputError("the two sets of visits have no user in common; compare runs over the same users")
    differences = np.array([means[0][user] - means[1][user] for user in common])
    return PairedDifference(
        difference=float(differences.mean()), ci=mean_interval(differences, np.ones(len(common))), users=len(common)
    )


def gap_closed(total_reward: float, best_rule: float, oracle: float) -> float | None:
    """Return the share of the gap between the best rule and the oracle that is closed: 0 at the rule, 1 at the oracle.

    Args:
        total_reward: Total reward to place in the gap.
        best_rule: Total reward of the best rule.
        oracle: Total reward of the oracle.

    Returns:
        (total_reward - best_rule) / (oracle - best_rule); negative below the best rule. None if the oracle is no better
        than the best rule, because then there is no gap.
    """
    return (total_reward - best_rule) / (oracle - best_rule) if oracle > best_rule else None


def _check(visits: Iterable[object]) -> list[_VisitTotals]:
    checked = []
    for index, visit in enumerate(visits):
        try:
            checked.append(_VisitTotals.model_validate(dict(visit) if isinstance(visit, Mapping) else visit))
        except ValidationError as error:
            fault = error.errors()[0]
            where = "".join(f"{part}: " for part in fault["loc"])
            raise BadInputError(
                f"visit {index}: {where}{fault['msg']}; give visits with the fields of VisitOutput"
            ) from error
    if not checked:
        raise BadInputError("there are no visits to summarise; run at least one")
    return checked


def _by_user(visits: list[_VisitTotals]) -> tuple[dict[str, float], dict[str, int]]:
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    # Sorted, so that the resamples are the same for every order in which visits finish.
    for visit in sorted(visits, key=lambda visit: visit.user_id):
        sums[visit.user_id] = sums.get(visit.user_id, 0.0) + visit.total_reward
        counts[visit.user_id] = counts.get(visit.user_id, 0) + 1
    return sums, counts
