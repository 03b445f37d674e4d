"""State of a visit: reducers, validation and settings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from memory.records import MAX_KEY
from nodes.context import Context
from nodes.llm.endpoint.usage import Usage
from nodes.state import (
    Candidate,
    Exchange,
    ExperienceView,
    Identity,
    InvalidValue,
    LessonView,
    Profile,
    Proposal,
    RecommendInput,
    Step,
    VisitInput,
    VisitStart,
    VisitState,
    keyed,
)
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


@pytest.mark.parametrize(
    "name",
    [
        "openai:/models/Qwen2.5-7B-Instruct",
        "openai:qwen2.5-7b-instruct@q4_k_m",
        "openai:@cf/meta/llama-3.1-8b-instruct",
        "openai:Llama 3 8B Instruct",
        "openai:hf.co/bartowski/Qwen2.5-GGUF:Q4_K_M",
        "openai:./models/my model (v2)/",
        "anthropic:claude-sonnet-4-5",
        "bedrock:arn:aws:bedrock:us-east-1:1:inference-profile/x",
    ],
)
def test_a_model_has_the_name_that_its_server_uses(name: str) -> None:
    fields = [field for field in Context.model_fields if field == "model" or field.endswith("_model")]
    assert all(getattr(Context(**{field: name}), field) == name for field in fields)


@pytest.mark.parametrize(
    "name",
    [
        *("http://example.org/v1", "../rules", "openai:", "gpt-4o", "openai: x", "rules\n"),
        *("openai:http://example.org/v1", "huggingface:https://example.org", "openai:x\ny", "openai:x ", "openai://x"),
    ],
)
def test_a_model_is_named_and_never_addressed(name: str) -> None:
    with pytest.raises(ValueError, match="model"):
        Context(model=name)


def test_a_new_visit_and_a_new_round_are_empty() -> None:
    usage = Usage().model_dump()
    fresh = VisitState().model_dump()
    assert {name: value for name, value in fresh.items() if value} == {"max_steps": 20, "usage": usage}
    assert {name: value for name, value in Step(index=0).model_dump().items() if value} == {"usage": usage}
    assert not any(VisitStart().model_dump(exclude={"max_steps"}).values())
    assert VisitInput().model_dump() == {"world": "", "user_id": "", "history": [], "seed": 0, "max_steps": 20}
    assert RecommendInput().model_dump() == VisitInput().model_dump() | {"user_id": "guest", "wishes": ""}
    assert not any(Exchange().model_dump().values()) and not any(Proposal().model_dump().values())
    assert LessonView(text="x").model_dump() == {"text": "x", "support": 1, "length": 0.0, "keys": []}


def test_a_visit_is_known_by_its_identity_if_the_input_is_gone() -> None:
    identity = Identity(world="tiny", user_id="7", seed=3)
    for known in (identity, identity.model_dump()):
        state = VisitState.model_validate({"identity": known, "user_id": "8"})
        assert (state.world, state.user_id, state.seed, state.identity) == ("tiny", "8", 3, identity)
    with pytest.raises(BadInputError, match="^identity: "):
        VisitState.model_validate({"identity": "ann"}).check_types()


CANDIDATE: dict[str, Any] = {"item_id": "1", "title": "A", "predicted": 4.0}
EXPERIENCE: dict[str, Any] = {"title": "A", "advantage": 0.0, "similarity": 0.0}


@pytest.mark.parametrize(
    ("model", "base", "field", "fits", "breaks"),
    [
        (Exchange, {}, "prompt", ["x" * 2_000_000], ["x" * 2_000_001]),
        (Exchange, {}, "reply", ["x" * 2_000_000], ["x" * 2_000_001]),
        (Exchange, {}, "outcome", ["x" * 100], ["x" * 101]),
        (Candidate, CANDIDATE, "title", ["x" * 25_000], ["x" * 25_001]),
        (Candidate, CANDIDATE, "risk", [0, 1, None], [-0.01, 1.01, float("nan")]),
        (Candidate, CANDIDATE, "before", ["left", 3.0], ["stayed"]),
        (Proposal, {}, "item_id", ["7", 7], [None]),
        (Profile, {}, "ratings", [{"1": 1}, {"1": 5}], [{"1": 0.5}, {"1": 5.5}, {str(n): 1 for n in range(100_001)}]),
        (Profile, {}, "seen", [["1"] * 100_000], [["1"] * 100_001]),
        (LessonView, {"text": "x"}, "support", [0, 1], [-1]),
        (LessonView, {"text": "x"}, "keys", [["k" * 100] * 200], [["k"] * 201, ["k" * 101], "k"]),
        (LessonView, {"text": "x"}, "length", [0, 1e6], [-0.1, 1e6 + 1, float("nan")]),
        (ExperienceView, EXPERIENCE, "similarity", [-1.01, 1.01], [-1.02, 1.02, float("nan")]),
        (ExperienceView, EXPERIENCE, "item_id", ["7", 7], [None]),
        (ExperienceView, EXPERIENCE, "advantage", [-1.0, 1.0], [float("inf"), float("nan")]),
        (Step, {"index": 0}, "index", [0, 1_999], [-1, 2_000]),
        (Step, {"index": 0}, "item_id", ["7", 7], [None]),
        (Step, {"index": 0}, "value", [-5, 5], [-5.01, 5.01, float("nan")]),
        (Step, {"index": 0}, "reward", [0, 5], [float("nan"), float("inf")]),
        (Step, {"index": 0}, "outcomes", [{"a": "x" * 100}], [{"a": "x" * 101}, {str(n): "ok" for n in range(51)}]),
    ],
)
def test_fields_of_a_state_keep_their_bounds(
    model: type[BaseModel], base: dict[str, Any], field: str, fits: list[Any], breaks: list[Any]
) -> None:
    for value in fits:
        model.model_validate(base | {field: value})
    for value in breaks:
        with pytest.raises(ValidationError, match=field):
            model.model_validate(base | {field: value})


@pytest.mark.parametrize(
    ("field", "entry", "most"),
    [("lessons", {"text": "x"}, 100), ("experiences", EXPERIENCE, 200), ("shortlist", CANDIDATE, 1_000),
     ("foreseen", CANDIDATE, 1_000)],
)  # fmt: skip
def test_lists_of_a_state_have_a_greatest_length(field: str, entry: dict[str, Any], most: int) -> None:
    VisitState.model_validate({field: [entry] * most}).check_types()
    with pytest.raises(BadInputError, match=f"^{field}: "):
        VisitState.model_validate({field: [entry] * (most + 1)}).check_types()


def test_usage_adds_up() -> None:
    one = Usage(calls=1, prompt_tokens=10, completion_tokens=2)
    assert one + one - one == one
