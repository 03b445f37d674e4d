"""Plan edited by a person: an order that the shortlist is drawn for and the Actor follows, whatever model it has."""

import json
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from graph.checkpoints import serializer
from graph.episode import build_variant
from graph.recommend import builder as recommend
from nodes.context import Context
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.llm.prompting import read_facts
from nodes.tools.open_world import open_world_now
from sim.catalogue import Item
from tests.scripted import Asked, Reply, by_rules, serving

pytestmark = pytest.mark.usefixtures("home")

GENRES = ("Adventure", "Comedy", "Crime", "Documentary", "Fantasy", "Romance")
WORDS = {"Adventure": "adventures", "Comedy": "something funny", "Crime": "gangster stories", "Documentary": "docs"}
# An order and the categories that its item has, or has not.
ORDERS = [
    *((f"Recommend {genre}.", {genre}, set()) for genre in GENRES),
    *((f"Only {genre.lower()}!", {genre}, set()) for genre in GENRES),
    *((f"No {genre.lower()} today", set(), {genre}) for genre in GENRES),
    *((words, {genre}, set()) for genre, words in WORDS.items()),
    ("romantic comedies", {"Romance", "Comedy"}, set()),
    ("comedy, but no crime", {"Comedy"}, {"Crime"}),
    ("anything but fantasy", set(), {"Fantasy"}),
    ("less romance, more crime", {"Crime"}, {"Romance"}),
    ("Leave out comedy and crime", set(), {"Comedy", "Crime"}),
    ("I am tired of documentaries", set(), {"Documentary"}),
    ("fairy tales please", {"Fantasy"}, set()),
    ("not romantic", set(), {"Romance"}),
]  # fmt: skip


def visit(name: str = "billp") -> tuple[Any, dict[str, Any]]:
    graph: Any = build_variant(name).compile(checkpointer=InMemorySaver(serde=serializer()))
    return graph, {"configurable": {"thread_id": "t"}}


async def item_after(graph: Any, run: dict[str, Any], edit: dict[str, Any], **context: Any) -> Item:
    await graph.ainvoke({"world": "tiny"}, run, interrupt_before=["actor"], context=Context(**context))
    await graph.aupdate_state(run, edit)
    await graph.ainvoke(None, run, interrupt_before=["user"], context=Context(**context))
    proposal = (await graph.aget_state(run)).values["proposal"]
    return open_world_now("tiny").world.catalogue.item(proposal.item_id)


def test_there_are_thirty_orders() -> None:
    assert len(ORDERS) == 30


@pytest.mark.parametrize(("plan", "wanted", "unwanted"), ORDERS)
async def test_an_edited_plan_is_followed(plan: str, wanted: set[str], unwanted: set[str]) -> None:
    item = await item_after(*visit(), {"plan": plan})
    assert wanted <= {*item.genres} and not unwanted & {*item.genres}


async def test_a_title_is_an_order_too() -> None:
    world = open_world_now("tiny").world
    known = {*world.users[world.split("dev").users[0]].history}
    title = next(item.title for item in world.catalogue if item.id not in known)
    assert (await item_after(*visit(), {"plan": f"Recommend {title}."})).title == title


async def test_what_the_catalogue_lacks_is_said() -> None:
    graph, run = visit()
    await item_after(graph, run, {"plan": "Recommend Horror."})
    assert (await graph.aget_state(run)).values["unmet"] == ["Horror: the catalogue has none"]
    await graph.aupdate_state(run, {"plan": "romantic documentaries with crime and fantasy"}, as_node="planner")
    await graph.ainvoke(None, run, interrupt_before=["user"])
    assert (
        "do not go with the rest" in str((await graph.aget_state(run)).values["unmet"])
        or (await graph.aget_state(run)).values["proposal"]
    )


@pytest.mark.parametrize("claim", [{"ordered": False}, {"own_plan": "Recommend Crime."}])
async def test_an_edit_cannot_pass_for_a_plan_of_the_planner(claim: dict[str, Any]) -> None:
    assert "Crime" in (await item_after(*visit(), {"plan": "Recommend Crime."} | claim)).genres


async def test_an_order_before_the_planner_stands_and_counts_once() -> None:
    graph, run = visit()
    await graph.ainvoke({"world": "tiny", "max_steps": 4}, run, interrupt_before=["critic"])
    await graph.aupdate_state(run, {"plan": "Only documentaries!"})
    await graph.ainvoke(None, run, interrupt_before=["user"])
    state = (await graph.aget_state(run)).values
    assert state["plan"] == "Only documentaries!" and "Documentary" in state["proposal"].genres
    await graph.ainvoke(None, run, interrupt_before=["actor"])
    state = (await graph.aget_state(run)).values
    assert state["plan"] == state["own_plan"] != "Only documentaries!" and not state["ordered"]


@pytest.mark.parametrize("variant", ["billp_outlook", "no_micro", "act_only"])
async def test_other_variants_follow_an_order(variant: str) -> None:
    assert "Documentary" in (await item_after(*visit(variant), {"plan": "Only documentaries!"})).genres


async def test_a_person_orders_by_an_answer() -> None:
    graph: Any = recommend.compile(checkpointer=InMemorySaver(serde=serializer()))
    run: dict[str, Any] = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"world": "tiny", "wishes": "no crime"}, run)
    asked = await graph.ainvoke(Command(resume={"skip": True, "plan": "only documentaries"}), run)
    question = asked["__interrupt__"][0].value
    assert "Documentary" in question["genres"] and "Crime" not in question["genres"]
    assert question["plan"] == "only documentaries" and question["unmet"] == []
    assert question["understood"] == ["no Crime"]
    assert question["understood_line"] == "Understood: no Crime."


async def test_a_title_that_was_asked_for_and_recommended_is_not_missed_later() -> None:
    graph: Any = recommend.compile(checkpointer=InMemorySaver(serde=serializer()))
    run: dict[str, Any] = {"configurable": {"thread_id": "t"}}
    title = open_world_now("tiny").world.catalogue[7].title
    asked = await graph.ainvoke({"world": "tiny", "wishes": f'recommend "{title}"'}, run)
    assert asked["__interrupt__"][0].value["title"] == title
    asked = await graph.ainvoke(Command(resume={"rating": 5}), run)
    assert asked["__interrupt__"][0].value["unmet"] == []


@pytest.mark.parametrize(("plan", "wanted", "unwanted"), ORDERS[::5])
async def test_a_model_that_names_something_else_is_asked_again(
    plan: str, wanted: set[str], unwanted: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = open_world_now("tiny").world.catalogue
    other = next(item for item in catalogue if not wanted <= {*item.genres} or unwanted & {*item.genres})

    def stubborn(asked: Asked) -> Reply:
        return Reply(json.dumps({"item": other.title})) if asked.facts["role"] == "actor" else by_rules(asked)

    with serving(stubborn) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        shared_endpoint.cache_clear()
        graph, run = visit()
        item = await item_after(graph, run, {"plan": plan}, model="openai:scripted")
        asked = (await graph.aget_state(run)).values["exchange"]["actor"]
    shared_endpoint.cache_clear()
    assert wanted <= {*item.genres} and not unwanted & {*item.genres}
    assert asked.outcome == "fallback" and read_facts(asked.prompt)["plan_is_an_order_of_a_person"]
