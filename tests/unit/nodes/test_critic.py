"""Credit by the Critic: hand-computed advantages, and both rules on the recorded runs of the original."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from memory.records import Experience, Value
from nodes.context import Context
from nodes.critic import Judgement, advantage, credit, critic, memories, titles_only
from nodes.state import Step, VisitState
from nodes.user_view import visitor
from nodes.visit_memory import visit_memory
from sim.errors import BadInputError
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


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(BadInputError, match="no advantage rule 'best': use `td` or `value_difference`"):
        advantage(4.0, 0.0, 0.0, left=False, **TD | {"rule": "best"})  # type: ignore[arg-type]


def test_credit_keeps_the_value_and_four_digits_of_the_advantage() -> None:
    step = credit(Step(index=0, reward=4.0, value=0.33333), 1.0, Context(gamma=0.5))
    assert (step.next_value, step.advantage) == (1.0, 1.1667)


def test_the_critic_answers_within_the_range_of_values() -> None:
    assert [Judgement(value=value).value for value in (-5.0, 5.0)] == [-5.0, 5.0]
    for value in (-5.01, 5.01, float("nan")):
        with pytest.raises(ValueError, match="value"):
            Judgement(value=value)


def test_in_the_originals_way_the_critic_sees_titles_and_targets_only() -> None:
    facts = {"now": {"title": "A", "predicted": 3.0}, "values": [{"distance": 0.5, "target": 1.0}], "rounds": []}
    assert titles_only(facts) == {"now": {"title": "A"}, "values": [{"target": 1.0}], "rounds": []}


def runtime() -> Any:
    given: Any = SimpleNamespace(context=None, store=None, server_info=None, execution_info=None)
    return given


async def test_before_a_round_there_is_nothing_to_judge() -> None:
    with pytest.raises(BadInputError, match="no round to judge: put a user before the Critic"):
        await critic(VisitState(world="tiny"), runtime())


@pytest.mark.parametrize(("left", "next_value", "target"), [(False, 2.0, 2.0), (True, 2.0, -2.0), (False, 9.0, 5.0)])
async def test_the_records_of_a_round_describe_the_situation_before_it(
    home: Path, left: bool, next_value: float, target: float
) -> None:
    who = await visitor(VisitState(world="tiny"))
    catalogue, logs = who.open_world.world.catalogue, who.open_world.world.logs
    # An edited title and category are not saved.
    steps = [
        Step(
            index=n,
            item_id=catalogue[n].id,
            title="edited",
            genres=["edited"],
            plan=f"plan {n}",
            reward=4.0,
            risk=n / 20,
        )
        for n in range(7)
    ]
    steps[-1] = steps[-1].model_copy(update={"advantage": 1.5, "left": left, "next_value": next_value})
    state = VisitState(world="tiny", steps=steps)
    context = Context(gamma=0.5, leave_penalty=4.0, reward_offset=3.0)
    found = memories(visit_memory(state, runtime()), state, who, steps[-1], context)
    experience, value = cast(Experience, found[0].value), cast(Value, found[1].value)
    item = catalogue[6]
    assert (experience.item_id, experience.title, experience.genres) == (item.id, item.title, list(item.genres))
    assert experience.recent == [catalogue[n].id for n in (2, 3, 4, 5)]
    assert (experience.plan, experience.reward, experience.left) == ("plan 6", 4.0, left)
    assert experience.advantage == 1.5 and experience.predicted == round(float(who.predicted[6]), 2)
    assert experience.distance == pytest.approx(min(logs.distance(6, n) for n in (2, 3, 4, 5)), abs=0.006)
    assert experience.situation == value.situation == who.situation(steps[:-1])
    # The value is that of the state after the item before.
    assert (value.genres, value.risk) == (list(catalogue[5].genres), 0.25)
    assert value.distance == pytest.approx(min(logs.distance(5, n) for n in (1, 2, 3, 4)), abs=0.006)
    assert value.target == target
    assert len({one.key for one in found}) == len(found) == 2 + left


async def test_the_situation_at_which_the_user_left_has_the_value_of_the_leaving(home: Path) -> None:
    who = await visitor(VisitState(world="tiny"))
    world = who.open_world.world
    steps = [Step(index=n, item_id=world.catalogue[n].id, reward=4.0, risk=n / 10) for n in range(3)]
    steps[-1] = steps[-1].model_copy(update={"left": True})
    state = VisitState(world="tiny", steps=steps)
    memory = visit_memory(state, runtime())

    def values(context: Context) -> list[Value]:
        found = memories(memory, state, who, steps[-1], context)
        return [one.value for one in found if isinstance(one.value, Value)]

    # What led to the leaving is the distance of the last item, not that of the item before.
    before, end = values(Context(leave_penalty=4.0, gamma=0.25))
    assert before.target == -1.0
    item = world.catalogue[2]
    assert (end.target, end.situation, end.genres, end.risk) == (-4.0, who.situation(steps), list(item.genres), 0.2)
    assert end.distance == pytest.approx(min(world.logs.distance(2, n) for n in (0, 1)), abs=0.006)
    assert values(Context(leave_penalty=50.0))[-1].target == -5.0
    # The Critic of the next visit is asked for the value of just such a situation.
    later = memories(memory, state, who, steps[1].model_copy(update={"left": False}), Context())
    assert len(later) == 2
    # The original stored the loss with the situation before.
    assert [one.target for one in values(Context(critic_titles_only=True))] == [-5.0]


def test_a_value_of_an_older_memory_has_neither_categories_nor_risk() -> None:
    old = {"kind": "values", "visit": "v", "user_id": "u", "situation": "s", "distance": 0.5, "target": 1.0}
    value = Value.model_validate(old)
    assert (value.genres, value.risk) == ([], None)


async def test_the_records_of_the_first_round_have_no_distance(home: Path) -> None:
    state = VisitState(world="tiny", steps=[Step(index=0, item_id="1", reward=2.0)])
    who = await visitor(state)
    first = who.open_world.world.catalogue[0]
    step = Step(index=0, item_id=first.id, reward=2.0)
    found = memories(visit_memory(state, runtime()), state, who, step, Context())
    experience, value = cast(Experience, found[0].value), cast(Value, found[1].value)
    assert (experience.distance, experience.recent, experience.advantage) == (None, [], 0.0)
    assert (value.distance, value.target) == (None, -1.0)


@pytest.mark.shared_data
def test_the_default_rule_never_praises_what_made_a_recorded_user_leave() -> None:
    rows = [json.loads(line) for line in recorded("memory_rule_train.jsonl").read_text(encoding="utf-8").splitlines()]
    ended = [row for row in rows if row["done"]]
    assert sum(row["memory"] > 0 for row in ended) / len(ended) > 0.6
    for row in ended:
        step = Step(index=row["t"], reward=row["reward"] or 0.0, value=row["v"], left=True)
        assert (credit(step, row["v_next"], Context()).advantage or 0) <= 0
