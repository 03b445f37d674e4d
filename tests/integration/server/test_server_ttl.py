"""`store.ttl` of langgraph.json reaches the store of a real server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client

from memory.store import ChromaStore
from tests.servers import serving

pytestmark = pytest.mark.slow

SETTING = {"path": "./memory/store.py:create_store", "ttl": {"default_ttl": 90, "sweep_interval_minutes": 1}}


async def visit_and_note(url: str) -> int:
    """Run a visit, write notes, and return the number of rounds."""
    client = get_client(url=url, timeout=60)
    output: Any = await client.runs.wait(None, "episode", input={"world": "tiny", "max_steps": 2})
    # Items written over the server's own routes never expire by default; the request sets the time to live.
    lives: dict[str, dict[str, Any]] = {"mortal": {"ttl": 30}, "over": {"ttl": -1}, "ever": {}}
    for key, ttl in lives.items():
        await client.store.put_item(("notes",), key=key, value={}, **ttl)
    found = await client.store.search_items(("notes",), refresh_ttl=False)
    assert [item["key"] for item in found["items"]] == ["ever", "mortal"]
    return len(output["steps"])


def test_what_visits_write_on_a_server_lives_as_long_as_its_configuration_says(
    built_home: Path, tmp_path: Path
) -> None:
    with serving(tmp_path, built_home, store=SETTING) as server:
        rounds = asyncio.run(visit_and_note(server.url))
    with ChromaStore(tmp_path / "home" / "memory") as store:
        lives = {record.key: record.lifetime for record in store.records(("notes",))}
        assert lives["ever"] is None and lives["mortal"] and lives["mortal"].minutes == 30
        learned = [record.lifetime for record in store.records(("experiences",))]
    assert len(learned) == rounds and {one.minutes if one else None for one in learned} == {90}
