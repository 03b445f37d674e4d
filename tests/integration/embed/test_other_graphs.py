"""Visits in graphs of other people: each has an id of its own, which resume, replay and fork keep."""

import operator
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send
from pydantic import BaseModel

from graph.agent_tool import billp_tool
from graph.episode import builder as episode_builder
from graph.episode import compiled
from graph.episode import graph as episode_graph
from graph.recommend import graph as recommend_graph
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context
from nodes.context_paper import PaperContext
from nodes.tools.open_world import open_world_now
from sim.errors import BadInputError

pytestmark = pytest.mark.usefixtures("home")
TINY: dict[str, Any] = {"world": "tiny", "max_steps": 1}
EPISODE: Any = episode_graph
RECOMMEND: Any = recommend_graph


def latest(_: Any, new: Any) -> Any:
    return new


class Parent(TypedDict, total=False):
    """State of a graph that runs visits."""

    world: Annotated[str, latest]
    max_steps: Annotated[int, latest]
    visits: Annotated[int, operator.add]


@pytest.fixture
async def store(home: Path) -> AsyncIterator[ChromaStore]:
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        yield store


def thread(name: str = "t") -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def users() -> tuple[str, ...]:
    return open_world_now("tiny").world.split("dev").users


def ids(store: ChromaStore, kind: str = "lessons") -> list[str]:
    """Return the ids of the visits that wrote records of a kind, one for each record."""
    return sorted(one.value["visit"] for one in store.records((kind,)))


def wired(node: Any, *more: Any) -> Any:
    """Return a graph with these nodes one after the other."""
    builder: Any = StateGraph(Parent)
    names = [f"visit{number}" for number in range(1 + len(more))]
    for name, one in zip(names, (node, *more), strict=True):
        builder.add_node(name, one)
    for source, target in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(source, target)
    return builder


def looped(times: int = 3, graph: Any = EPISODE) -> Any:
    """Return a graph with the visit as a node that runs several times."""
    builder: Any = StateGraph(Parent)
    builder.add_node("visit", graph)
    builder.add_node("count", lambda _: {"visits": 1})
    builder.add_edge(START, "visit")
    builder.add_edge("visit", "count")
    builder.add_conditional_edges("count", lambda state: "visit" if state["visits"] % times else END, ["visit", END])
    return builder


def sent(graph: Any, given: Callable[[], list[dict[str, Any]]]) -> Any:
    """Return a graph that runs a visit for each input, all at once."""
    builder: Any = StateGraph(Parent)
    builder.add_node("visit", graph)
    builder.add_conditional_edges(START, lambda _: [Send("visit", one) for one in given()], ["visit"])
    return builder


async def in_a_node(_: Parent) -> dict[str, Any]:
    for _number in range(3):
        await EPISODE.ainvoke(TINY)
    return {"visits": 3}


async def at_once(_: Parent) -> dict[str, Any]:
    await EPISODE.abatch([TINY | {"user_id": one} for one in users()[:2] * 2])
    return {"visits": 4}


@tool
async def recommended(user_id: str) -> str:
    """Recommend films to a user."""
    visit = await EPISODE.ainvoke(TINY | {"user_id": user_id})
    return str(visit["length"])


def agent(called: BaseTool, **arguments: Any) -> Any:
    """Return an agent whose model calls the tool twice in one message and once in the next."""
    calls = [{"name": called.name, "args": arguments, "id": str(number)} for number in range(3)]
    model = GenericFakeChatModel(
        messages=iter([AIMessage("", tool_calls=calls[:2]), AIMessage("", tool_calls=calls[2:]), AIMessage("Done.")])
    )
    builder: Any = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode([called]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges(
        "model", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END]
    )
    builder.add_edge("tools", "model")
    return builder


