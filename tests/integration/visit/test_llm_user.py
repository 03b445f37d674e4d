"""LLM as the user, at a real HTTP endpoint and as the model `rules`: prompts, decisions and study results."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from rich.console import Console

from graph.checkpoints import serializer
from graph.episode import build_variant
from graph.report.terminal import results_table
from graph.study import run_study
from graph.study.settings import StudySettings
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm.endpoint.reply_schema import json_schema
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.llm.prompting import read_facts
from nodes.state import VisitInput, VisitOutput, VisitState
from nodes.tools.open_world import open_world_now
from nodes.user_view import visitor
from nodes.users.llm import Opinion, persona
from sim.world import Split
from sim.world.world import ASSUMED_RATING
from tests.scripted import Asked, Endpoint, Reply, by_rules, serving

pytestmark = pytest.mark.usefixtures("home")
LLM = Context(model="openai:some-model")
FREE = Context(model="openai:some-model", user_guard=False)
TINY = VisitInput(world="tiny", max_steps=6)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Endpoint that answers like `rules`."""
    with serving(by_rules) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        shared_endpoint.cache_clear()
        yield endpoint
    shared_endpoint.cache_clear()


def user_says(text: str) -> Callable[[Asked], Reply]:
    """Return the script of a user who always gives the same answer; the other roles answer like `rules`."""
    return lambda asked: Reply(text) if asked.facts["role"] == "user" else by_rules(asked)


def opinion(rating: float, stay: bool, reason: str = "Because.") -> str:
    return json.dumps({"rating": rating, "stay": stay, "reason": reason})


def asked_of_user(endpoint: Endpoint) -> list[Asked]:
    return [asked for asked in endpoint.asked if asked.facts["role"] == "user"]


async def visit(context: Context = LLM, given: VisitInput = TINY, **compiled: Any) -> VisitOutput:
    graph: Any = build_variant("billp_llm_user").compile(**compiled)
    config = {"configurable": {"thread_id": "t"}} if "checkpointer" in compiled else None
    return VisitOutput.model_validate(await graph.ainvoke(given, config, context=context))


# Prompts of the user.


async def test_a_round_asks_the_user_between_actor_and_critic_and_counts_the_call(endpoint: Endpoint) -> None:
    output = await visit()
    roles = ["planner", "actor", "user", "critic"]
    assert [asked.facts["role"] for asked in endpoint.asked] == [*roles * len(output.steps), "reflector"]
    assert {step.usage.calls for step in output.steps} == {4}
    assert output.usage.calls == len(endpoint.asked)
    assert all(step.outcomes.keys() >= {*roles} and step.outcomes["user"] == "ok" for step in output.steps)
    assert {str(asked.body["response_format"]) for asked in asked_of_user(endpoint)} == {str(json_schema(Opinion))}


async def test_the_user_is_told_their_own_taste_and_the_visit_so_far(endpoint: Endpoint) -> None:
    endpoint.script = user_says(opinion(3.25, stay=True))
    output = await visit(FREE)
    world = open_world_now("tiny").world
    user = world.users[output.user_id]
    assert len(asked_of_user(endpoint)) == len(output.steps) > 1
    for number, asked in enumerate(asked_of_user(endpoint)):
        facts = asked.facts
        assert list(facts) == ["role", "mean_rating", "tastes", "history", "rounds", "now"]
        assert facts["mean_rating"] == round(sum(user.ratings) / len(user.ratings), 2)
        assert [one["rating"] for one in facts["history"]] == list(user.ratings[-10:])
        assert facts["now"] == {
            "title": output.steps[number].title,
            "genres": output.steps[number].genres,
            "again": False,
        }
        assert [(one["title"], one["reward"]) for one in facts["rounds"]] == [
            (step.title, 3.25) for step in output.steps[:number]
        ]


