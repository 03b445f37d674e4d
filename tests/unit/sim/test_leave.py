from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import BadInputError
from sim.leave import LEAVE_REASONS, LeaveReason, LeaveRule


def far(a: str, b: str) -> float:
    return 1.0


def near(a: str, b: str) -> float:
    return 0.1


RULE = LeaveRule(min_distance=0.3)


def test_defaults_are_those_of_the_paper() -> None:
    assert LeaveRule() == LeaveRule(window=4, min_reward=2.0, min_distance=0.0)


def test_nobody_leaves_at_the_first_step() -> None:
    assert RULE.reason("a", [], 1.0, near) is None


def test_repeat_is_named_before_similar_before_disliked() -> None:
    assert RULE.reason("a", ["b", "a"], 1.0, near) == "repeat"
    assert RULE.reason("c", ["b", "a"], 1.0, near) == "similar"
    assert RULE.reason("c", ["b", "a"], 1.0, far) == "disliked"
    assert RULE.reason("c", ["b", "a"], 2.0, far) is None


def test_both_bounds_are_strict() -> None:
    assert RULE.reason("c", ["a"], 2.0, lambda a, b: 0.3) is None
    assert RULE.reason("c", ["a"], 1.999, lambda a, b: 0.3) == "disliked"
    assert RULE.reason("c", ["a"], 2.0, lambda a, b: 0.299) == "similar"


def test_only_the_last_window_items_count() -> None:
    recent = ["a", "b", "c", "d", "e"]
    assert RULE.reason("a", recent, 5.0, far) is None
    assert RULE.reason("b", recent, 5.0, far) == "repeat"
    assert RULE.reason("x", recent, 5.0, lambda item, other: 0.0 if other == "a" else 1.0) is None
    assert RULE.reason("x", recent, 5.0, lambda item, other: 0.0 if other == "b" else 1.0) == "similar"
    assert LeaveRule(window=1).reason("d", recent, 5.0, far) is None
    assert LeaveRule(window=5).reason("a", recent, 5.0, far) == "repeat"


def test_distance_is_not_asked_about_a_repeat() -> None:
    def never(a: str, b: str) -> float:
        raise AssertionError("asked")

    assert RULE.reason("a", ["a"], 5.0, never) == "repeat"


@pytest.mark.parametrize("window", [0, -1, 1.5, True])
def test_a_window_below_one_is_refused(window: int) -> None:
    with pytest.raises(BadInputError, match="at least 1"):
        LeaveRule(window=window)


@pytest.mark.parametrize("bound", ["min_reward", "min_distance"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bounds_that_are_no_number_are_refused(bound: str, value: float) -> None:
    with pytest.raises(BadInputError, match=f"^{bound} of"):
        LeaveRule(**{bound: value})  # type: ignore[arg-type]


def test_every_reason_is_in_the_list() -> None:
    assert LEAVE_REASONS == get_args(LeaveReason)


@given(
    item=st.integers(0, 9),
    recent=st.lists(st.integers(0, 9), max_size=8),
    reward=st.floats(1, 5),
    window=st.integers(1, 6),
    tau=st.floats(0, 1),
)
def test_reason_agrees_with_the_rule_as_the_paper_states_it(
    item: int, recent: list[int], reward: float, window: int, tau: float
) -> None:
    rule = LeaveRule(window=window, min_distance=tau)
    seen = recent[max(0, len(recent) - window) :]
    gaps = [abs(item - other) / 9 for other in seen]
    leaves = bool(seen) and (item in seen or min(gaps) < tau or reward < 2.0)
    reason = rule.reason(item, recent, reward, lambda a, b: abs(a - b) / 9)
    assert (reason is not None) == leaves
    if reason == "repeat":
        assert item in seen
    elif reason == "similar":
        assert item not in seen and min(gaps) < tau
    elif reason == "disliked":
        assert min(gaps) >= tau and reward < 2.0


def test_recent_may_be_any_sequence() -> None:
    recent: Sequence[str] = ("a", "b")
    assert RULE.reason("a", recent, 5.0, far) == "repeat"