WAYS: dict[str, tuple[Callable[[], StateGraph[Any, Any, Any, Any]], int]] = {
    "three calls in a node": (lambda: wired(in_a_node), 3),
    "a node in a loop": (looped, 3),
    "sent": (lambda: sent(EPISODE, lambda: [TINY | {"user_id": one} for one in users()[:4]]), 4),
    "the same user sent": (lambda: sent(EPISODE, lambda: [TINY] * 3), 3),
    "two subgraphs": (lambda: wired(wired(EPISODE).compile(), wired(EPISODE).compile()), 2),
    "a loop in a subgraph": (lambda: wired(looped(2).compile(), looped(2).compile()), 4),
    "a graph with its own history": (lambda: looped(graph=episode_builder.compile(checkpointer=True)), 3),
    "a subgraph with its own history": (lambda: wired(looped(2).compile(checkpointer=True)), 2),
    "sent to a subgraph": (lambda: sent(wired(EPISODE).compile(), lambda: [TINY] * 3), 3),
    "a batch in a node": (lambda: wired(at_once), 4),
    "tool calls of an agent": (lambda: agent(recommended, user_id=users()[0]), 3),
    "calls of billp_tool": (lambda: agent(billp_tool(world="tiny"), max_steps=1), 3),
}


def given(way: str) -> dict[str, Any]:
    return {"messages": ["Some films?"]} if "calls of" in way else TINY


@pytest.mark.parametrize(
    ("way", "saves"),
    [(way, True) for way in WAYS] + [(way, False) for way in WAYS if "own history" not in way],
)
async def test_each_visit_has_an_id_of_its_own(way: str, saves: bool, store: ChromaStore) -> None:
    build, visits = WAYS[way]
    graph: Any = build().compile(checkpointer=InMemorySaver() if saves else None, store=store)
    await graph.ainvoke(given(way), thread())
    assert len(ids(store)) == len({*ids(store)}) == visits
    assert all(one.startswith("t/") for one in ids(store))
    assert {*ids(store, "experiences")} == {*ids(store)}


async def test_a_visit_recalls_what_earlier_visits_of_the_same_parent_wrote(store: ChromaStore) -> None:
    saver = InMemorySaver()
    graph: Any = wired(in_a_node).compile(checkpointer=saver, store=store)
    await graph.ainvoke(TINY, thread())
    alone: Any = episode_builder.compile(checkpointer=InMemorySaver(), store=(other := ChromaStore()))
    for name in "abc":
        await alone.ainvoke(TINY, thread(name))

    def known(where: ChromaStore) -> list[Any]:
        return sorted((one.value["title"], one.value["plan"]) for one in where.records(("experiences",)))

    assert known(store) == known(other)
    await other.aclose()


async def history(graph: Any, config: dict[str, Any]) -> list[Any]:
    """Return the states of a thread, oldest first."""
    return [state async for state in graph.aget_state_history(config)][::-1]


