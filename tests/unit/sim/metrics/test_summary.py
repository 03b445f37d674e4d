from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from sim.errors import BadInputError
from sim.metrics import paired, summarize
from sim.metrics.summary import gap_closed


def visit(
    user: str, rewards: list[float], reason: str | None = None, calls: int = 0, tokens: int = 0
) -> dict[str, Any]:
    return {
        "user_id": user,
        "length": len(rewards),
        "length_with_exit": len(rewards) + (reason is not None),
        "total_reward": sum(rewards),
        "left": reason is not None,
        "leave_reason": reason,
        "usage": {"calls": calls, "prompt_tokens": tokens, "completion_tokens": 1},
        "steps": [],
    }


VISITS = [
    visit("a", [4.0, 5.0, 3.0], "similar", calls=8, tokens=400),
    visit("b", [2.0], "disliked", calls=2, tokens=100),
    visit("c", [4.0, 4.0, 4.0, 4.0], None, calls=10, tokens=500),
]


def test_summary_agrees_with_hand_computed_numbers() -> None:
    summary = summarize(VISITS)
    assert summary["visits"] == 3
    assert summary["length"] == pytest.approx(8 / 3)
    assert summary["length_with_exit"] == pytest.approx(10 / 3)
    assert summary["mean_reward"] == pytest.approx(30 / 8)
    assert summary["total_reward"] == pytest.approx(10.0)
    assert summary["length"] * summary["mean_reward"] == pytest.approx(summary["total_reward"])
    assert summary["prompt_tokens_per_step"] == pytest.approx(100.0)
    assert summary["completion_tokens_per_step"] == pytest.approx(0.3)
    assert summary["cached_tokens_per_step"] == 0.0
    assert summary["calls_per_step"] == pytest.approx(2.0)
    assert summary["leave_reasons"] == {"repeat": 0, "similar": 1, "disliked": 1, "chose": 0, "stayed": 1}


def test_interval_covers_the_mean_and_is_the_same_each_time() -> None:
    rng = np.random.default_rng(5)
    visits = [visit(str(user), [float(rng.normal(40, 10))]) for user in range(100)]
    summary = summarize(visits)
    low, high = summary["total_reward_ci"] or [0.0, 0.0]
    # 1.98 standard errors of 10 / sqrt(100) on each side.
    assert low == pytest.approx(summary["total_reward"] - 1.96, abs=0.4)
    assert high == pytest.approx(summary["total_reward"] + 1.96, abs=0.4)
    assert summarize(reversed(visits)) == summary


def test_users_not_visits_are_resampled() -> None:
    # Ten visits by each of twelve users say no more about users than one visit of each does.
    once = [visit(str(user), [10.0 + user]) for user in range(12)]
    assert summarize(once * 10)["total_reward_ci"] == pytest.approx(summarize(once)["total_reward_ci"])


def test_two_training_runs_of_one_user_are_one_user() -> None:
    once = [visit(str(user), [10.0 + user]) | {"seed": 0} for user in range(12)]
    twice = once + [one | {"seed": 1} for one in once]
    assert summarize(twice)["total_reward_ci"] == pytest.approx(summarize(once)["total_reward_ci"])
    # Runs that differ from each other are a reason to trust the mean less.
    apart = once + [visit(str(user), [30.0 + user]) | {"seed": 1} for user in range(12)]
    low, high = summarize(apart)["total_reward_ci"] or [0.0, 0.0]
    assert low < 15.5 and high > 35.5


def test_fewer_than_ten_users_get_no_interval() -> None:
    few = [visit(str(user), [10.0 + user]) for user in range(9)]
    assert summarize(few)["total_reward_ci"] is None and paired(few, few)["ci"] is None
    assert paired([*few, visit("9", [1.0])], [*few, visit("9", [1.0])])["ci"] == [0.0, 0.0]


def test_objects_are_taken_as_well_as_mappings() -> None:
    @dataclass
    class Usage:
        calls: int = 4
        prompt_tokens: int = 40

    @dataclass
    class Visit:
        user_id: str = "a"
        length: int = 1
        length_with_exit: int = 2
        total_reward: float = 3.0
        left: bool = True
        leave_reason: str = "repeat"
        usage: Usage = field(default_factory=Usage)

    summary = summarize([Visit()])
    assert (summary["calls_per_step"], summary["leave_reasons"]["repeat"]) == (2.0, 1)


