"""The roles around a model that writes what models write, and what they are allowed to know."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.runtime import Runtime

from graph.episode import VARIANTS, build_episode, build_variant
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm import models
from nodes.llm.prompting import read_facts
from nodes.state import Exchange, VisitInput, VisitState
from nodes.user import describe_round, proposed_item
from nodes.visitor import visitor
from nodes.worlds import open_place_now
from sim.world import Split

pytestmark = pytest.mark.usefixtures("home")
TINY = VisitInput(world="tiny", max_steps=4)


class Scripted(BaseChatModel):
    """Answers each role with what a function makes of its facts; the same however often it is asked."""

    answer: Callable[[dict[str, Any]], str]
    prompts: list[str] = []

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.prompts.append("\n".join(message.text for message in messages))
        facts = read_facts(messages[1].text)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.answer(facts)))])


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[dict[str, Any]], str]], Scripted]]:
    """Put a scripted model in the place of `rules`."""

    def put(answer: Callable[[dict[str, Any]], str]) -> Scripted:
        model = Scripted(answer=answer, prompts=[])
        monkeypatch.setitem(models._made, ("rules", Context().temperature), model)
        return model

    yield put


async def run(variant: str = "billp", visit: VisitInput = TINY, context: Context | None = None) -> dict[str, Any]:
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=True))
    compiled: Any = build_variant(variant).compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "t"}}
    await compiled.ainvoke(visit, config, context=context)
    values: dict[str, Any] = (await compiled.aget_state(config)).values
    return values


GENRE = "Comedy"


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("Stop", "fallback"),
        ("", "fallback"),
        (GENRE, "fallback"),
        (f"{GENRE} and Drama items", "fallback"),
        ('{"item": "Stop"}', "fallback"),
        ('{"item": "A film that no catalogue has"}', "fallback"),
        ("I would rather not say anything about that", "fallback"),
    ],
)
async def test_no_reply_without_an_item_ends_a_visit(reply: str, outcome: str, script: Any) -> None:
    model = script(lambda facts: reply)
    state = await run("act_only")
    exchange: Exchange = state["exchange"]["actor"]
    assert exchange.outcome == outcome and exchange.fault
    assert state["length_with_exit"] >= 1
    # Asked twice a round and no more; then the best shortlisted item is taken.
    assert len(model.prompts) == 2 * len(state["steps"])
    assert state["steps"][-1].item_id == max(state["shortlist"], key=lambda one: one.predicted).item_id


async def test_the_second_question_names_the_fault_and_a_good_answer_is_taken(script: Any) -> None:
    asked = []

    def answer(facts: dict[str, Any]) -> str:
        asked.append(facts)
        return "Stop" if len(asked) == 1 else json.dumps({"item": facts["candidates"][-1]["title"]})

    model = script(answer)
    state = await run("act_only", VisitInput(world="tiny", max_steps=1))
    assert state["exchange"]["actor"].outcome == "asked_again"
    assert "stop word" in model.prompts[1] and model.prompts[1].startswith(model.prompts[0])
    assert state["steps"][0].title == state["shortlist"][-1].title
    assert state["usage"].calls == 2


@pytest.mark.parametrize("grounding", ["fresh", "nearest"])
async def test_a_model_that_repeats_itself_ends_a_visit_only_in_the_originals_way(grounding: Any, script: Any) -> None:
    title = open_place_now("tiny").world.catalogue[3].title
    script(lambda facts: json.dumps({"item": title}))
    state = await run("act_only", VisitInput(world="tiny", max_steps=30), Context(grounding=grounding))
    items = [step.item_id for step in state["steps"]]
    if grounding == "fresh":
        assert len(set(items)) == len(items) and state["leave_reason"] != "repeat"
    else:
        assert items[0] == items[1] and state["leave_reason"] == "repeat"


async def test_junk_from_every_role_still_makes_a_visit(script: Any) -> None:
    script(lambda facts: "```" + "{" * 1000)
    state = await run("billp")
    assert len(state["steps"]) >= 1
    assert {role: one.outcome for role, one in state["exchange"].items()} == dict.fromkeys(
        ("planner", "actor", "critic", "reflector"), "fallback"
    )


@pytest.mark.parametrize("reply", ['{"value": 99}', '{"value": NaN}', "excellent"])
async def test_a_value_out_of_range_is_not_taken(reply: str, script: Any) -> None:
    script(lambda facts: reply)
    state = await run("billp")
    assert all(-5 <= step.next_value <= 5 for step in state["steps"])
    assert state["exchange"]["critic"].outcome == "fallback"


async def test_no_role_looks_at_a_table_of_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the user may: with a user of the test's own, a visit runs without any table."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a role looked at a table")

    async def user(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
        who = await visitor(state)
        step = describe_round(state, who, proposed_item(state.proposal, who))
        step.reward, step.left = 4.0, len(state.steps) == 3
        return {"steps": [step], "left": step.left}

    open_place_now("tiny")
    for name in ("reward", "rewards", "distance", "distances", "leave_rule"):
        monkeypatch.setattr(Split, name, forbidden)
    monkeypatch.setattr(Split, "tau", property(forbidden))
    planner, actor, _, critic = VARIANTS["billp"].step
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        compiled: Any = build_episode(planner, actor, user, critic, at_end=VARIANTS["billp"].at_end).compile(
            store=store
        )
        output = await compiled.ainvoke(TINY)
    assert output["length"] == 3


async def test_prompts_are_the_same_whoever_of_the_evaluation_users_came_before(home: Path) -> None:
    users = open_place_now("tiny").world
    first, second = users.split("dev").users[:2]
    quiet = Context(learn="off")

    async def prompts(store: ChromaStore, user_id: str, context: Context) -> dict[str, str]:
        saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=True))
        compiled: Any = build_variant("billp").compile(store=store, checkpointer=saver)
        config = {"configurable": {"thread_id": user_id}}
        await compiled.ainvoke(VisitInput(world="tiny", user_id=user_id, max_steps=5), config, context=context)
        state = await compiled.aget_state(config)
        return {role: one.prompt for role, one in state.values["exchange"].items()}

    async with ChromaStore(embeddings=shared_embeddings()) as store:
        for trained in users.split("train").users[:4]:
            await prompts(store, trained, Context(learn="now"))
        alone = await prompts(store, second, quiet)
        await prompts(store, first, quiet)
        assert await prompts(store, second, quiet) == alone
    assert any('"advantage": ' in prompt for prompt in alone.values())


async def test_the_critic_is_told_neither_the_reward_of_the_round_nor_whether_the_user_left(script: Any) -> None:
    told: list[dict[str, Any]] = []

    def answer(facts: dict[str, Any]) -> str:
        if facts["role"] == "critic":
            told.append(facts)
        return json.dumps(
            {"plan": "x", "item": facts.get("candidates", [{}])[0].get("title"), "value": 1, "lesson": "y"}
        )

    script(answer)
    state = await run("billp", VisitInput(world="tiny", max_steps=30))
    assert len(told) == len(state["steps"])
    for number, facts in enumerate(told):
        assert set(facts["now"]) == {"title", "genres", "distance", "predicted"}
        assert len(facts["rounds"]) + facts.get("earlier", {"rounds": 0})["rounds"] == number
        assert set(facts) <= {"role", "user", "earlier", "rounds", "values", "now"}