async def test_a_persona_is_counted_from_the_whole_history() -> None:
    world = open_world_now("tiny").world
    who = await visitor(VisitState(world="tiny", user_id=world.split("dev").users[1]))
    taste = persona(who)["tastes"][0]
    given = [rating for item, rating in zip(who.history, who.ratings, strict=True) if taste["category"] in item.genres]
    assert taste["ratings"] == len(given) > 0
    assert taste["mean_rating"] == round(sum(one for one in given if one is not None) / len(given), 2)
    counts = [one["ratings"] for one in persona(who)["tastes"]]
    assert counts == sorted(counts, reverse=True)
    titles = [item.title for item in who.history[:3]]
    newcomer = await visitor(VisitState(world="tiny", user_id="ann", history=titles))
    assert persona(newcomer)["mean_rating"] == ASSUMED_RATING


async def test_no_table_of_rewards_is_looked_at_without_the_guard(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("the user looked at a table")

    open_world_now("tiny")
    for name in ("reward", "rewards", "distance", "distances", "leave_rule"):
        monkeypatch.setattr(Split, name, forbidden)
    monkeypatch.setattr(Split, "tau", property(forbidden))
    endpoint.script = user_says(opinion(4, stay=True))
    assert (await visit(FREE)).length == TINY.max_steps


async def test_what_the_user_is_told_is_the_same_whatever_the_table_says(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.script = user_says(opinion(4, stay=True))
    before = await visit(Context(model="openai:some-model", user_guard=True), VisitInput(world="tiny", max_steps=2))
    prompts = [asked.prompt for asked in asked_of_user(endpoint)]
    endpoint.asked.clear()
    inner = Split.rewards
    monkeypatch.setattr(Split, "rewards", lambda self, *args: 6 - inner(self, *args))
    after = await visit(LLM, VisitInput(world="tiny", max_steps=2))
    assert [asked.prompt for asked in asked_of_user(endpoint)] == prompts and before.steps == after.steps


async def test_the_user_may_have_a_model_temperature_and_prompt_of_its_own(endpoint: Endpoint) -> None:
    context = Context(user_model="openai:human", user_temperature=1.25, user_prompt="Be strict.")
    output = await visit(context)
    assert {(asked.body["model"], asked.body["temperature"]) for asked in endpoint.asked} == {("human", 1.25)}
    assert len(endpoint.asked) == len(output.steps)
    assert all(asked.prompt.startswith("Be strict.\n\n```json") for asked in endpoint.asked)
    assert context.models == {"rules", "openai:human"} and not context.scripted


# Decisions of the user.


async def test_the_rating_and_the_reason_are_the_users_own(endpoint: Endpoint) -> None:
    endpoint.script = user_says(opinion(4.5, stay=True, reason="A fine\nthing."))
    output = await visit(FREE)
    assert [(step.reward, step.reason, step.left) for step in output.steps] == [(4.5, "A fine thing.", False)] * 6
    assert (output.left, output.leave_reason, output.total_reward) == (False, None, 27.0)


@pytest.mark.parametrize("context", [LLM, FREE])
async def test_a_user_who_will_not_stay_leaves_by_choice(endpoint: Endpoint, context: Context) -> None:
    endpoint.script = user_says(opinion(4.5, stay=False))
    output = await visit(context)
    assert (output.left, output.leave_reason, output.length, output.length_with_exit) == (True, "chose", 0, 1)
    assert output.steps[0].left and output.total_reward == 0


@pytest.mark.parametrize(("rating", "reason"), [(1.5, "disliked"), (4.5, "repeat")])
async def test_the_guard_applies_the_leave_rule_to_the_ratings_given(
    endpoint: Endpoint, rating: float, reason: str
) -> None:
    title = open_world_now("tiny").world.catalogue[3].title
    repeats = reason == "repeat"

    def script(asked: Asked) -> Reply:
        if asked.facts["role"] == "actor" and repeats:
            return Reply(json.dumps({"item": title}))
        return user_says(opinion(rating, stay=True))(asked)

    endpoint.script = script
    guarded = await visit(LLM.model_copy(update={"grounding": "nearest"}))
    assert [asked.facts["now"]["again"] for asked in asked_of_user(endpoint)] == [False, repeats]
    assert (guarded.leave_reason, guarded.length_with_exit) == (reason, 2)
    free = await visit(FREE.model_copy(update={"grounding": "nearest"}))
    assert (free.leave_reason, free.length) == (None, TINY.max_steps)


@pytest.mark.parametrize("reply", ['{"rating": 9, "stay": true}', "I would rather not say", '{"rating": NaN}', ""])
async def test_a_user_who_cannot_be_understood_is_the_worlds_own(endpoint: Endpoint, reply: str) -> None:
    endpoint.script = user_says(reply)
    output = await visit()
    split = open_world_now("tiny").world.split("dev")
    assert {step.outcomes["user"] for step in output.steps} == {"fallback"}
    assert [step.reward for step in output.steps] == [
        split.reward(output.user_id, step.item_id) for step in output.steps
    ]
    assert len(asked_of_user(endpoint)) == 2 * len(output.steps)
    assert output.leave_reason != "chose"


@pytest.mark.parametrize(
    "reply",
    [
        '```json\n{"rating": "2.5", "stay": "no", "reason": "Dull."}\n```',
        "Rating: 2.5\nStay: no\nReason: Dull.",
        "{'Rating': 2.5, 'Stay': False, 'Reason': 'Dull.'}",
    ],
)
async def test_a_reply_in_another_form_is_understood(endpoint: Endpoint, reply: str) -> None:
    endpoint.script = user_says(reply)
    output = await visit()
    assert (output.steps[0].reward, output.steps[0].reason, output.leave_reason) == (2.5, "Dull.", "chose")


async def test_no_role_is_told_why_the_user_stays_or_leaves(endpoint: Endpoint) -> None:
    endpoint.script = user_says(opinion(4, stay=True, reason="A SECRET of mine."))
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        await visit(FREE, store=store)
        output = await visit(FREE, VisitInput(world="tiny", seed=1, max_steps=3), store=store)
        assert {step.reason for step in output.steps} == {"A SECRET of mine."}
        assert not any("SECRET" in asked.prompt for asked in endpoint.asked)


async def test_a_resume_without_settings_goes_on_with_the_same_kind_of_user() -> None:
    saver = InMemorySaver(serde=serializer())
    graph: Any = build_variant("billp_llm_user").compile(checkpointer=saver, interrupt_before=["llm_user"])
    config = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke(TINY, config, context=Context())
    await graph.ainvoke(None, config)
    state = (await graph.aget_state(config)).values
    assert len(state["steps"]) == 1 and state["steps"][0].reason
    assert read_facts(state["exchange"]["user"].prompt)["role"] == "user"


# Studies with an LLM as the user.


@pytest.mark.slow
def test_a_study_holds_both_kinds_of_user_in_one_table(home: Path) -> None:
    variants = ("billp", "billp_llm_user")
    settings = StudySettings(world="tiny", variants=variants, train=2, test=8, cohort=2, max_steps=30)
    folder = run_study(settings, "users", concurrency=4, processes=1, progress=lambda *_: None)
    results = json.loads((folder / "results.json").read_text())
    table, llm = (row["leave_reasons"] for row in results["rows"])
    assert table["chose"] == 0 < llm["chose"] and sum(llm.values()) == 8
    lines = [json.loads(line) for line in (folder / "visits.jsonl").read_text().splitlines()]
    reasons = {line["variant"]: {bool(step["reason"]) for step in line["steps"]} for line in lines}
    assert reasons == {"billp": {False}, "billp_llm_user": {True}}
    assert "repeat / similar / disliked / chose / stayed" in shown(results)
    # The column for choice is missing if every user follows the leave rule.
    assert "repeat / similar / disliked / stayed" in shown(results | {"rows": results["rows"][:1]})


def shown(results: dict[str, Any]) -> str:
    console = Console(width=80, record=True)
    console.print(results_table(results))
    return " ".join(console.export_text().split())
