"""Results by cohort: hand-computed means, joined cohorts, and the gap among the same users."""

from typing import Any

import numpy as np
import pytest

from graph.study.cohorts import Cohorts


def visits(rewards: dict[str, float], seed: int = 0) -> list[dict[str, Any]]:
    return [
        {"user_id": user, "seed": seed, "length": 1, "length_with_exit": 1, "total_reward": reward, "left": False}
        for user, reward in rewards.items()
    ]


def users(count: int) -> list[str]:
    return [f"user {number}" for number in range(count)]


def rising(count: int, step: float = 1.0) -> dict[str, float]:
    return {user: step * number for number, user in enumerate(users(count))}


def test_each_cohort_has_its_numbers_users_and_mean_over_all_seeds() -> None:
    cohorts = Cohorts(users(7), 3)
    found = cohorts.rewards([*visits(rising(7), seed=1), *visits(rising(7, step=3.0), seed=0)])
    assert [(one["first_visit"], one["last_visit"], one["users"]) for one in found] == [(1, 3, 3), (4, 6, 3), (7, 7, 1)]
    assert [one["total_reward"] for one in found] == [2.0, 8.0, 12.0]
    assert [one["total_reward_ci"] for one in found] == [None] * 3


def test_a_cohort_of_enough_users_has_an_interval_and_failed_visits_leave_their_places() -> None:
    rewards = rising(24)
    for failed in (3, *range(12, 24)):
        del rewards[f"user {failed}"]
    (found,) = Cohorts(users(24), 12).rewards(visits(rewards))
    low, high = found["total_reward_ci"] or [0.0, 0.0]
    assert (found["last_visit"], found["users"]) == (12, 11) and low < found["total_reward"] == 63 / 11 < high
    assert Cohorts(users(24), 12).first_and_last(visits(rewards), [], []) is None


@pytest.mark.parametrize(
    ("count", "size", "first", "last"),
    [
        (100, 10, (1, 20), (81, 100)),
        (100, 30, (1, 30), (61, 100)),
        (45, 10, (1, 20), (31, 45)),
        (100, 1, (1, 20), (81, 100)),
        (40, 20, (1, 20), (21, 40)),
        # No visit is among the first and the last.
        (30, 10, (1, 10), (21, 30)),
        (7, 3, (1, 3), (7, 7)),
    ],
)
def test_small_cohorts_are_joined_to_twenty_visits(
    count: int, size: int, first: tuple[int, int], last: tuple[int, int]
) -> None:
    found = Cohorts(users(count), size).first_and_last(visits(rising(count)), [], [])
    assert found is not None
    for part, (begin, end) in ((found["first"], first), (found["last"], last)):
        assert (part["first_visit"], part["last_visit"], part["users"]) == (begin, end, end - begin + 1)
        assert part["total_reward"] == pytest.approx((begin + end) / 2 - 1)
    assert found["difference"] == pytest.approx((sum(last) - sum(first)) / 2)
    assert (found["ci"] is None) == (min(first[1], last[1] - last[0] + 1) < 10)


def test_one_cohort_has_no_first_and_last() -> None:
    assert Cohorts(users(40), 40).first_and_last(visits(rising(40)), [], []) is None


def test_the_gap_is_that_of_the_last_users() -> None:
    # The best rule and the oracle collect more from the last users, who are easier.
    rule = visits({user: 10.0 + 10.0 * (number >= 20) for number, user in enumerate(users(40))})
    oracle = visits({user: 30.0 + 10.0 * (number >= 20) for number, user in enumerate(users(40))})
    cohorts, own = Cohorts(users(40), 20), visits(dict.fromkeys(users(40), 35.0))
    found = cohorts.first_and_last(own, rule, oracle)
    assert found is not None and found["gap_closed"] == 0.75
    without = cohorts.first_and_last(own, rule, [])
    assert without is not None and without["gap_closed"] is None


def test_the_difference_is_uncertain_by_the_users_of_both_sides() -> None:
    rng = np.random.default_rng(3)
    rewards = {user: float(rng.normal(100 if number < 20 else 150, 10)) for number, user in enumerate(users(40))}
    found = Cohorts(users(40), 20).first_and_last(visits(rewards), [], [])
    assert found is not None and found["ci"] is not None
    values = np.array(list(rewards.values()))
    error = float(np.sqrt(sum(np.var(side, ddof=1) / 20 for side in (values[:20], values[20:]))))
    # Welch's interval with 38 degrees of freedom.
    low, high = found["ci"]
    assert low == pytest.approx(found["difference"] - 2.024 * error, abs=0.15 * error)
    assert high == pytest.approx(found["difference"] + 2.024 * error, abs=0.15 * error)
