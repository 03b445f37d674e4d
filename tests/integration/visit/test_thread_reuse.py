"""Further visit on a thread: nothing in its state comes from the former visit, whatever graph ran it."""

import operator
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from langgraph.channels import EphemeralValue
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import Field

from graph.checkpoints import serializer
from graph.episode import build_variant
from graph.recommend import builder as recommend
from graph.run_metadata import Graph
from graph.variants import VARIANTS
from nodes.state import VisitState

pytestmark = pytest.mark.usefixtures("home")
# The number of the visit on its thread, and the id that is made of it.
COUNTED = {"visit", "visit_id"}


class Noted(VisitState):
    """State of a role with a bounded field and one that is added to."""

    last_note: str = Field("", max_length=20)
    notes: Annotated[list[str], operator.add] = []


async def noting(state: Noted) -> dict[str, Any]:
    """Take a note each round."""
    return {"last_note": f"round {len(state.steps)}", "notes": ["noted"]}


def noted() -> Graph:
    return build_variant("noted", VARIANTS["billp_outlook"].before("actor", noting))


def with_person() -> Graph:
    return recommend


def with_user() -> Graph:
    return build_variant("billp_outlook")


async def stopped(build: Callable[[], Graph], saver: Any, thread: str) -> dict[str, Any]:
    """Return the state of a visit just before its user is asked."""
    graph: Any = build().compile(checkpointer=saver)
    run = {"configurable": {"thread_id": thread}}
    node = "person" if "person" in graph.nodes else "user"
    output = await graph.ainvoke({"world": "tiny", "user_id": "3"}, run, interrupt_before=[node])
    values: dict[str, Any] = (await graph.aget_state(run)).values
    shown = {name: value for name, value in output.items() if name != "__interrupt__"}
    return {name: value for name, value in (shown | values).items() if name not in COUNTED}


@pytest.mark.parametrize("second", [with_user, with_person, noted])
@pytest.mark.parametrize("first", [with_user, noted])
async def test_a_visit_after_another_shows_what_it_shows_on_a_new_thread(
    first: Callable[[], Graph], second: Callable[[], Graph]
) -> None:
    saver = InMemorySaver(serde=serializer())
    graph: Any = first().compile(checkpointer=saver)
    ended = await graph.ainvoke({"world": "tiny", "max_steps": 3}, {"configurable": {"thread_id": "used"}})
    assert ended["length"] and ended["total_reward"]
    again, new = await stopped(second, saver, "used"), await stopped(second, saver, "new")
    assert again == new and "length" not in again


async def test_the_first_node_resets_all_that_is_no_input() -> None:
    builder = noted()
    lasting = {name for name, channel in builder.channels.items() if not isinstance(channel, EphemeralValue)}
    assert lasting >= {"left", "steps", "last_note", "notes"} and "total_reward" not in lasting
    updates = builder.compile().astream({"world": "tiny", "max_steps": 1}, stream_mode="updates")
    first = await anext(aiter(updates))
    assert {*first["begin"]} == lasting
