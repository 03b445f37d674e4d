"""Name, tags and metadata of a run in this process; test_server_runs.py tests them on a server."""

from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from graph import episode, recommend
from graph.checkpoints import serializer
from graph.episode import build_episode
from graph.variants import DEFAULT_VARIANT, graph_id
from nodes.actor import actor
from nodes.state import VisitInput
from nodes.users.simulated import user
from sim.errors import BadInputError

pytestmark = pytest.mark.usefixtures("home")


class Trace(AsyncCallbackHandler):
    """Tracer that keeps the root of each run and each model call."""

    def __init__(self) -> None:
        self.roots: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []

    async def on_chain_start(self, *args: Any, **run: Any) -> None:
        if run.get("parent_run_id") is None:
            self.roots.append(run)

    async def on_chat_model_start(self, *args: Any, **run: Any) -> None:
        self.calls.append(run)

    def known(self) -> dict[str, Any]:
        """Return name, tags and metadata of the last run."""
        root = self.roots[-1]
        told = {
            name: root["metadata"][name] for name in ("variant", "world", "user_id", "seed") if name in root["metadata"]
        }
        return {"name": root["name"], "tags": set(root["tags"]), **told}


@pytest.mark.parametrize("variant", ["billp_outlook", "billp", "act_only", "react", "reflexion", "billp_llm_user"])
async def test_a_run_says_its_variant_world_user_and_seed_by_itself(variant: str) -> None:
    trace = Trace()
    graph: Any = getattr(episode, "graph" if graph_id(variant) == "episode" else variant)
    given = {"world": "tiny", "user_id": "3", "seed": 5, "max_steps": 1}
    await graph.ainvoke(given, {"callbacks": [trace], "tags": ["mine"], "metadata": {"experiment": "7"}})
    assert trace.known() == {
        "name": f"{variant} 3",
        "tags": {"billp", variant, "mine"},
        "variant": variant,
        "world": "tiny",
        "user_id": "3",
        "seed": 5,
    }
    assert trace.roots[-1]["metadata"]["experiment"] == "7"
    assert trace.calls and all(call["metadata"]["user_id"] == "3" for call in trace.calls)


async def test_defaults_are_named_as_what_they_stand_for() -> None:
    trace = Trace()
    output = await episode.act_only.ainvoke(VisitInput(world="tiny", max_steps=1), {"callbacks": [trace]})
    assert output["user_id"] and trace.known()["user_id"] == output["user_id"]


async def test_a_name_of_the_callers_own_is_kept() -> None:
    trace = Trace()
    given = {"world": "tiny", "max_steps": 1}
    graph: Any = episode.act_only
    await graph.ainvoke(given, {"callbacks": [trace], "run_name": "a try"})
    assert trace.known()["name"] == "a try"


@pytest.mark.parametrize(
    "given",
    [{"user_id": "x" * 1000}, {"user_id": {"a": 1}}, {"world": "../../etc"}, {"seed": "seven"}, {"user_id": "nobody"}],
)
async def test_nothing_of_an_unusable_input_gets_into_a_trace(given: dict[str, Any]) -> None:
    trace = Trace()
    graph: Any = episode.graph
    with pytest.raises(BadInputError):
        await graph.ainvoke({"world": "tiny"} | given, {"callbacks": [trace]})
    assert trace.known() == {"name": DEFAULT_VARIANT, "tags": {"billp", DEFAULT_VARIANT}, "variant": DEFAULT_VARIANT}


async def test_a_resumed_run_is_known_as_the_visit_that_it_goes_on_with() -> None:
    trace = Trace()
    graph: Any = recommend.builder.compile(checkpointer=InMemorySaver(serde=serializer()))
    run: RunnableConfig = {"callbacks": [trace], "configurable": {"thread_id": "one"}}
    await graph.ainvoke({"world": "tiny", "user_id": "ann", "seed": 2, "wishes": "my secret wish"}, run)
    begun = trace.known()
    assert (begun["name"], begun["user_id"], begun["seed"]) == ("recommend ann", "ann", 2)
    await graph.aupdate_state(run, {"plan": "Recommend Horror."})
    await graph.ainvoke(Command(resume={"rating": 4, "comment": "my secret comment"}), run)
    assert len(trace.roots) == 2 and trace.known() == begun
    told = [one.metadata async for one in graph.aget_state_history(run) if one.metadata["source"] != "update"]
    assert len(told) > 5
    assert all((one["user_id"], one["world"], one["variant"]) == ("ann", "tiny", "recommend") for one in told)
    assert "secret" not in repr(told) + repr([root["metadata"] for root in trace.roots])


async def test_a_graph_of_ones_own_is_named_as_its_builder_says() -> None:
    trace = Trace()
    graph: Any = build_episode(actor, user, variant="curfew").compile()
    await graph.ainvoke({"world": "tiny", "user_id": "3", "max_steps": 1}, {"callbacks": [trace]})
    assert trace.known()["name"] == "curfew 3" and trace.known()["variant"] == "curfew"
