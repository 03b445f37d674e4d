"""LangGraph Server on this machine, started as by `make dev`: a real process, without a key."""

import ast
import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from graph.variants import VARIANTS, graph_id
from tests.commands import BILLP
from tests.processes import run
from tests.servers import GUARDED, LANGGRAPH, OPEN, ROOT, Server, deployed


@pytest.mark.parametrize("configuration", [OPEN, GUARDED])
def test_the_configuration_is_valid(configuration: str) -> None:
    done = run([LANGGRAPH, "validate", "--config", configuration], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid" in done.stdout and "warning" not in done.stdout.casefold()


def test_the_configuration_with_accounts_has_all_else_as_the_one_without() -> None:
    without, accounts = (json.loads((ROOT / name).read_text(encoding="utf-8")) for name in (OPEN, GUARDED))
    assert accounts.pop("auth") == {"path": "./graph/auth.py:auth", "disable_studio_auth": True}
    assert accounts["http"].items() >= without["http"].items()
    assert accounts | {"http": without["http"]} == without


@pytest.fixture
def url(home: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a server with the world `tiny`; a test may add settings of langgraph.json."""
    with deployed(tmp_path / "deployment", home, **getattr(request, "param", {})) as server:
        yield server.url


@pytest.fixture
def server(url: str) -> LangGraphClient:
    """Client of the server."""
    return get_client(url=url, timeout=60)


TINY: dict[str, Any] = {"world": "tiny", "max_steps": 3}


@pytest.mark.slow
async def test_a_visit_is_run_stepped_and_remembered_on_a_real_server(server: LangGraphClient, url: str) -> None:
    # One server for all checks: starting a server takes longer than all of them.
    assistant = (await server.assistants.search(graph_id="episode"))[0]["assistant_id"]
    await check_schemas(server, assistant)
    await check_run_and_memory(server)
    await check_stepping(server)
    await check_bad_input(server)
    await check_variants(server)
    await check_person(server)
    await check_terminal(url)
    await check_documented_client(url)
    await check_documented_remote_graph(url)
    await check_mcp(url)


async def check_schemas(server: LangGraphClient, assistant: str) -> None:
    schemas = await server.assistants.get_schemas(assistant)
    given = schemas["input_schema"]
    assert given and set(given["properties"]) == {"world", "user_id", "history", "seed", "max_steps"}
    context = schemas["context_schema"]
    assert context and context["properties"]["actor_prompt"]["langgraph_nodes"] == ["actor"]
    drawn = await server.assistants.get_graph(assistant)
    names = {str(node["id"]) for node in drawn["nodes"]}
    assert {"begin", "planner", "outlook", "actor", "user", "critic", "reflector", "finish"} <= names
    labels = {edge.get("data") for edge in drawn["edges"]}
    assert {"next round", "visit over"} <= labels


async def check_run_and_memory(server: LangGraphClient) -> None:
    thread = await server.threads.create()
    output: Any = await server.runs.wait(thread["thread_id"], "episode", input=TINY)
    assert output["length_with_exit"] == len(output["steps"]) >= 1
    found = await server.store.search_items(("lessons", "tiny"), query="distance to keep", limit=5)
    assert [item["value"]["user_id"] for item in found["items"]] == [output["user_id"]]
    experiences = await server.store.search_items(("experiences",), limit=50)
    assert len(experiences["items"]) == len(output["steps"])


async def check_stepping(server: LangGraphClient) -> None:
    thread = (await server.threads.create())["thread_id"]
    await server.runs.wait(thread, "episode", input=TINY, interrupt_before=["actor"])
    state: Any = await server.threads.get_state(thread)
    assert state["next"] == ["actor"] and state["values"]["plan"]
    await server.threads.update_state(thread, {"plan": "Recommend Horror."})
    await server.runs.wait(thread, "episode", interrupt_before=["user"])
    state = await server.threads.get_state(thread)
    assert '"plan":"Recommend Horror."' in state["values"]["exchange"]["actor"]["prompt"]
    shortlist = state["values"]["shortlist"]
    proposal = state["values"]["proposal"] | {"item_id": shortlist[-1]["item_id"]}
    await server.threads.update_state(thread, {"proposal": proposal})
    output: Any = await server.runs.wait(thread, "episode")
    assert output["steps"][0]["title"] == shortlist[-1]["title"]


async def check_bad_input(server: LangGraphClient) -> None:
    thread = (await server.threads.create())["thread_id"]
    failed: Any = await server.runs.wait(thread, "episode", input={"max_steps": 0}, raise_error=False)
    assert failed["__error__"]["error"] == "BadInputError"
    assert "max_steps is 0" in failed["__error__"]["message"]
    output: Any = await server.runs.wait(thread, "episode", input=TINY)
    assert output["steps"]


async def check_variants(server: LangGraphClient) -> None:
    found = await server.assistants.search(limit=100)
    assert {one["graph_id"] for one in found} == {"recommend", *map(graph_id, VARIANTS)}
    assert all(one["description"] for one in found)
    for variant in VARIANTS:
        output: Any = await server.runs.wait(None, graph_id(variant), input=TINY)
        assert output["length_with_exit"] >= 1


async def check_person(server: LangGraphClient) -> None:
    thread = (await server.threads.create())["thread_id"]
    given = {"world": "tiny", "user_id": "ann", "wishes": "no crime"}
    state: Any = await server.runs.wait(thread, "recommend", input=given)
    asked = state["__interrupt__"][0]
    assert asked["value"]["round"] == 1 and asked["value"]["profile"] == "no crime"
    wrong: Any = await server.runs.wait(thread, "recommend", command={"resume": {"rating": 9}}, raise_error=False)
    assert wrong["__error__"]
    still: Any = await server.threads.get_state(thread)
    assert still["tasks"][0]["interrupts"][0]["value"] == asked["value"]
    state = await server.runs.wait(thread, "recommend", command={"resume": {"rating": 4}})
    question = state["__interrupt__"][0]["value"]
    assert question["round"] == 2
    shown = [asked["value"]["title"], question["title"]]
    for answer in ({"seen": True, "rating": 2, "comment": "slow"}, {"never": True}):
        state = await server.runs.wait(thread, "recommend", command={"resume": answer})
        shown.append(state["__interrupt__"][0]["value"]["title"])
    assert state["__interrupt__"][0]["value"]["profile"] == f"no crime\nslow [on {shown[1]}]"
    output: Any = await server.runs.wait(thread, "recommend", command={"resume": {"leave": True}})
    assert output["length"] == 3 and output["left"]
    again = (await server.threads.create())["thread_id"]
    state = await server.runs.wait(again, "recommend", input={"world": "tiny", "user_id": "ann"})
    # What was on the screen when ann left is no worse for it.
    assert state["__interrupt__"][0]["value"]["title"] not in shown[:3]
    who: Any = (await server.threads.get_state(again))["values"]
    assert len(who["profile"]["had"]) == 2 and len(who["profile"]["never"]) == 1


async def check_terminal(url: str) -> None:
    # A process of its own, since this one runs an event loop already.
    command = [*BILLP, "recommend", "--world", "tiny", "--user", "bob", "--server", url]
    command += ["--like", "Silent Garden", "--like", "Silent Gxqrdzz of Gold"]
    done = await asyncio.to_thread(run, command, typed="5\ns\nq\n", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "2 rounds." in done.stdout
    assert "Liked: Silent Garden" in done.stdout and "Not found: Silent Gxqrdzz of Gold (nearest: " in done.stdout


async def check_documented_client(url: str) -> None:
    document = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    command = [sys.executable, "-c", code]
    done = await asyncio.to_thread(run, command, env=os.environ | {"LANGGRAPH_URL": url})
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert text.startswith("plan: ") and "round 1: " in text and "the visit lasted" in text


async def check_documented_remote_graph(url: str) -> None:
    document = (ROOT / "docs" / "embed.md").read_text(encoding="utf-8")
    (code,) = [
        one
        for one in re.findall(r"^```python\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
        if "RemoteGraph(" in one
    ]
    done = await asyncio.to_thread(run, [sys.executable, "-c", code], env=os.environ | {"LANGGRAPH_URL": url})
    assert done.returncode == 0, done.stderr
    assert len(ast.literal_eval(done.stdout)) == 2


async def check_mcp(url: str) -> None:
    async with httpx.AsyncClient(timeout=60, headers={"accept": "application/json, text/event-stream"}) as client:

        async def call(method: str, **params: Any) -> Any:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return (await client.post(f"{url}/mcp", json=body)).json()["result"]

        tools = {tool["name"]: tool for tool in (await call("tools/list"))["tools"]}
        assert {"episode", "recommend"} <= set(tools)
        assert (
            "person" in tools["recommend"]["description"]
            and "wishes" in tools["recommend"]["inputSchema"]["properties"]
        )
        result = await call("tools/call", name="episode", arguments=TINY)
        assert "total_reward" in result["content"][0]["text"]


@pytest.mark.slow
async def test_with_authentication_nobody_reaches_what_is_anothers(guarded: Server) -> None:
    ann, bob = guarded.client("ann"), guarded.client("bob")
    async with guarded.http() as stranger:
        assert (await stranger.post("/threads", json={})).status_code == 401
    thread = (await ann.threads.create())["thread_id"]
    given = {"world": "tiny", "user_id": "bob", "wishes": "no crime"}
    asked: Any = await ann.runs.wait(thread, "recommend", input=given)
    assert asked["__interrupt__"][0]["value"]["round"] == 1
    await ann.runs.wait(thread, "recommend", command={"resume": {"rating": 5, "comment": "between us"}})
    # The name comes from the token; the name in the input is ignored.
    said = (await ann.store.search_items(("statements", "people:tiny", "ann"), limit=1_000))["items"]
    assert "between us" in [item["value"]["text"] for item in said]

    for forbidden in (
        bob.threads.get_state(thread),
        bob.threads.update_state(thread, {"plan": "mine now"}),
        bob.runs.wait(thread, "recommend", command={"resume": {"leave": True}}),
        bob.store.get_item(("statements", "people:tiny", "ann"), said[0]["key"]),
        bob.store.search_items(("experiences",)),
        bob.store.search_items(("statements", "people:tiny")),
        bob.store.search_items(("statements", "people:tiny", "*")),
        bob.store.search_items(("statements", "people:tiny", "ann", "bob")),
        bob.store.search_items(("statements", "people:tiny", "bob", "..", "ann")),
        bob.store.list_namespaces(prefix=["statements", "people:tiny", "*"]),
        bob.store.list_namespaces(prefix=["statements", "people:tiny"], suffix=["ann"]),
        bob.store.delete_item(("statements", "people:tiny", "ann"), said[0]["key"]),
        bob.store.put_item(("lessons", "tiny", "bob"), "k", {"text": "for everybody"}),
        bob.store.list_namespaces(),
    ):
        with pytest.raises(httpx.HTTPStatusError) as refused:
            await forbidden
        assert refused.value.response.status_code in (403, 404, 422)
    for asked in ({}, {"filter": {"user_id": "ann"}}, {"query": "between us"}, {"offset": 1}, {"offset": 10**6}):
        for kind in ("statements", "lessons", "experiences", "values", "*"):
            found = await bob.store.search_items((kind, "people:tiny", "bob"), **asked)
            assert found["items"] == []
    assert (await ann.store.search_items(("statements", "people:tiny", "ann")))["items"]
    assert await bob.threads.search() == []
    other = (await bob.threads.create())["thread_id"]
    asked = await bob.runs.wait(other, "recommend", input=given | {"user_id": "ann", "wishes": ""})
    assert asked["__interrupt__"][0]["value"]["profile"] == ""