def test_a_user_who_leaves_of_their_own_accord_is_counted_apart() -> None:
    reasons = summarize([*VISITS, visit("d", [3.0], "chose")])["leave_reasons"]
    assert reasons == {"repeat": 0, "similar": 1, "disliked": 1, "chose": 1, "stayed": 1}


def test_a_visit_that_ends_at_once_counts_as_zero() -> None:
    summary = summarize([visit("a", [], "disliked")])
    assert (summary["length"], summary["mean_reward"], summary["total_reward"]) == (0.0, 0.0, 0.0)
    assert summary["completion_tokens_per_step"] == 1.0
    # No step at all, so nothing to divide by.
    assert summarize([visit("a", [], calls=3)])["calls_per_step"] == 0.0


def test_usage_that_a_visit_does_not_tell_is_none_and_a_count_of_none_is_taken() -> None:
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "calls")
    none = summarize([VISITS[0] | {"usage": {}}])
    assert [none[f"{name}_per_step"] for name in names] == [0.0] * 4  # type: ignore[literal-required]
    bare = {name: value for name, value in VISITS[0].items() if name != "usage"}
    assert summarize([bare]) == summarize([VISITS[0] | {"usage": dict.fromkeys(names, 0)}]) == none
    told = summarize([VISITS[0] | {"usage": dict(zip(names, (8, 4, 12, 16), strict=True))}])
    assert [told[f"{name}_per_step"] for name in names] == [2.0, 1.0, 3.0, 4.0]  # type: ignore[literal-required]
    for name in names:
        with pytest.raises(BadInputError, match=f"visit 1: usage: {name}: "):
            summarize([VISITS[0], VISITS[0] | {"usage": {name: -1}}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length_with_exit": 3}, "length_with_exit"),
        ({"length": -1, "length_with_exit": 0}, "visit 0: length: "),
        ({"length": -2, "length_with_exit": -1}, "visit 0: length: "),
        ({"length_with_exit": -1}, "visit 0: length_with_exit: "),
        ({"length_with_exit": 3, "left": False}, "leave_reason"),
        ({"leave_reason": None}, "leave_reason"),
        ({"total_reward": float("nan")}, "total_reward"),
        ({"leave_reason": "bored"}, "leave_reason"),
        ({"user_id": None}, "user_id"),
    ],
)
def test_contradicting_visits_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        summarize([VISITS[0] | change])


def test_no_visits_are_refused() -> None:
    with pytest.raises(BadInputError, match="no visits"):
        summarize([])


def test_paired_takes_the_mean_difference_over_common_users() -> None:
    a = [visit("x", [5.0, 5.0]), visit("x", [4.0, 4.0]), visit("y", [3.0]), visit("only-a", [5.0] * 9)]
    b = [visit("y", [5.0]), visit("x", [4.0]), visit("only-b", [1.0])]
    # x: (10 + 8) / 2 - 4 = 5; y: 3 - 5 = -2.
    result = paired(a, b)
    assert result["difference"] == pytest.approx(1.5)
    assert result["users"] == 2


def test_paired_compares_users_within_each_training_run() -> None:
    # The first run is 100 better for all, in both sets, and the second has one user in one set only.
    a = [visit(str(user), [5.0 + 100 * (seed == 0)]) | {"seed": seed} for seed in (0, 1) for user in range(10)]
    b = [one | {"total_reward": one["total_reward"] - 2} for one in a[:-1]]
    assert paired(a, b) == {"difference": pytest.approx(2.0), "ci": pytest.approx([2.0, 2.0]), "users": 10}
    with pytest.raises(BadInputError, match="no user in common"):
        paired(a[:10], b[10:])


def test_pairing_removes_what_users_have_in_common() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(50, 30, 80)
    a = [visit(str(user), [float(value) + 2.0]) for user, value in enumerate(base)]
    b = [visit(str(user), [float(value)]) for user, value in enumerate(base)]
    assert paired(a, b)["ci"] == pytest.approx([2.0, 2.0])


def test_paired_without_common_users_is_refused() -> None:
    with pytest.raises(BadInputError, match="no user in common"):
        paired([visit("a", [1.0])], [visit("b", [1.0])])


def test_the_gap_closed_is_the_part_of_the_way_from_rule_to_oracle() -> None:
    assert gap_closed(150.0, 100.0, 300.0) == pytest.approx(0.25)
    assert gap_closed(100.0, 100.0, 300.0) == 0.0
    assert gap_closed(300.0, 100.0, 300.0) == 1.0
    assert gap_closed(60.0, 100.0, 300.0) == pytest.approx(-0.2)
    assert gap_closed(60.0, 100.0, 100.0) is None
