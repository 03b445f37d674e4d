"""Study metrics: means over visits, with intervals over users and training runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import TypedDict

from sim.arrays import Doubles
from sim.errors import BadInputError
from sim.leave import LeaveReason
from sim.metrics.bootstrap import difference_interval, mean_interval


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
    total_reward_ci: list[float] | None
    prompt_tokens_per_step: float
    cached_tokens_per_step: float
    completion_tokens_per_step: float
    calls_per_step: float
    leave_reasons: LeaveReasons


class PairedDifference(TypedDict):
    """Difference of two sets of visits by the same users; see `paired`."""

    difference: float
    ci: list[float] | None
    users: int


class UnpairedDifference(TypedDict):
    """Difference of two sets of visits by different users; see `unpaired`."""

    difference: float
    ci: list[float] | None


class _Usage(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    calls: int = Field(0, ge=0)
    prompt_tokens: int = Field(0, ge=0)
    cached_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)


class _VisitTotals(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    user_id: str
    seed: int = 0
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
            `total_reward`, `left`, `leave_reason`, `usage`), and `seed`, the number of the training run, 0 if missing.

    Returns:
        `length`, `length_with_exit` and `total_reward` are means over visits. `mean_reward` is pooled: the sum of
        rewards over the sum of lengths, so that length x mean_reward = total_reward; 0 if all lengths are 0.
        `total_reward_ci` is the 95% interval of `sim.metrics.bootstrap`, over users and training runs. Tokens and calls
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
    _, sums, counts = _by_run_and_user(checked)

    def a_step(what: str) -> float:
        return sum(getattr(visit.usage, what) for visit in checked) / played if played else 0.0

    return Summary(
        visits=len(checked),
        length=counted / len(checked),
        length_with_exit=played / len(checked),
        mean_reward=float(rewards.sum()) / counted if counted else 0.0,
        total_reward=float(rewards.mean()),
        total_reward_ci=mean_interval(sums, counts),
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
        `difference` is the mean total reward in `a` minus that in `b` of a user in a training run, as the mean over the
        users and runs in both sets. `ci` is its 95% interval of `sim.metrics.bootstrap`. `users` counts the users.

    Raises:
        BadInputError: A set is empty, a visit is invalid, or the sets have no user in common in any training run.

    Examples:
        >>> def visit(user, reward):
        ...     return {"user_id": user, "length": 2, "length_with_exit": 2, "total_reward": reward, "left": False}
        >>> difference = paired([visit("ann", 9.0), visit("bob", 6.0)], [visit("ann", 7.0), visit("bob", 6.0)])
        >>> difference["difference"], difference["users"]
        (1.0, 2)
    """
    tables = [_by_run_and_user(_check(visits)) for visits in (a, b)]
    common = sorted(tables[0].pairs.keys() & tables[1].pairs.keys())
    if not common:
        raise BadInputError("the two sets of visits have no user in common; compare runs over the same users")
    runs, users = (sorted({pair[place] for pair in common}) for place in (0, 1))
    differences, counts = np.zeros((len(runs), len(users))), np.zeros((len(runs), len(users)))
    for run, user in common:
        means = [table.mean(run, user) for table in tables]
        differences[runs.index(run), users.index(user)] = means[0] - means[1]
        counts[runs.index(run), users.index(user)] = 1
    return PairedDifference(
        difference=float(differences.sum() / counts.sum()), ci=mean_interval(differences, counts), users=len(users)
    )


def unpaired(a: Iterable[object], b: Iterable[object]) -> UnpairedDifference:
    """Compare two sets of visits by different users.

    Args:
        a: Visits as for `summarize`.
        b: Visits of other users.

    Returns:
        `difference` is the mean total reward of the visits in `a` minus that in `b`. `ci` is its 95% interval of
        `sim.metrics.bootstrap`, in which users of both sets are drawn; null if a set has too few users.

    Raises:
        BadInputError: A set is empty, or a visit is invalid.
    """
    # The name of the set is put before each user, so that each set has columns of its own.
    visits = [
        one.model_copy(update={"user_id": f"{name} {one.user_id}"})
        for name, own in (("a", a), ("b", b))
        for one in _check(own)
    ]
    table = _by_run_and_user(visits)
    second = np.zeros(table.sums.shape[1], dtype=bool)
    for (_, user), (_, column) in table.pairs.items():
        second[column] = user.startswith("b")
    means = [table.sums[:, group].sum() / table.counts[:, group].sum() for group in (~second, second)]
    return UnpairedDifference(
        difference=float(means[0] - means[1]), ci=difference_interval(table.sums, table.counts, second)
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


class _RewardTable(NamedTuple):
    """Total rewards by training run and user, in a fixed order, so that visits may finish in any order."""

    pairs: dict[tuple[int, str], tuple[int, int]]
    """Row and column of each training run and user with visits."""
    sums: Doubles
    """Sum of the total rewards, shape (runs, users)."""
    counts: Doubles
    """Number of visits, shape (runs, users)."""

    def mean(self, run: int, user: str) -> float:
        """Return the mean total reward of a user's visits in a training run."""
        place = self.pairs[run, user]
        return float(self.sums[place] / self.counts[place])


def _by_run_and_user(visits: Sequence[_VisitTotals]) -> _RewardTable:
    runs = {run: row for row, run in enumerate(sorted({visit.seed for visit in visits}))}
    users = {user: column for column, user in enumerate(sorted({visit.user_id for visit in visits}))}
    table = _RewardTable({}, np.zeros((len(runs), len(users))), np.zeros((len(runs), len(users))))
    # Sorted, so that sums are rounded in the same way for every order in which visits finish.
    for visit in sorted(visits, key=lambda visit: (visit.seed, visit.user_id, visit.total_reward)):
        place = table.pairs.setdefault((visit.seed, visit.user_id), (runs[visit.seed], users[visit.user_id]))
        table.sums[place] += visit.total_reward
        table.counts[place] += 1
    return table