@pytest.mark.parametrize("way", [way for way in WAYS if "calls of" not in way and way != "sent to a subgraph"])
@pytest.mark.parametrize("edit", [None, {"visits": 0}], ids=["replay", "fork"])
async def test_a_visit_keeps_its_id_when_the_other_graph_is_replayed_or_forked(
    way: str, edit: dict[str, Any] | None, store: ChromaStore
) -> None:
    build, _ = WAYS[way]
    graph: Any = build().compile(checkpointer=InMemorySaver(), store=store)
    await graph.ainvoke(TINY, thread())
    first = ids(store)
    states = await history(graph, thread())
    for state in {1: states[1], len(states) // 2: states[len(states) // 2]}.values():
        config = state.config if edit is None else await graph.aupdate_state(state.config, edit)
        await graph.ainvoke(None, config)
        assert ids(store) == first
    # A new input starts new visits.
    await graph.ainvoke(TINY, thread())
    assert len({*ids(store)}) == 2 * len(first)


@pytest.mark.parametrize("way", ["loop", "sent", "calls in a node", "batch in a node"])
async def test_a_person_s_visit_keeps_its_id_when_it_is_resumed(way: str, store: ChromaStore) -> None:
    inputs = [TINY | {"user_id": name, "max_steps": 2} for name in ("ann", "bob", "cem")]

    async def in_turn(_: Parent) -> dict[str, Any]:
        return {"visits": len([await RECOMMEND.ainvoke(one) for one in inputs])}

    async def batch(_: Parent) -> dict[str, Any]:
        outputs = await RECOMMEND.abatch(inputs)
        assert [one["user_id"] for one in outputs] == [one["user_id"] for one in inputs]
        return {"visits": len(outputs)}

    build: dict[str, Callable[[], Any]] = {
        "loop": lambda: looped(graph=RECOMMEND),
        "sent": lambda: sent(RECOMMEND, lambda: inputs),
        "calls in a node": lambda: wired(in_turn),
        "batch in a node": lambda: wired(batch),
    }
    async with AsyncSqliteSaver.from_conn_string(":memory:") as saver:
        graph = build[way]().compile(checkpointer=saver, store=store)
        output = await graph.ainvoke(inputs[0], thread())
        while asked := output.get("__interrupt__"):
            rating = {"rating": 4.0, "comment": "more of these"}
            output = await graph.ainvoke(Command(resume={one.id: rating for one in asked}), thread())
    # Each visit has two rounds: a record of each, and two statements about each.
    of_rounds = ids(store, "experiences")
    assert len({*of_rounds}) == 3 and len(of_rounds) == 6
    assert len({*ids(store, "statements")}) == 3 and len(ids(store, "statements")) == 12


async def test_runs_at_once_on_one_thread_and_runs_without_checkpoints_have_ids_of_their_own(
    store: ChromaStore,
) -> None:
    inputs = [TINY | {"user_id": one} for one in users()[:2] * 2]
    graph: Any = episode_builder.compile(checkpointer=InMemorySaver(), store=store)
    await graph.abatch(inputs, thread())
    assert len({*ids(store)}) == 4
    graph = episode_builder.compile(store=store)
    for _ in range(2):
        await graph.ainvoke(TINY, thread())
    assert len({*ids(store)}) == len(ids(store)) == 6


@dataclass
class Mine:
    """Context of another program."""

    model: str = "gpt-5"
    billp: Any = None


class Theirs(BaseModel):
    """Context of another program, in pydantic."""

    temperature: float = 99.0
    learn: str = "everything"
    billp: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("context", "learns"),
    [
        (Mine(), True),
        (Mine(billp=Mine()), True),
        (Theirs(), True),
        ({"model": "gpt-5", "learn": "off"}, True),
        (object(), True),
        (Mine(billp=Context(learn="off")), False),
        (Mine(billp={"learn": "off"}), False),
        (Theirs(billp={"learn": "off"}), False),
        ({"model": "gpt-5", "billp": {"learn": "off"}}, False),
        ({"billp": PaperContext(learn="off")}, False),
        (Context(learn="off"), False),
    ],
)
@pytest.mark.parametrize("graph", [EPISODE, RECOMMEND, compiled("billp_paper")], ids=["episode", "recommend", "paper"])
async def test_a_graph_with_a_context_of_its_own_keeps_the_settings_of_visits_in_it(
    graph: Any, context: Any, learns: bool, store: ChromaStore
) -> None:
    builder: Any = StateGraph(Parent, context_schema=type(context))
    builder.add_node("visit", graph)
    builder.add_edge(START, "visit")
    parent = builder.compile(checkpointer=InMemorySaver(), store=store)
    output = await parent.ainvoke(TINY, thread(), context=context)
    if graph is RECOMMEND:
        assert output["__interrupt__"]
        await parent.ainvoke(Command(resume={"rating": 4.0}), thread(), context=context)
    assert bool(store.records()) == learns


async def test_an_invalid_setting_in_another_context_fails_in_one_line() -> None:
    graph: Any = wired(EPISODE).compile()
    with pytest.raises(BadInputError, match=r"^billp in the context: lessons_k: .* correct the setting") as failed:
        await graph.ainvoke(TINY, context=Mine(billp={"lessons_k": -1}))
    assert "\n" not in str(failed.value)
