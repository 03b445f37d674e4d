"""Streams of visits: each stream mode, version and way to call that LangGraph has, in and out of another graph."""

import typing
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, StreamMode

from graph.checkpoints import serializer
from graph.episode import builder as episode
from graph.recommend import builder as recommend
from nodes.state import VisitOutput, VisitProgress
from sim.errors import BadInputError

pytestmark = pytest.mark.usefixtures("home")
MODES: list[Any] = list(typing.get_args(StreamMode))
TINY = {"world": "tiny", "max_steps": 1}
RATED: Command[Any] = Command(resume={"rating": 4})
# LangGraph marks both its oldest and its newest protocol of events.
WARNED = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The v3 streaming protocol")


class Parent(TypedDict, total=False):
    world: str
    max_steps: int
    length_with_exit: int


def in_a_node(graph: Any) -> Any:
    """Return a graph that runs another one as its node."""
    return StateGraph(Parent).add_node("visit", graph).add_edge(START, "visit").add_edge("visit", END)


@pytest.fixture(params=["episode", "recommend"])
def asks(request: pytest.FixtureRequest) -> bool:
    """Whether the visit asks a person, and is resumed with an answer."""
    return str(request.param) == "recommend"


@pytest.fixture(params=["alone", "in a node"])
def graph(asks: bool, request: pytest.FixtureRequest) -> Any:
    builder: Any = recommend if asks else episode
    if request.param == "in a node":
        builder = in_a_node(builder.compile())
    return builder.compile(checkpointer=InMemorySaver(serde=serializer()))


def thread(*names: object) -> dict[str, Any]:
    return {"configurable": {"thread_id": " ".join(map(str, names))}}


def length(values: Any) -> int | None:
    """Return the rounds of a visit that has ended, from values as a mapping or an object."""
    found = values.get("length_with_exit") if isinstance(values, dict) else values.length_with_exit
    return None if found is None else int(found)


@pytest.mark.parametrize("subgraphs", [False, True])
async def test_each_stream_mode_has_the_same_parts_in_each_version(graph: Any, asks: bool, subgraphs: bool) -> None:
    for mode in [*MODES, MODES]:
        kinds = {}
        for version in ("v1", "v2"):
            parts: list[tuple[str, Any]] = []
            for given in [TINY, RATED] if asks else [TINY]:
                run = {"stream_mode": mode, "version": version, "subgraphs": subgraphs}
                async for part in graph.astream(given, thread(mode, version), **run):
                    if version == "v2":
                        parts.append((part["type"], part["data"]))
                    else:
                        *name, data = part if isinstance(part, tuple) and (subgraphs or mode is MODES) else ("", part)
                        parts.append((name[-1] if mode is MODES else mode, data))
            kinds[version] = sorted(kind for kind, _ in parts)
            if mode == "values" and not subgraphs:
                assert length(parts[-1][1]) == 1
        assert kinds["v1"] == kinds["v2"]
        # Without its subgraphs, a graph around a visit has neither messages nor custom parts of its own.
        quiet = {"messages", "custom"} if not subgraphs and "visit" in graph.nodes else set()
        assert {*kinds["v2"]} | quiet == {*(MODES if mode is MODES else [mode])} | quiet


@pytest.mark.parametrize("mode", ["values", "updates", MODES])
async def test_an_invocation_returns_the_visit_in_each_version(graph: Any, asks: bool, mode: Any) -> None:
    for version in ("v1", "v2"):
        config = thread(version)
        output = await graph.ainvoke(TINY, config, stream_mode=mode, version=version)
        if asks:
            if mode == "values":
                asked = output.interrupts if version == "v2" else output["__interrupt__"]
                assert asked[0].value["round"] == 1
            output = await graph.ainvoke(RATED, config, stream_mode=mode, version=version)
        assert output
        if mode == "values":
            assert length(output.value if version == "v2" else output) == 1


@WARNED
async def test_each_version_of_events_reports_the_visit(graph: Any, asks: bool) -> None:
    for version in ("v1", "v2"):
        config = thread(version)
        for given in [TINY, RATED] if asks else [TINY]:
            names = {event["name"] async for event in graph.astream_events(given, config, version=version)}
        assert {"critic", "reflector", "finish"} <= names
    config = thread("v3")
    run = await graph.astream_events(TINY, config, version="v3")
    assert await run.interrupted() == asks
    if asks:
        assert (await run.interrupts())[0].value["round"] == 1
        run = await graph.astream_events(RATED, config, version="v3")
    assert length(await run.output()) == 1
    run = await graph.astream_events(TINY, thread("events"), version="v3")
    assert {"messages", "values"} <= {event["method"] async for event in run}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_call_without_an_event_loop_is_refused(graph: Any, version: str) -> None:
    for call in (graph.invoke, lambda *given, **run: list(graph.stream(*given, **run))):
        with pytest.raises(TypeError, match="async API"):
            call(TINY, thread("sync"), version=version)


async def test_the_output_before_the_end_is_no_finished_visit() -> None:
    graph: Any = recommend.compile(checkpointer=InMemorySaver(serde=serializer()))
    output = await graph.ainvoke(TINY, thread("t"), version="v2")
    assert output.value == VisitProgress(usage=output.value.usage) and output.value.usage.calls == 2
    with pytest.raises(ValueError, match="length"):
        VisitOutput.model_validate((await graph.aget_state(thread("t"))).values)
    broken = VisitProgress.model_validate({"steps": "many"})
    with pytest.raises(ValueError, match="steps: Input should be a valid list"):
        broken.check_types()
    output = await graph.ainvoke(RATED, thread("t"), version="v2")
    assert VisitOutput.model_validate(output.value.model_dump()).length == 1
    with pytest.raises(ValueError, match="steps: Input should be a valid list"):
        VisitOutput.model_validate(output.value.model_dump() | {"steps": "many"})


async def test_an_invalid_edit_fails_in_one_line_in_the_newer_streams_too() -> None:
    graph: Any = episode.compile(checkpointer=InMemorySaver(serde=serializer()))
    await graph.ainvoke(TINY, thread("t"), interrupt_before=["critic"], version="v2")
    await graph.aupdate_state(thread("t"), {"steps": [{"index": 0, "reward": 99.0}]})
    with pytest.raises(BadInputError, match="^steps: 0: reward: ") as failed:
        await graph.ainvoke(None, thread("t"), version="v2")
    assert "\n" not in str(failed.value)
