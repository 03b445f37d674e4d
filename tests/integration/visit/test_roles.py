"""Roles with a scripted model that writes typical replies, and the facts that each role may see."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import Runtime

from graph.checkpoints import serializer
from graph.episode import VARIANTS, build_episode, build_variant
from memory.embeddings import shared_embeddings
from memory.recall import RecallScope, recall_lessons, recall_values
from memory.records import Experience, Lesson, Value
from memory.store import ChromaStore
from nodes.context import Context
from nodes.critic import memories
from nodes.llm import models
from nodes.llm.prompting import read_facts
from nodes.llm.prompts import default_prompt
from nodes.reflector import replaced_keys
from nodes.state import Exchange, LessonView, Profile, Step, VisitInput, VisitState
from nodes.tools.open_world import open_world_now
from nodes.user_view import Visitor, visitor
from nodes.users.simulated import describe_round, proposed_item
from nodes.visit_memory import visit_memory
from sim.data.sources import available, load_ratings
from sim.world import Split

pytestmark = pytest.mark.usefixtures("home")
TINY = VisitInput(world="tiny", max_steps=4)


class Scripted(BaseChatModel):
    """Chat model that answers by a function of the facts; a second question gets the same answer."""

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
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[dict[str, Any]], str]], Scripted]:
    """Replace the model `rules` by a scripted one."""

    def put(answer: Callable[[dict[str, Any]], str]) -> Scripted:
        model = Scripted(answer=answer, prompts=[])
        monkeypatch.setitem(models.OWN, "rules", lambda *_: model)
        return model

    return put


async def run(variant: str = "billp", visit: VisitInput = TINY, context: Context | None = None) -> dict[str, Any]:
    saver = InMemorySaver(serde=serializer())
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
    # The model is asked twice a round; then the best candidate is taken.
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
    title = open_world_now("tiny").world.catalogue[3].title
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
    """Only the user reads a reward table: with the user of this test, a visit runs without one."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a role looked at a table")

    async def user(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
        who = await visitor(state)
        step = describe_round(state, who, proposed_item(state.proposal, who))
        step.reward, step.left = 4.0, len(state.steps) == 3
        return {"steps": [step], "left": step.left}

    open_world_now("tiny")
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
    users = open_world_now("tiny").world
    first, second = users.split("dev").users[:2]
    quiet = Context(learn="off")

    async def prompts(store: ChromaStore, user_id: str, context: Context) -> dict[str, str]:
        saver = InMemorySaver(serde=serializer())
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
    assert all(read_facts(alone[role])[told] for role, told in (("actor", "experiences"), ("planner", "lessons")))


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
        assert set(facts["now"]) == {"title", "distance", "predicted", "genres"}
        assert len(facts["rounds"]) + facts.get("earlier", {"rounds": 0})["rounds"] == number
        assert set(facts) <= {"role", "history", "earlier", "rounds", "values", "now"}


def facts_of(state: dict[str, Any], role: str) -> dict[str, Any]:
    return read_facts(state["exchange"][role].prompt)


async def test_the_planner_is_told_what_there_is_to_choose_of_each_category_and_when_it_was_shown() -> None:
    state = await run("react", VisitInput(world="tiny", max_steps=7))
    rows = {row["category"]: row for row in facts_of(state, "planner")["choice"]}
    assert {*rows} <= {*open_world_now("tiny").categories} and any(row["good"] for row in rows.values())
    before = state["steps"][:-1]
    assert before and {genre for step in before[-4:] for genre in step.genres} <= {*rows}
    for name, row in rows.items():
        shown = [ago for ago, step in enumerate(reversed(before), 1) if name in step.genres]
        assert (row["shown"], row["ago"]) == (len(shown), min(shown, default=0))


async def test_without_the_category_tool_no_role_is_told_of_categories_but_those_it_sees() -> None:
    off = Context(category_tool=False, hints=2)
    told = {"categories", "choice", "categories_to_try"}
    for variant, roles in (("billp", ("planner", "actor", "reflector")), ("merge_plan_and_act", ("plan_and_act",))):
        for choices in ("shortlist", "free"):
            state = await run(
                variant, VisitInput(world="tiny", max_steps=7), off.model_copy(update={"choices": choices})
            )
            for role in roles:
                facts = facts_of(state, role)
                assert told.isdisjoint(facts) and len(facts["rounds"]) > 0, role


async def test_a_role_can_have_a_model_of_its_own(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Scripted(answer=lambda facts: json.dumps({"plan": "Recommend the other."}), prompts=[])
    monkeypatch.setitem(models.OWN, "openai", lambda *_: other)
    state = await run("react", VisitInput(world="tiny", max_steps=2), Context(planner_model="openai:other"))
    assert {step.plan for step in state["steps"]} == {"Recommend the other."}
    assert len(other.prompts) == len(state["steps"])


@pytest.mark.parametrize("split", ["train", "dev"])
async def test_a_user_lives_on_the_table_of_their_split(split: Any) -> None:
    world = open_world_now("tiny").world
    user_id = world.split(split).users[1]
    state = await run("act_only", VisitInput(world="tiny", user_id=user_id, max_steps=20))
    rewards = {
        table: [world.split(table).reward(user_id, step.item_id) for step in state["steps"]]
        for table in (world.split("train").name, world.split("dev").name)
    }
    assert rewards["train"] != rewards["dev"]
    assert [step.reward for step in state["steps"]] == rewards[split]


async def test_the_critic_and_the_reflector_are_told_what_memory_holds() -> None:
    opened = open_world_now("tiny")
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        for user_id in opened.world.split("train").users[:4]:
            compiled: Any = build_variant("billp").compile(store=store)
            await compiled.ainvoke(VisitInput(world="tiny", user_id=user_id, max_steps=8))
        saver = InMemorySaver(serde=serializer())
        compiled = build_variant("billp").compile(store=store, checkpointer=saver)
        config = {"configurable": {"thread_id": "t"}}
        await compiled.ainvoke(TINY, config)
        state: dict[str, Any] = (await compiled.aget_state(config)).values
        known = [
            {"number": number} | one.model_dump(exclude={"keys"}) for number, one in enumerate(state["lessons"], 1)
        ]
        assert facts_of(state, "reflector")["lessons"] == known != []
        who = await visitor(VisitState.model_validate(state))
        scope = RecallScope("tiny", state["user_id"], state["visit_id"], ("tiny",))
        after = await recall_values(store, scope, who.situation(state["steps"]), Context().values_k)
        told = facts_of(state, "critic")["values"]
        assert all(one.keys() >= {"distance", "genres"} for one in (facts_of(state, "critic")["now"], *told))
        assert [one["target"] for one in told] == [round(one.record.target, 2) for one in after] != []
        lessons = await store.asearch(("lessons", "tiny", state["user_id"]))
        assert [one.value["situation"] for one in lessons] == [who.situation([])]


REPLIES = {"plan": "Mix it all.", "value": 0.0}


@pytest.fixture
def reflect(script: Any) -> list[str]:
    """Return a list that takes the next replies of the Reflector; the other roles answer plainly."""
    replies: list[str] = []

    def answer(facts: dict[str, Any]) -> str:
        if facts["role"] == "reflector":
            return replies.pop(0)
        return json.dumps(REPLIES | {"item": facts.get("candidates", [{}])[0].get("title")})

    script(answer)
    return replies


async def lessons_after(store: ChromaStore, user_id: str) -> tuple[str, list[Lesson]]:
    """Run a visit, and return the Reflector's outcome and the stored lessons of that user."""
    compiled: Any = build_variant("billp").compile(store=store)
    output = await compiled.ainvoke(VisitInput(world="tiny", user_id=user_id, max_steps=2))
    stored = await store.asearch(("lessons", "tiny", user_id))
    return output["steps"][-1].outcomes["reflector"], [Lesson.model_validate(one.value) for one in stored]


async def test_a_lesson_replaces_the_shown_ones_that_it_names_and_later_visits_recall_it_alone(
    reflect: list[str],
) -> None:
    users = open_world_now("tiny").world.split("train").users
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        scope = RecallScope("tiny", users[4], "now", ("tiny",))
        for user_id, text in zip(users, ("Keep close to it.", "Mix genres."), strict=False):
            reflect.append(json.dumps({"lesson": text, "replaces": [1, 99, -1]}))
            await lessons_after(store, user_id)
        # The second visit was shown the lesson of the first.
        [both] = await recall_lessons(store, scope, "", 9)
        assert (both.record.text, both.support) == ("Mix genres.", 2)
        reflect.append(json.dumps({"lesson": "Keep far apart.", "replaces": "1"}))
        outcome, [lesson] = await lessons_after(store, users[2])
        assert (outcome, lesson.replaces) == ("repaired", list(both.keys))
        [last] = await recall_lessons(store, scope, "", 9)
        assert (last.record.text, last.support) == ("Keep far apart.", 3)


@pytest.mark.parametrize("reply", ['{"lesson": "", "replaces": []}', '{"lesson": " ", "replaces": [1]}'])
async def test_a_visit_with_nothing_new_to_say_writes_no_lesson(reply: str, reflect: list[str]) -> None:
    user_id = open_world_now("tiny").world.split("train").users[0]
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        reflect += [reply, '{"lesson": null, "replaces": null}']
        assert await lessons_after(store, user_id) == ("ok", [])
        assert await lessons_after(store, user_id) == ("repaired", [])


@pytest.mark.parametrize("reply", ['{"lesson": "None"}', '{"lesson": "---------"}', "Stop", '{"replaces": [1]}'])
async def test_a_stub_is_no_lesson_and_not_taken_for_silence(reply: str, reflect: list[str]) -> None:
    user_id = open_world_now("tiny").world.split("train").users[0]
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        reflect += [reply, reply]
        assert await lessons_after(store, user_id) == ("fallback", [])


async def test_the_totals_of_a_finished_visit_agree_with_its_rounds() -> None:
    state = await run("billp", VisitInput(world="tiny", max_steps=60))
    told = facts_of(state, "reflector")
    assert [one["left"] for one in told["rounds"]] == [False] * (len(state["steps"]) - 1) + [True]
    outcome = told["outcome"]
    assert (outcome["rounds"], outcome["stayed"], outcome["left"]) == (
        len(told["rounds"]),
        len(told["rounds"]) - 1,
        True,
    )
    kept = sum(one["reward"] for one in told["rounds"] if not one["left"])
    assert outcome["total_reward"] == pytest.approx(kept, abs=0.05)


def test_only_lessons_that_were_shown_can_be_replaced() -> None:
    shown = [LessonView(text="a", keys=["1", "2"]), LessonView(text="b", keys=["2", "3"]), LessonView(text="c")]
    assert replaced_keys(shown, [2, 1, 1, 3, 4, 0, -1]) == ["1", "2", "3"]
    assert replaced_keys(shown, []) == replaced_keys([], [1]) == []


@pytest.mark.parametrize("variant", ["act_only", "react"])
async def test_a_variant_without_memory_reads_none_that_others_wrote(variant: str) -> None:
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        for user_id in open_world_now("tiny").world.split("train").users[:4]:
            await build_variant("billp").compile(store=store).ainvoke(VisitInput(world="tiny", user_id=user_id))
        compiled: Any = build_variant(variant).compile(store=store)
        assert (await compiled.ainvoke(TINY))["steps"] == (await run(variant))["steps"]


async def test_the_originals_grounding_takes_what_is_nearest_and_asks_nobody_again(script: Any) -> None:
    model = script(lambda facts: json.dumps({"item": "A film that no catalogue has"}))
    state = await run("act_only", VisitInput(world="tiny", max_steps=1), Context(grounding="nearest"))
    assert state["exchange"]["actor"].outcome == "ok" and len(model.prompts) == 1
    nearest = open_world_now("tiny").nearest.ground("A film that no catalogue has")
    assert state["steps"][0].item_id == nearest.id


async def test_a_model_that_repeats_itself_is_told_so(script: Any) -> None:
    title = open_world_now("tiny").world.catalogue[3].title
    model = script(lambda facts: json.dumps({"item": title}))
    state = await run("act_only", VisitInput(world="tiny", max_steps=2))
    assert len(state["steps"]) == 2
    assert f"the user has had '{title}' already" in model.prompts[-1]


def test_the_memories_of_a_round_are_about_the_situation_before_it() -> None:
    opened = open_world_now("tiny")
    items = list(opened.world.catalogue)
    steps = [
        Step(index=0, item_id=items[0].id, distance=None, reward=4.0),
        Step(index=1, item_id=items[1].id, distance=0.25, reward=5.0),
        Step(
            index=2, item_id=items[2].id, title="C", distance=0.75, reward=4.0, value=1.0, next_value=3.0, advantage=1.5
        ),
    ]
    who = Visitor(opened, "u", (items[5],), (4.0,), np.zeros(len(items), np.float32))
    state = VisitState(world="tiny", user_id="u", visit_id="v#1", steps=steps)
    memory = visit_memory(state, Runtime())
    experience, value = (one.value for one in memories(memory, state, who, steps[2], Context()))
    assert isinstance(experience, Experience) and isinstance(value, Value)
    situation = "\n".join(item.label for item in (items[5], items[0], items[1]))
    assert experience.situation == value.situation == situation
    # Title, categories and distances come from the world; the state holds others.
    assert (experience.title, experience.advantage) == (items[2].title, 1.5)
    assert experience.genres == list(items[2].genres)
    assert experience.distance == who.distance(steps[:2], items[2]) != 0.75
    # Target r' + gamma V(s') = 4 - 3 + 0.5 x 3, for the situation after the second item.
    assert (value.target, value.distance) == (2.5, who.distance(steps[:1], items[1]))
    left = steps[2].model_copy(update={"left": True})
    kept = memories(memory, state, who, left, Context(leave_penalty=50))
    assert isinstance(kept[1].value, Value) and kept[1].value.target == -5.0
    rich = steps[2].model_copy(update={"reward": 5.0, "next_value": 5.0})
    kept = memories(memory, state, who, rich, Context(reward_offset=0))
    assert isinstance(kept[1].value, Value) and kept[1].value.target == 5.0


def test_memory_is_kept_in_the_space_asked_for_and_shared_only_where_allowed() -> None:
    state = VisitState(world="tiny", user_id="u", visit_id="tiny/u/0#0")

    def scope(state: VisitState, context: Context) -> RecallScope:
        return visit_memory(state, Runtime(context=context)).scope

    assert scope(state, Context()) == RecallScope("tiny", "u", "tiny/u/0#0", ("tiny",))
    assert scope(state, Context(space="mine", share_memory=False)) == RecallScope("mine", "u", "tiny/u/0#0", ())
    assert scope(state, Context(private=True)) == RecallScope("private:tiny", "u", "tiny/u/0#0", ("tiny",))
    assert scope(state, Context(recall_own=False)) == RecallScope("tiny", "u", "tiny/u/0#0", ("tiny",), own=False)
    edited = state.model_copy(update={"edited": True})
    assert scope(edited, Context()) == RecallScope("private:tiny", "u", "tiny/u/0#0", ("tiny",))
    person = state.model_copy(update={"profile": Profile()})
    assert scope(person, Context()) == RecallScope("people:tiny", "u", "tiny/u/0#0", ())


@pytest.mark.skipif(not available("movielens"), reason="needs the extra `movielens`")
@pytest.mark.parametrize("role", ["planner", "actor", "plan_and_act", "critic", "critic_titles", "reflector", "user"])
def test_no_template_holds_anything_of_a_real_history(role: str) -> None:
    prompt = default_prompt(role)
    titles = {item.title for item in load_ratings("movielens").catalogue if len(item.title) > 5}
    words = {title for title in titles if f" {title} " in prompt or f'"{title}"' in prompt}
    assert words == set()
