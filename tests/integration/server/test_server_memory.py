"""Deletion of a server's records by a client."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from nodes.llm.prompting import read_facts
from tests.servers import serving

pytestmark = pytest.mark.slow

VISIT: dict[str, Any] = {"world": "tiny", "max_steps": 3}


@pytest.fixture(scope="module")
def url(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server"), built_home) as server:
        yield server.url


async def visit(server: LangGraphClient, **run: Any) -> dict[str, Any]:
    """Run a visit on a thread of its own, and return its final state."""
    thread = (await server.threads.create())["thread_id"]
    await server.runs.wait(thread, "episode", input=VISIT, **run)
    state: Any = await server.threads.get_state(thread)
    return dict(state["values"])


def told(state: dict[str, Any]) -> list[float]:
    """Return the advantages of the experiences in the Actor's last prompt."""
    return [one["advantage"] for one in read_facts(state["exchange"]["actor"]["prompt"])["experiences"]]


async def test_a_memory_deleted_through_the_store_is_recalled_no_more(url: str) -> None:
    server = get_client(url=url, timeout=60)
    # Only the first visit learns; the later ones differ by the deletion alone.
    await visit(server)
    recalling = {"context": {"learn": "off"}}
    before = await visit(server, **recalling)
    (lesson,) = before["lessons"]
    assert lesson["text"] in before["exchange"]["planner"]["prompt"]
    recalled = before["experiences"][0]
    assert told(before) == [round(one["advantage"], 2) for one in before["experiences"]]

    for kind, field, gone in (("lessons", "text", lesson["text"]), ("experiences", "title", recalled["title"])):
        found = await server.store.search_items((kind, "tiny"), limit=100)
        doomed = [item for item in found["items"] if item["value"][field] == gone]
        assert doomed
        for item in doomed:
            await server.store.delete_item(item["namespace"], item["key"])

    after = await visit(server, **recalling)
    assert after["lessons"] == [] and lesson["text"] not in after["exchange"]["planner"]["prompt"]
    assert recalled["title"] not in [one["title"] for one in after["experiences"]]
    assert len(after["experiences"]) == len(before["experiences"]) - 1
    assert told(after) == [round(one["advantage"], 2) for one in after["experiences"]]
