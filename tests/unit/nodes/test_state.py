"""State of a visit: reducers, validation and settings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.context import Context
from nodes.llm.endpoint.usage import Usage
from nodes.state import MAX_KEY, InvalidValue, Step, VisitInput, VisitState, keyed
from sim.errors import BadInputError

merge = keyed(Step, lambda step: step.index, "index", 100)
steps = st.lists(st.builds(Step, index=st.integers(0, 5), title=st.text(max_size=3)), max_size=8)


def test_a_completed_step_replaces_the_one_with_its_index() -> None:
    merged = merge([Step(index=0, title="a"), Step(index=1, title="b")], [[Step(index=0, title="A")]])
    assert [step.title for step in merged] == ["A", "b"]


def test_an_edit_over_the_api_arrives_as_dicts_and_becomes_steps() -> None:
    merged = merge([{"index": 0, "title": "a"}], [[{"index": 1, "title": "b"}], {"index": 0, "title": "c"}])
    assert merged == [Step(index=0, title="c"), Step(index=1, title="b")]


@given(st.recursive(st.none() | st.booleans() | st.text() | st.floats(), lambda inner: st.lists(inner)))
def test_the_reducer_never_raises(junk: Any) -> None:
    assert merge([Step(index=0)], [junk, [junk]])[0] == Step(index=0)


def test_an_invalid_entry_stays_in_its_place_until_another_edit_corrects_it() -> None:
    current = [Step(index=0, title="a"), Step(index=1, title="b")]
    broken = merge(current, [[{"index": 0, "reward": "much"}]])
    fault = "reward: Input should be a valid number, unable to parse string as a number"
    assert broken == [InvalidValue(fault=fault, key=0), current[1]]
    # It outlives further writes, and the next node names it.
    again = merge(broken, [[Step(index=1, title="B")]])
    assert again == [broken[0], Step(index=1, title="B")]
    with pytest.raises(BadInputError, match=f"^steps: 0: {fault}$"):
        VisitState(steps=again).check_types()
    assert merge(again, [[{"index": 0, "title": "c"}]]) == [Step(index=0, title="c"), Step(index=1, title="B")]
    VisitState(steps=current).check_types()


def test_an_invalid_entry_without_a_key_is_left_out_and_a_long_key_is_cut() -> None:
    assert merge([], [[{"reward": "much"}, {"index": None}, {"index": [1]}, "x"]]) == []
    (odd,) = merge([], [[{"index": "k" * (MAX_KEY + 1)}]])
    assert isinstance(odd, InvalidValue) and odd.key == "k" * MAX_KEY and odd.fault.startswith("index: ")


def test_of_one_write_the_first_entries_count() -> None:
    few = keyed(Step, lambda step: step.index, "index", 2)
    written = [Step(index=index) for index in (5, 3, 4)]
    assert few([], [written]) == written[:2]
    assert few(None, [written[:2], written[2:]]) == written


@given(steps, st.lists(steps, max_size=3), st.lists(steps, max_size=3))
def test_the_reducer_gives_the_same_in_whatever_batches(current: Any, first: Any, second: Any) -> None:
    # DeltaChannel requires this of a reducer, so that it rebuilds a checkpoint exactly.
    assert merge(merge(current, first), second) == merge(current, first + second)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_steps", "many"), ("history", "Heat"), ("seed", None), ("proposal", 7), ("usage", "free"), ("value", "high")],
)
def test_a_value_of_the_wrong_type_stays_readable_and_is_named(field: str, value: Any) -> None:
    state = VisitState(**{field: value})
    with pytest.raises(BadInputError, match=f"^{field}: "):
        state.check_types()


def test_the_form_of_the_input_is_plain() -> None:
    schema = VisitInput.model_json_schema()
    assert schema.get("required", []) == []
    assert {name: one["type"] for name, one in schema["properties"].items()} == {
        "world": "string",
        "user_id": "string",
        "history": "array",
        "seed": "integer",
        "max_steps": "integer",
    }
    assert all(one["description"] for one in schema["properties"].values())


def test_each_role_has_its_prompt_on_its_node() -> None:
    schema = Context.model_json_schema()["properties"]
    nodes = {role: role for role in ("planner", "actor", "critic", "reflector")} | {"user": "llm_user"}
    for role, node in nodes.items():
        assert schema[f"{role}_prompt"]["langgraph_type"] == "prompt"
        assert schema[f"{role}_prompt"]["langgraph_nodes"] == [node]
        assert schema[f"{role}_prompt"]["default"]
    assert all(one.get("description") for one in schema.values())


@pytest.mark.parametrize("name", ["http://example.org/v1", "../rules", "openai:", "gpt-4o", "openai: x", "rules\n"])
def test_a_model_is_named_and_never_addressed(name: str) -> None:
    with pytest.raises(ValueError, match="model"):
        Context(model=name)


def test_usage_adds_up() -> None:
    one = Usage(calls=1, prompt_tokens=10, completion_tokens=2)
    assert one + one - one == one
