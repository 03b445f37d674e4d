"""Role as an object: settings, state and memory that come with it, repair and fallback of its answers, its contract."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, Field

import graph.extend
from graph.checkpoints import serializer
from graph.conformance import RoleContract
from graph.context_overrides import context_of
from graph.extend import (
    VARIANTS,
    Context,
    Facts,
    Memory,
    Record,
    Role,
    Step,
    Variant,
    View,
    VisitInput,
    VisitState,
    compiled,
    round_facts,
    saves_records,
)
from graph.local_run import LocalVisit, run_episode
from graph.role_schemas import state_fields_of
from memory.records import Lesson
from memory.store import ChromaStore
from nodes.llm import models
from nodes.llm.prompting import read_facts
from nodes.llm.rules import RULES
from sim.errors import BadInputError


class Hunch(Memory):
    """What the role felt in a round."""

    shuffled_fields: ClassVar[frozenset[str]] = frozenset({"feeling"})

    kind: Literal["hunches"] = "hunches"
    feeling: str


class HunchState(VisitState):
    """The state with feelings."""

    feelings: list[str] = []
    """Feelings of the visit."""


class HunchContext(Context):
    """The settings with a lower bound."""

    least: int = Field(1, ge=0, le=9)
    """Least number."""


class Feeling(BaseModel):
    """Answer of the role."""

    feeling: str = Field(min_length=1, max_length=40)
    strength: int = 0


def facts(view: View[VisitState, HunchContext]) -> Facts | None:
    known = [one.record.feeling for one in view.recalled(Hunch)]
    return {"least": view.settings.least, "known": known, "rounds": round_facts(view.state.steps)}


def rules(told: Facts) -> Feeling:
    return Feeling(feeling=f"calm after {len(told['rounds'])}", strength=told["least"])


def apply(answer: Feeling, view: View[HunchState]) -> dict[str, Any]:
    return {"feelings": [*view.state.feelings, answer.feeling]}


def check(answer: Feeling, told: Facts) -> str | None:
    return None if answer.strength >= told["least"] else f"strength must be {told['least']} or more"


def saves(answer: Feeling, view: View[HunchState]) -> list[Record]:
    return [view.record(Hunch, view.round, feeling=answer.feeling)]


hunch = Role("hunch", "Say what you feel.", Feeling, facts=facts, rules=rules, apply=apply, check=check,
             recalls={Hunch: 3}, saves=saves)  # fmt: skip
VARIANT = VARIANTS["act_only"].before("actor", hunch)


class TestHunch(RoleContract):
    variant = VARIANT
    role = "hunch"


class Scripted(BaseChatModel):
    """Model that answers the role by a function and the other roles by their rules."""

    answer: Callable[[Facts], str]
    prompts: list[str]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        told = read_facts(messages[1].text)
        if told["role"] != "hunch":
            text = json.dumps(RULES[told["role"]](told))
        else:
            self.prompts.append("\n\n".join(message.text for message in messages))
            text = self.answer(told)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Facts], str]], Scripted]:
    def put(answer: Callable[[Facts], str]) -> Scripted:
        model = Scripted(answer=answer, prompts=[])
        monkeypatch.setitem(models.OWN, "rules", lambda *_: model)
        return model

    return put


async def visited(variant: Variant = VARIANT, rounds: int = 2, store: Any = None, visits: int = 1, **given: Any) -> Any:
    """Play visits on one thread, and return the state after the last one."""
    graph: Any = compiled("hunches", variant)
    graph.checkpointer = InMemorySaver(serde=serializer(variant.nodes))
    graph.store = store
    config = {"configurable": {"thread_id": "t"}}
    for _ in range(visits):
        context = variant.settings.model_validate(given)
        await graph.ainvoke(VisitInput(world="tiny", max_steps=rounds), config, context=context)
    return (await graph.aget_state(config)).values


@pytest.mark.usefixtures("home")
async def test_an_answer_becomes_fields_of_the_state_with_exchange_and_usage(script: Any) -> None:
    script(lambda told: json.dumps({"feeling": f"round {len(told['rounds'])}", "strength": 5}))
    state = await visited()
    assert state["feelings"] == ["round 0", "round 1"]
    assert [step.outcomes["hunch"] for step in state["steps"]] == ["ok", "ok"]
    assert state["exchange"]["hunch"].prompt.startswith("Say what you feel.") and state["usage"].calls == 4


@pytest.mark.usefixtures("home")
async def test_plain_text_is_the_first_field_of_the_answer(script: Any) -> None:
    script(lambda _: "rather hopeful")
    state = await visited(least=0)
    assert state["feelings"] == ["rather hopeful"] * 2 and state["exchange"]["hunch"].outcome == "repaired"


@pytest.mark.usefixtures("home")
async def test_a_checked_fault_is_told_and_then_the_rules_answer_by_the_same_facts(script: Any) -> None:
    model = script(lambda _: '{"feeling": "wild", "strength": 1}')
    state = await visited(rounds=1, least=3)
    assert len(model.prompts) == 2 and "strength must be 3 or more" in model.prompts[1]
    exchange = state["exchange"]["hunch"]
    assert (exchange.outcome, exchange.fault) == ("fallback", "strength must be 3 or more")
    assert state["feelings"] == ["calm after 0"]


@pytest.mark.usefixtures("home")
async def test_a_fallback_of_its_own_takes_the_place_of_the_rules(script: Any) -> None:
    other = Role("hunch", "Say.", Feeling, facts=lambda _: {"rounds": []}, rules=rules,
                 apply=apply, fallback=lambda told: Feeling(feeling=f"lost {told}"))  # fmt: skip
    script(lambda _: "{")
    state = await visited(VARIANTS["act_only"].before("actor", other), rounds=1)
    assert state["feelings"] == ["lost {'rounds': []}"]


@pytest.mark.usefixtures("home")
async def test_two_roles_of_one_name_answer_by_their_own_rules() -> None:
    def twin(feeling: str) -> Variant:
        role = Role("twin", "Say.", Feeling, facts=lambda _: {"rounds": []}, apply=apply,
                    rules=lambda _: Feeling(feeling=feeling))  # fmt: skip
        return VARIANTS["act_only"].before("actor", role)

    for feeling, variant in [(feeling, twin(feeling)) for feeling in ("bold", "shy")]:
        assert (await visited(variant, rounds=1))["feelings"] == [feeling]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"apply": lambda *_: {"feelngs": []}}, "the role 'odd' returned feelngs, which is no field of the state"),
        ({"facts": lambda _: {"a": {1}}}, "the facts of the role 'odd' are not JSON"),
        ({"facts": lambda _: ["a"]}, "the facts of the role 'odd' are list: return a dict"),
        ({"rules": lambda _: {"feeling": "x"}}, "the rules of the role 'odd' returned dict: return Feeling"),
        ({"facts": lambda view: {"a": view.recalled(Lesson)}}, "no Lesson is recalled: name the class in `recalls`"),
    ],
)
async def test_what_a_role_does_wrong_is_named_with_the_role(changes: dict[str, Any], words: str) -> None:
    parts: dict[str, Any] = {"facts": lambda _: {"least": 0, "rounds": []}, "rules": rules, "apply": apply} | changes
    odd: Any = Role("odd", "Say.", Feeling, **parts)
    with pytest.raises(BadInputError, match=re.escape(words)):
        await visited(VARIANTS["act_only"].before("actor", odd), rounds=1)


def test_a_function_that_would_have_to_be_awaited_is_refused() -> None:
    async def late(_: Any) -> Facts:
        return {}

    with pytest.raises(BadInputError, match="late of the role 'late_role' is async: write a plain function"):
        Role("late_role", "Say.", Feeling, facts=late, rules=rules, apply=apply)  # type: ignore[arg-type]


async def test_a_visit_is_shown_whatever_the_last_role_of_a_round_returns(home: Path) -> None:
    shown: list[Step] = []
    variant = VARIANTS["act_only"].after("user", hunch)
    visit = VisitInput(world="tiny", max_steps=3)
    VARIANTS.add("hunch_last", variant)
    try:
        local = LocalVisit(variant="hunch_last", visit=visit, context=variant.settings(), remember=False)
        output = await run_episode(local, shown.append)
    finally:
        VARIANTS.remove("hunch_last")
    assert [step.index for step in shown] == [step.index for step in output.steps]
    graph: Any = compiled("hunches", variant)
    events = [event async for event in graph.astream(visit, stream_mode="custom")]
    assert [event["round"]["index"] for event in events] == [step.index for step in output.steps]


@pytest.mark.usefixtures("home")
async def test_a_role_without_facts_asks_nothing_in_that_round(script: Any) -> None:
    silent = Role("silent", "Say.", Feeling, facts=lambda view: None if view.round else {"least": 0, "rounds": []},
                  rules=rules, apply=apply)  # fmt: skip
    state = await visited(VARIANTS["act_only"].before("actor", silent), rounds=2)
    assert state["feelings"] == ["calm after 0"]
    assert [("silent" in step.outcomes) for step in state["steps"]] == [True, False]


@pytest.mark.usefixtures("home")
async def test_its_fields_of_the_state_are_cleared_for_each_visit() -> None:
    assert {*state_fields_of([hunch])} == {"feelings"}
    assert (await visited(visits=2))["feelings"] == ["calm after 0", "calm after 1"]


@pytest.mark.usefixtures("home")
async def test_it_recalls_what_earlier_visits_saved_as_many_as_the_setting_says(script: Any) -> None:
    model = script(lambda told: json.dumps({"feeling": f"knew {len(told['known'])}", "strength": 9}))
    store = ChromaStore()
    try:
        first = await visited(store=store, rounds=3)
        assert first["feelings"] == ["knew 0"] * 3
        saved = [one for one in store.records() if one.namespace[0] == "hunches"]
        assert [one.value["feeling"] for one in saved] == ["knew 0"] * 3
        # The situation of a record is the one before its round.
        assert len({one.value["situation"] for one in saved}) == 3
        assert (await visited(store=store, visits=1))["feelings"] == ["knew 0"] * 2, "a visit recalls itself"
        assert (await visited(store=store, visits=2, hunches_k=2))["feelings"] == ["knew 2"] * 2
        assert (await visited(store=store, visits=2, learn="off", hunches_k=0))["feelings"] == ["knew 0"] * 2
    finally:
        await store.aclose()
    assert model.prompts


def test_its_settings_come_with_it_and_are_checked() -> None:
    schema = VARIANT.settings
    context = context_of("rules", ["hunch_prompt=Speak.", "hunches_k=7", "least=2"], schema=schema)
    assert (context.model_dump()["hunch_prompt"], context.model_dump()["hunches_k"]) == ("Speak.", 7)
    assert context_of("rules", ["hunch_model=rules"], schema=schema).models == {"rules"}
    for setting, fault in (("hunches_k=-1", "greater than or equal to 0"), ("hunches_k=201", "less than or equal")):
        with pytest.raises(BadInputError, match=fault):
            context_of("rules", [setting], schema=schema)
    with pytest.raises(BadInputError, match="there is no setting 'hunch_prompt'"):
        context_of("rules", ["hunch_prompt=x"], schema=VARIANTS["billp"].settings)
    prompt = schema.model_json_schema()["properties"]["hunch_prompt"]
    assert (prompt["langgraph_type"], prompt["langgraph_nodes"]) == ("prompt", ["hunch"]) and prompt["description"]


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("Hunch", {}, "'Hunch' is not a valid name of a role"),
        ("planner", {}, "the role 'planner' exists already"),
        ("other", {"recalls": {Lesson: 2}}, "Lesson is recalled by a built-in role"),
    ],
)
def test_a_role_that_would_not_work_is_refused(name: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        Role(name, "Say.", Feeling, facts=facts, rules=rules, apply=apply, **changes)


class UnrelatedState(VisitState):
    """The state with something else."""

    moods: list[str] = []


def test_views_of_unrelated_states_are_refused() -> None:
    def others(view: View[UnrelatedState]) -> Facts:
        return {"moods": view.state.moods}

    with pytest.raises(BadInputError, match=r"HunchState|UnrelatedState"):
        Role("other", "Say.", Feeling, facts=others, rules=rules, apply=apply)


@saves_records
def sums_up(view: View[HunchState]) -> list[Record]:
    """Remember the visit as a whole."""
    return [view.record(Hunch, view.round, feeling=f"{len(view.state.feelings)} feelings")]


class TestSumsUp(RoleContract):
    variant = VARIANT.at_the_end(sums_up)
    role = "sums_up"


def test_only_roles_that_save_make_a_variant_learn() -> None:
    asks_only = Role("asks", "Say.", Feeling, facts=facts, rules=rules, apply=apply, recalls={Hunch: 3})
    plain = VARIANTS["act_only"]
    assert not plain.before("actor", asks_only).remembers
    assert VARIANT.remembers and plain.at_the_end(sums_up).remembers


def test_a_variant_takes_roles_by_the_names_of_its_own() -> None:
    billp = VARIANTS["billp"]

    def names(variant: Variant) -> list[str]:
        return [node.__name__ for node in variant.nodes]

    assert names(billp.before("actor", hunch)) == ["planner", "hunch", "actor", "user", "critic", "reflector"]
    assert names(billp.after("user", hunch)) == ["planner", "actor", "user", "hunch", "critic", "reflector"]
    assert names(billp.instead_of("planner", hunch)) == ["hunch", "actor", "user", "critic", "reflector"]
    ended = billp.before("reflector", sums_up)
    assert [node.__name__ for node in ended.at_end] == ["sums_up", "reflector"] and ended.step == billp.step
    assert names(billp.at_the_end(sums_up))[-2:] == ["reflector", "sums_up"]
    assert VARIANTS["billp_paper"].before("actor", hunch).context is VARIANTS["billp_paper"].context
    with pytest.raises(BadInputError, match=r"no role 'actr': choose among planner, actor, user, critic, reflector"):
        billp.before("actr", hunch)


def test_all_that_is_exported_is_there() -> None:
    assert graph.extend.__all__ == sorted(graph.extend.__all__, key=lambda name: (name.upper() != name, name))
    assert all(hasattr(graph.extend, name) for name in graph.extend.__all__)


@pytest.mark.usefixtures("home")
async def test_the_example_of_the_one_import_is_played(tmp_path: Path) -> None:
    from graph.variant_files import load_variants
    from tests.examples import indented_code

    file = tmp_path / "mood.py"
    file.write_text(indented_code(graph.extend.__doc__ or ""), encoding="utf-8")
    (name,) = load_variants([f"{file}:variant"])
    state = await visited(VARIANTS[name])
    assert name == "mood" and all(step.plan.endswith("The user is pleased.") for step in state["steps"])
