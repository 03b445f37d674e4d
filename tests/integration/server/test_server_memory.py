"""Records of a server: deletion by a client, and `billp memory --server` beside the running server."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from nodes.llm.prompting import read_facts
from tests.commands import BILLP, billp, billp_process, refused
from tests.processes import run
from tests.servers import ROOT, Server, serving

pytestmark = pytest.mark.slow

VISIT: dict[str, Any] = {"world": "tiny", "max_steps": 3}


@pytest.fixture(scope="module")
def server(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), built_home) as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return server.url


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
    assert after["experiences"]
    assert told(after) == [round(one["advantage"], 2) for one in after["experiences"]]


def read(url: str, *args: str) -> Any:
    done = run([*BILLP, "memory", *args, "--server", url, "--json"], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_the_memory_of_a_running_server_is_read_through_it(server: Server) -> None:
    client = get_client(url=server.url, timeout=60)
    await visit(client)
    locked = await asyncio.to_thread(billp_process, server.log.parent.parent / "home", "memory", "list")
    assert locked.returncode == 2
    assert f"(locked by process {server.process.pid} (langgraph dev))" in locked.stderr
    assert f"`billp memory list`, `show` and `search` read through it with `--server {server.url}`" in locked.stderr
    listed, lessons, found = await asyncio.gather(
        *(
            asyncio.to_thread(read, server.url, *args)
            for args in (("list",), ("show", "lessons"), ("search", "distance", "--kind", "lessons"))
        )
    )
    stored = (await client.store.search_items((), limit=1_000))["items"]
    assert listed["records"] == len(stored) > 0
    assert {*listed["kinds"]} == {"lessons", "experiences", "values"}
    (lesson,) = lessons
    assert lesson["text"] in [item["value"].get("text") for item in stored]
    assert found[0]["value"]["text"] == lesson["text"] and found[0]["score"] > 0


def test_a_server_and_a_study_are_not_read_at_once(home: Path) -> None:
    line = refused(billp(home, "memory", "list", "--run", "mine", "--server", "http://127.0.0.1:1"))
    assert "leave out --server" in line
    gone = billp(home, "memory", "list", "--server", "http://127.0.0.1:1")
    assert gone.returncode == 1 and "no LangGraph server answers at http://127.0.0.1:1" in gone.stderr
