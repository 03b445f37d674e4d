"""Streamed events of a visit on a server, with a model that streams."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client

from tests import scripted
from tests.scripted import Endpoint
from tests.servers import serving

pytestmark = pytest.mark.slow

VISIT: dict[str, Any] = {"world": "tiny", "max_steps": 2}
SCRIPTED = {"model": "openai:scripted"}
ROLES = {"planner", "actor", "critic", "reflector"}


@pytest.fixture(scope="module")
def model() -> Iterator[Endpoint]:
    with scripted.serving(scripted.by_rules) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def url(model: Endpoint, built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(
        tmp_path_factory.mktemp("server"), built_home, env={"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "any"}
    ) as server:
        yield server.url


async def stream(url: str, *modes: Any, **run: Any) -> tuple[list[Any], dict[str, Any]]:
    """Run a visit, and return its events and its final state."""
    client = get_client(url=url, timeout=60)
    thread = (await client.threads.create())["thread_id"]
    events = [
        event async for event in client.runs.stream(thread, "episode", input=VISIT, stream_mode=list(modes), **run)
    ]
    assert "error" not in {event.event for event in events}
    state: Any = await client.threads.get_state(thread)
    return events, dict(state["values"])


async def test_tokens_stream_as_the_roles_write_them(url: str, model: Endpoint) -> None:
    asked = len(model.asked)
    events, state = await stream(url, "messages-tuple", context=SCRIPTED)
    calls: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for message, metadata in (event.data for event in events if event.event == "messages"):
        calls[metadata["langgraph_node"], message["id"]].append(message["content"])
    assert {node for node, _ in calls} == ROLES
    assert len(calls) == len(model.asked) - asked == state["usage"]["calls"]
    for chunks in calls.values():
        assert len([chunk for chunk in chunks if chunk]) > 2, chunks
    for role in ROLES:
        # The state keeps the last reply of each role.
        assert (
            "".join([chunks for (node, _), chunks in calls.items() if node == role][-1])
            == (state["exchange"][role]["reply"])
        )
    assert all(one.body["stream"] and one.headers["authorization"] for one in model.asked[asked:])


async def test_messages_grow_where_a_client_asks_for_them_whole(url: str) -> None:
    events, state = await stream(url, "messages", context=SCRIPTED)
    nodes = {
        message: told["metadata"]["langgraph_node"]
        for event in events
        if event.event == "messages/metadata"
        for message, told in event.data.items()
    }
    assert set(nodes.values()) == ROLES
    grown: defaultdict[str, list[str]] = defaultdict(list)
    for event in events:
        if event.event == "messages/partial":
            grown[event.data[0]["id"]].append(event.data[0]["content"])
    assert grown.keys() == nodes.keys()
    for texts in grown.values():
        assert all(later.startswith(text) for text, later in zip(texts, texts[1:], strict=False))
        assert len(set(texts)) > 3
    last = {nodes[message]: texts[-1] for message, texts in grown.items()}
    assert last == {role: state["exchange"][role]["reply"] for role in ROLES}


async def test_all_modes_come_together_and_tokens_before_what_is_made_of_them(url: str) -> None:
    events, state = await stream(url, "messages-tuple", "updates", "values", "custom", context=SCRIPTED)
    assert {"messages", "updates", "values", "custom"} <= {event.event for event in events}
    updated = [node for event in events if event.event == "updates" for node in event.data]
    rounds = ["planner", "outlook", "actor", "user", "critic"] * len(state["steps"])
    assert updated == ["begin", *rounds, "reflector", "finish"]
    told = [event.data["round"]["title"] for event in events if event.event == "custom"]
    assert told == [step["title"] for step in state["steps"]]
    values = [event.data for event in events if event.event == "values"]
    assert values[-1]["total_reward"] == state["total_reward"]
    for role in ROLES:
        token = next(
            n for n, event in enumerate(events) if event.event == "messages" and event.data[1]["langgraph_node"] == role
        )
        update = next(n for n, event in enumerate(events) if event.event == "updates" and role in event.data)
        assert token < update


async def test_a_model_that_does_not_stream_comes_as_whole_messages(url: str) -> None:
    events, state = await stream(url, "messages-tuple")
    messages = [event.data for event in events if event.event == "messages"]
    assert len(messages) == state["usage"]["calls"]
    assert {metadata["langgraph_node"] for _, metadata in messages} == ROLES


async def test_a_visit_is_the_same_whether_its_tokens_are_streamed_or_not(url: str) -> None:
    unlearnt = {"learn": "off"}
    _, streamed = await stream(url, "messages-tuple", context=SCRIPTED | unlearnt)
    _, whole = await stream(url, "values", context=SCRIPTED | unlearnt)
    _, rules = await stream(url, "values", context=unlearnt)
    assert [step["title"] for step in streamed["steps"]] == [step["title"] for step in whole["steps"]]
    assert [step["title"] for step in streamed["steps"]] == [step["title"] for step in rules["steps"]]
    assert streamed["usage"]["calls"] == whole["usage"]["calls"]
