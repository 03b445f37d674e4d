"""Credit by the Critic: hand-computed advantages, and both rules on the recorded runs of the original."""

import json

import pytest

from nodes.context import Context
from nodes.critic import advantage, credit
from nodes.state import Step
from tests.shared_data import recorded

TD = {"gamma": 0.5, "leave_penalty": 5.0, "reward_offset": 3.0, "rule": "td"}


@pytest.mark.parametrize(
    ("reward", "value", "next_value", "left", "expected"),
    [
        (4.0, 0.0, 0.0, False, 1.0),
        (4.0, 1.0, 3.0, False, 1.5),
        (2.0, 1.0, -2.0, False, -3.0),
        (5.0, 2.0, 5.0, True, -7.0),
        (5.0, -4.5, 5.0, True, -0.5),
    ],
)
def test_td_advantage(reward: float, value: float, next_value: float, left: bool, expected: float) -> None:
    assert advantage(reward, value, next_value, left=left, **TD) == pytest.approx(expected)  # type: ignore[arg-type]


def test_with_no_offset_an_ordinary_rating_comes_out_as_good() -> None:
    paper = Context(reward_offset=0)
    assert credit(Step(index=0, reward=2.5), 0.0, paper).advantage == 2.5
    assert credit(Step(index=0, reward=2.5), 0.0, Context()).advantage == -0.5


def test_an_item_after_which_the_user_left_is_never_stored_as_good() -> None:
    for value in (-5.0, 0.0, 5.0):
        assert (credit(Step(index=3, reward=5.0, value=value, left=True), 5.0, Context()).advantage or 0) <= 0


def test_the_value_difference_rule_is_the_sign_of_the_difference() -> None:
    rule = Context(advantage_rule="value_difference")
    assert credit(Step(index=0, value=1.0, left=True), 2.0, rule).advantage == 1
    assert credit(Step(index=0, value=1.0), 1.0, rule).advantage == 1
    assert credit(Step(index=0, value=1.0), 0.5, rule).advantage == -1


@pytest.mark.shared_data
def test_the_default_rule_never_praises_what_made_a_recorded_user_leave() -> None:
    rows = [json.loads(line) for line in recorded("memory_rule_train.jsonl").read_text(encoding="utf-8").splitlines()]
    ended = [row for row in rows if row["done"]]
    assert sum(row["memory"] > 0 for row in ended) / len(ended) > 0.6
    for row in ended:
        step = Step(index=row["t"], reward=row["reward"] or 0.0, value=row["v"], left=True)
        assert (credit(step, row["v_next"], Context()).advantage or 0) <= 0
