"""Names and metadata of runs on a server, started without any from the client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client

from graph.variants import DEFAULT_VARIANT
from tests.servers import serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server"), built_home) as server:
        yield server.url


@pytest.mark.parametrize("graph", ["episode", "billp", "act_only", "react", "reflexion", "recommend"])
async def test_a_run_carries_who_visits_which_world_in_events_and_checkpoints(url: str, graph: str) -> None:
    client = get_client(url=url, timeout=60)
    thread = (await client.threads.create())["thread_id"]
    given: dict[str, Any] = {"world": "tiny", "user_id": "3", "seed": 4, "max_steps": 1}
    events = [event.data async for event in client.runs.stream(thread, graph, input=given, stream_mode="events")]
    if graph == "recommend":
        await client.runs.wait(thread, graph, command={"resume": {"rating": 4}})
    variant = DEFAULT_VARIANT if graph == "episode" else graph
    known = {"variant": variant, "world": "tiny", "user_id": "3", "seed": 4}
    begun: Any = next(event for event in events if event and event.get("event") == "on_chain_start")
    assert begun["name"] == f"{variant} 3"
    assert {"billp", variant} <= {*begun["tags"]} and known.items() <= begun["metadata"].items()
    asked = [event for event in events if event and event.get("event") == "on_chat_model_start"]
    assert asked and all(known.items() <= event["metadata"].items() for event in asked)
    history = await client.threads.get_history(thread, limit=100)
    assert len(history) > 3
    assert all(known.items() <= (one["metadata"] or {}).items() for one in history)
