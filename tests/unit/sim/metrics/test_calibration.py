"""Calibration: the Critic as a predictor, compared with results computed by hand and by plain loops."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sim.errors import BadInputError
from sim.metrics.calibration import judge_risks, judge_values

Round = tuple[float | None, float]


def visit(user: str, rounds: list[Round], left: bool) -> dict[str, Any]:
    """Return a visit from (next_value, reward) pairs, one per step; with `left`, the user left at the last step."""
    last = len(rounds) - 1
    return {
        "user_id": user,
        "steps": [
            {"next_value": value, "reward": reward, "left": left and index == last}
            for index, (value, reward) in enumerate(rounds)
        ],
    }


def judge(*visits: object) -> Any:
    return judge_values(visits, gamma=0.5, reward_offset=3.0)


def test_the_auc_counts_pairs_of_leaving_and_staying_rounds_and_half_of_ties() -> None:
    # Leaving at -1 and 2, staying at 0, 2 and 3: -1 is below all three; 2 is below one and equal to another.
    result = judge(visit("a", [(0.0, 4.0), (2.0, 4.0), (-1.0, 4.0)], True), visit("b", [(3.0, 4.0), (2.0, 4.0)], True))
    assert result["steps"] == 5
    assert result["auc"] == pytest.approx((3 + 1 + 0.5) / 6)
    assert result["auc_ci"] is None


def test_values_that_foretell_leaving_give_1_and_their_opposite_0() -> None:
    visits = [[(4.0, 4.0), (3.0, 4.0), (-2.0, 4.0)], [(2.0, 4.0), (-3.0, 4.0)]]
    assert judge(*(visit(str(i), list(rounds), True) for i, rounds in enumerate(visits)))["auc"] == 1.0
    turned = [[(-value, reward) for value, reward in rounds] for rounds in visits]
    assert judge(*(visit(str(i), list(rounds), True) for i, rounds in enumerate(turned)))["auc"] == 0.0


def test_the_return_to_come_leaves_out_the_round_itself_and_the_leaving_one() -> None:
    # Returns after the steps: (5-3) + (4-3)/2 = 2.5, then 1, 0 and 0; the reward of the leaving step never counts.
    rounds: list[Round] = [(3.0, 1.0), (2.0, 5.0), (1.0, 4.0), (1.0, 5.0)]
    assert judge(visit("a", rounds, True))["rank_correlation"] == pytest.approx(1.0)
    # With the values in another order: ranks 1 2 3.5 3.5 against 4 3 1.5 1.5.
    upwards: list[Round] = [(1.0, 1.0), (2.0, 5.0), (3.0, 4.0), (3.0, 5.0)]
    assert judge(visit("a", upwards, True))["rank_correlation"] == pytest.approx(-1.0)


def test_rewards_are_discounted_and_offset() -> None:
    rounds: list[Round] = [(2.0, 3.0), (5.0, 2.0), (0.0, 5.0), (1.0, 3.0)]
    # Returns at gamma 0.5: (2-3) + 0.5 (5-3) = 0, then 2, 0 and 0; ranks 2 4 2 2 against values 3 4 1 2.
    result = judge(visit("a", rounds, True))["rank_correlation"]
    assert result == pytest.approx(float(np.corrcoef([3, 4, 1, 2], [2, 4, 2, 2])[0, 1]))
    # Returns at gamma 1: -1 + 2 = 1, then 2, 0 and 0; ranks 3 4 1.5 1.5.
    far = judge_values([visit("a", rounds, True)], gamma=1.0, reward_offset=3.0)
    assert far is not None
    assert far["rank_correlation"] == pytest.approx(float(np.corrcoef([3, 4, 1, 2], [3, 4, 1.5, 1.5])[0, 1]))


def test_the_last_round_at_the_limit_counts_for_leaving_alone() -> None:
    # At the limit, the return after the step of value -5 is unknown; counted as 0, it would spoil the ranks.
    rounds: list[Round] = [(1.0, 4.0), (2.0, 3.5), (3.0, 5.0), (-5.0, 5.0)]
    result = judge(visit("a", rounds, False), visit("b", [(0.0, 4.0)], True))
    assert result["steps"] == 5
    # Returns: (0.5 + 2/2 + 2/4) = 2, (2 + 2/2) = 3 and 2 for a, 0 for b.
    expected = np.corrcoef([2, 3, 4, 1], [2.5, 4, 2.5, 1])[0, 1]
    assert result["rank_correlation"] == pytest.approx(float(expected))
    assert result["auc"] == pytest.approx(3 / 4)


def test_nothing_to_tell_apart_is_none() -> None:
    assert judge(visit("a", [(None, 4.0), (None, 4.0)], True)) is None
    stayed = judge(visit("a", [(1.0, 4.0), (2.0, 4.0), (0.5, 3.2)], False))
    assert stayed["auc"] is None and stayed["auc_ci"] is None
    only = judge(visit("a", [(1.0, 4.0)], True), visit("b", [(2.0, 4.0)], True))
    assert (only["auc"], only["rank_correlation"], only["rank_correlation_ci"]) == (None, None, None)


@pytest.mark.slow
def test_the_interval_is_that_of_users_drawn_with_all_their_rounds() -> None:
    rng = np.random.default_rng(3)
    visits = []
    for user, length in enumerate(rng.integers(2, 9, 40)):
        values = rng.normal(0, 1, length).round(1)
        values[-1] -= 0.8
        rounds: list[Round] = [(float(value), float(rng.uniform(2, 5))) for value in values]
        visits.append(visit(str(user), rounds, True))
    result = judge(*visits)
    by_hand = []
    for _ in range(400):
        drawn = [visits[user]["steps"] for user in rng.integers(40, size=40)]
        left = np.array([step["next_value"] for steps in drawn for step in steps if step["left"]])
        stayed = np.array([step["next_value"] for steps in drawn for step in steps if not step["left"]])
        by_hand.append(np.mean([(a < b) + (a == b) / 2 for a, b in product(left, stayed)]))
    assert result["auc_ci"] == pytest.approx(list(np.quantile(by_hand, [0.025, 0.975])), abs=0.02)
    assert judge(*reversed(visits)) == result


def test_intervals_stay_within_what_is_possible_and_leave_out_draws_that_tell_nothing() -> None:
    # Nine users of ten have one value and one return each, so a draw of these alone has no correlation.
    upwards: list[Round] = [(3.0, 1.0), (2.0, 5.0), (1.0, 4.0)]
    alike = [visit(str(user), [(9.0, 4.0)], False) for user in range(9)]
    some = judge(visit("a", upwards, True), *alike)
    assert some["steps"] == 12 and some["rank_correlation"] == pytest.approx(np.sqrt(3) / 2)
    assert some["rank_correlation_ci"] == pytest.approx([np.sqrt(3) / 2] * 2)
    many = judge(*(visit(str(user), [(4.0, 4.0), (3.0 - user, 4.0)], True) for user in range(10)))
    assert many["auc"] == 1.0 and many["auc_ci"] == [1.0, 1.0]
    low, high = judge(*(visit(str(user), [(user % 3, 4.0), (0.5, 4.0)], True) for user in range(12)))["auc_ci"]
    assert 0.0 <= low < high <= 1.0


def test_training_runs_that_differ_widen_the_interval_of_the_auc() -> None:
    good = [
        visit(str(user), [(4.0, 4.0), (3.0, 4.0), (-2.0 + user % 5, 4.0)], True) | {"seed": 0} for user in range(20)
    ]
    bad = [visit(str(user), [(-4.0, 4.0), (-3.0, 4.0), (4.0, 4.0)], True) | {"seed": 1} for user in range(20)]
    (low, high), (narrow_low, narrow_high) = judge(*good, *bad)["auc_ci"], judge(*good)["auc_ci"]
    assert high - low > 2 * (narrow_high - narrow_low)


def test_objects_are_taken_as_well_as_mappings() -> None:
    step = SimpleNamespace(next_value=1.0, risk=0.25, reward=4.0, left=True)
    visits = [SimpleNamespace(user_id="a", steps=[step])]
    assert judge(*visits)["steps"] == 1
    assert [one["risk"] for one in judge_risks(visits) or []] == [0.25]


@pytest.mark.parametrize("name", ["next_value", "risk", "reward"])
def test_what_is_no_number_is_refused(name: str) -> None:
    step = {"next_value": 1.0, "risk": 0.5, "reward": 4.0, "left": True}
    for odd in (float("nan"), float("inf")):
        with pytest.raises(BadInputError, match="finite number"):
            judge({"user_id": "a", "steps": [step | {name: odd}]})


def test_visits_without_rewards_are_refused() -> None:
    with pytest.raises(BadInputError, match="fields of VisitOutput"):
        judge({"user_id": "a", "steps": [{"next_value": 1.0, "left": True}]})


def with_risks(user: str, risks: list[float | None], left: bool) -> dict[str, Any]:
    """Return a visit from the risk of each step; with `left`, the user left at the last step."""
    of = visit(user, [(None, 4.0)] * len(risks), left)
    return of | {"steps": [step | {"risk": risk} for step, risk in zip(of["steps"], risks, strict=True)]}


def test_risks_are_held_against_how_often_users_left_in_groups_of_like_risk() -> None:
    visits = [with_risks(str(user), [0.1, 0.1, 0.1, 0.3], user < 6) for user in range(10)]
    low, high = judge_risks([*visits, with_risks("x", [None], True)]) or []
    assert [low["risk"], high["risk"]] == pytest.approx([0.1, 0.3])
    assert [(one["left"], one["rounds"]) for one in (low, high)] == [(0.0, 30), (0.6, 10)]
    # Wilson: (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n); 0 to z²/(n + z²) if every user stayed.
    z = 1.959964
    middle, half = 0.6 + z**2 / 20, z * np.sqrt(0.6 * 0.4 / 10 + z**2 / 400)
    assert high["left_ci"] == pytest.approx([(middle - half) / (1 + z**2 / 10), (middle + half) / (1 + z**2 / 10)])
    assert low["left_ci"] == [0.0, pytest.approx(z**2 / (30 + z**2))]
    # The same users in a second training run tell no more.
    low_of_two, high_of_two = judge_risks([one | {"seed": seed} for seed in (0, 1) for one in visits]) or []
    assert high_of_two == {**high, "left_ci": pytest.approx(high["left_ci"]), "rounds": 20}
    assert low_of_two["left_ci"] == pytest.approx(low["left_ci"])


def test_risks_that_differ_make_eight_groups_of_the_same_size() -> None:
    rng = np.random.default_rng(0)
    found = judge_risks([with_risks(str(user), list(rng.random(8)), True) for user in range(30)]) or []
    assert [one["rounds"] for one in found] == [30] * 8
    assert [one["risk"] for one in found] == sorted(one["risk"] for one in found)


def test_without_an_outlook_there_is_no_reliability() -> None:
    assert judge_risks([with_risks("a", [None, None], True), visit("b", [(1.0, 4.0)], False)]) is None
    with pytest.raises(BadInputError, match="fields of VisitOutput"):
        judge_risks([{"user_id": "a", "steps": [{"risk": "high", "reward": 4.0, "left": True}]}])
