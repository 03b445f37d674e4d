"""Misspelt names in the input, the context and the configurable of a run: refused in one line, before anything runs."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from pydantic import ValidationError
from typing_extensions import TypedDict

from graph.checkpoints import serializer
from graph.episode import billp_paper, builder, graph
from graph.recommend import graph as recommend
from nodes.context import Context, completed
from nodes.state import VisitInput
from sim.errors import BadInputError

pytestmark = pytest.mark.usefixtures("home")
EPISODE: Any = graph
TINY: dict[str, Any] = {"world": "tiny", "max_steps": 1}

MISSPELT: list[tuple[Any, dict[str, Any], dict[str, Any], str]] = [
    (graph, {"wordl": "tiny"}, {}, "input: there is no field 'wordl': did you mean 'world'?"),
    (graph, TINY | {"wishes": "comedy"}, {}, "input: there is no field 'wishes': choose among world, user_id"),
    (recommend, TINY | {"wish": "comedy"}, {}, "input: there is no field 'wish': did you mean 'wishes'?"),
    (graph, TINY, {"context": {"modle": "rules"}}, "context: there is no setting 'modle': did you mean 'model'?"),
    (billp_paper, TINY, {"context": {"lessons": 3}}, "context: there is no setting 'lessons': did you mean"),
    (graph, TINY, {"context": {"x" * 1_000: 3}}, f"context: there is no setting '{'x' * 80}': choose among model"),
    (graph, TINY, {"context": {"temperature": 9}}, "context: temperature: Input should be less than or equal to 2"),
    (graph, TINY, {"context": {"model": "gpt-4"}}, "context: model: "),
    (
        graph, TINY, {"config": {"configurable": {"thread_id": "t", "modle": "rules"}}},
        "configurable: there is no setting 'modle': did you mean 'model'? Settings go into `context`",
    ),
    (
        graph, TINY, {"config": {"configurable": {"thread_id": "t", "model": "rules"}}},
        "configurable: 'model' is a setting: give it in `context`",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("run_graph", "given", "run", "words"), MISSPELT, ids=[one[-1][:60] for one in MISSPELT])
async def test_a_misspelt_name_is_refused_with_the_nearest_known_one(
    run_graph: Any, given: dict[str, Any], run: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInputError) as refused:
        await run_graph.ainvoke(given, **run)
    assert str(refused.value).startswith(words) and "\n" not in str(refused.value)


async def test_names_of_langgraph_and_its_server_are_no_settings() -> None:
    # As a run on a server has it: what the server and LangSmith add, and the settings once more.
    added = {
        "thread_id": "t", "run_id": "r", "graph_id": "episode", "assistant_id": "a", "user_id": "u", "cron_id": "c",
        "langgraph_request_id": "q", "langgraph_auth_user_id": "u", "langgraph_auth_permissions": [],
        "__request_start_time_ms__": 1, "__after_seconds__": 0, "x-request-id": "1", "user-agent": "curl",
        "langsmith-trace": "t", "lessons_k": 1, "authorization-of-mine": "sent by a header that langgraph.json names",
    }  # fmt: skip
    saved: Any = builder.compile(checkpointer=InMemorySaver(serde=serializer()))
    copied = {"thread_id": "t", "__event_streaming_v2": True, "lessons_k": 1}
    output = await saved.ainvoke(TINY, {"configurable": added}, context=copied)
    assert output["length_with_exit"] == 1


async def test_a_node_of_another_graph_passes_on_names_of_its_own() -> None:
    class Parent(TypedDict, total=False):
        world: str
        max_steps: int
        length: int
        wordl: str

    builder: Any = StateGraph(Parent)
    builder.add_node("visit", graph)
    builder.add_edge(START, "visit")
    builder.add_edge("visit", END)
    run = {"configurable": {"thread_id": "t", "tenant": "x"}}
    assert (await builder.compile().ainvoke({**TINY, "wordl": "mine"}, run))["length"] == 1


async def test_a_node_that_calls_the_graph_is_told_too() -> None:
    class Parent(TypedDict, total=False):
        length: int

    async def calls(_: Parent) -> dict[str, Any]:
        return {"length": (await EPISODE.ainvoke({"wordl": "tiny"}))["length"]}

    builder: Any = StateGraph(Parent)
    builder.add_node("calls", calls)
    builder.add_edge(START, "calls")
    with pytest.raises(BadInputError, match="did you mean 'world'"):
        await builder.compile().ainvoke({"length": 0})


def test_a_misspelt_setting_of_visits_in_another_context_is_refused() -> None:
    with pytest.raises(BadInputError, match="billp in the context: there is no setting 'modle': did you mean 'model'?"):
        completed(Context, {"modle": "theirs", "billp": {"modle": "rules"}})


def test_python_objects_refuse_unknown_names() -> None:
    for make in (lambda: Context.model_validate({"modle": "rules"}), lambda: VisitInput.model_validate({"wordl": "x"})):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            make()
