"""The graphs as tools of another agent, through the server's MCP endpoint."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server"), built_home) as server:
        yield server.url


async def ask(url: str, method: str, **params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with httpx.AsyncClient(timeout=60, headers={"accept": "application/json, text/event-stream"}) as client:
        return (await client.post(f"{url}/mcp", json=body)).json()["result"]


async def recommended(url: str, **arguments: Any) -> dict[str, Any]:
    """Return the result of a call of `recommend`."""
    result = await ask(url, "tools/call", name="recommend", arguments={"world": "tiny"} | arguments)
    assert not result.get("isError"), result
    (asked,) = ast.literal_eval(result["content"][0]["text"])["__interrupt__"]
    return dict(asked["value"])


async def test_the_tools_say_how_they_are_used(url: str) -> None:
    tools = {tool["name"]: tool for tool in (await ask(url, "tools/list"))["tools"]}
    told = tools["recommend"]["description"]
    assert all(word in told for word in ("`history`", "`wishes`", "`__interrupt__`", "call again"))
    assert {"history", "wishes", "world", "user_id"} <= set(tools["recommend"]["inputSchema"]["properties"])


async def test_a_call_of_recommend_gives_one_item_with_why_and_the_next_call_another_one(url: str) -> None:
    liked: list[str] = []
    for _ in range(4):
        item = await recommended(url, history=liked, wishes="no crime")
        assert item["title"] and item["title"] not in liked
        assert "of 5" in item["why"] and "Crime" not in item["genres"]
        liked.append(item["title"])


async def test_a_refused_call_comes_back_as_an_error(url: str) -> None:
    result = await ask(url, "tools/call", name="recommend", arguments={"world": "../../etc"})
    assert result["isError"] and "BadInputError" in result["content"][0]["text"]
