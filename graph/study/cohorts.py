"""Results by cohort of a study that learns at test: total rewards, and those of the last visits less the first."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graph.report.schema import CohortReward, FirstAndLast
from sim.metrics import summarize, unpaired
from sim.metrics.summary import gap_closed

# Small cohorts are joined up to this number of visits before the last visits are compared with the first.
FEWEST_JOINED = 20

Visit = Mapping[str, Any]


class Cohorts:
    """Cohorts of the test visits of a study.

    Args:
        users: Users in the order of their visits, each once.
        size: Visits of a cohort.
    """

    def __init__(self, users: Sequence[str], size: int) -> None:
        self._number = {user: number for number, user in enumerate(users)}
        self._cohorts = [range(start, min(start + size, len(users))) for start in range(0, len(users), size)]
        self._first_and_last = _joined(self._cohorts)

    def rewards(self, visits: Iterable[Visit]) -> list[CohortReward]:
        """Return the total reward of each cohort over all seeds; a cohort whose visits all failed is left out."""
        found: list[list[Visit]] = [[] for _ in self._cohorts]
        for visit in visits:
            found[self._number[visit["user_id"]] // len(self._cohorts[0])].append(visit)
        return [_reward(cohort, own) for cohort, own in zip(self._cohorts, found, strict=True) if own]

    def first_and_last(
        self, visits: Iterable[Visit], rule: Iterable[Visit], oracle: Iterable[Visit]
    ) -> FirstAndLast | None:
        """Return the total rewards of the first and of the last visits; None if all visits are of one cohort.

        Args:
            visits: Test visits of a row of the results.
            rule: Those of the best rule; empty if no rule takes part.
            oracle: Those of the oracle; empty if it does not take part.
        """
        if self._first_and_last is None:
            return None
        first, last = self._first_and_last
        visits = list(visits)
        early, late = self._of(first, visits), self._of(last, visits)
        if not (early and late):
            return None
        reward = _reward(last, late)
        bounds = [summarize(own)["total_reward"] for one in (rule, oracle) if (own := self._of(last, one))]
        return FirstAndLast(
            first=_reward(first, early),
            last=reward,
            **unpaired(late, early),
            gap_closed=gap_closed(reward["total_reward"], *bounds) if len(bounds) == 2 else None,
        )

    def _of(self, numbers: range, visits: Iterable[Visit]) -> list[Visit]:
        return [visit for visit in visits if self._number[visit["user_id"]] in numbers]


def _reward(numbers: range, visits: Sequence[Visit]) -> CohortReward:
    total = summarize(visits)
    return CohortReward(
        first_visit=numbers.start + 1,
        last_visit=numbers.stop,
        users=len({visit["user_id"] for visit in visits}),
        total_reward=total["total_reward"],
        total_reward_ci=total["total_reward_ci"],
    )


def _joined(cohorts: Sequence[range]) -> tuple[range, range] | None:
    """Return the numbers of the first and of the last visits; None if there is one cohort.

    Both are whole cohorts, as few as have `FEWEST_JOINED` visits, and at most half of the cohorts, so that none is in
    both.
    """
    half, stop = len(cohorts) // 2, cohorts[-1].stop
    if not half:
        return None
    early, late = cohorts[:half], cohorts[-half:]
    first = next((one for one in early if one.stop >= FEWEST_JOINED), early[-1])
    last = next((one for one in reversed(late) if stop - one.start >= FEWEST_JOINED), late[0])
    return range(first.stop), range(last.start, stop)
