"""An agent with `billp_tool` on a server with accounts: the visit is that of the account that is signed in."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import GUARDED, Server, serving

pytestmark = pytest.mark.slow

# The agent's model calls the tool that the user names, with the arguments in the user's message.
AGENT = """
import json
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from graph.extend import billp_tool
from graph.recommend import graph as recommend

tools = ToolNode([billp_tool(world="tiny", name="rehearse"), billp_tool(recommend, world="tiny", name="ask")])


async def agent(state: MessagesState) -> dict[str, Any]:
    last = state["messages"][-1]
    if last.type == "tool":
        return {"messages": [AIMessage("Enjoy.")]}
    return {"messages": [AIMessage("", tool_calls=[{"id": "1", **json.loads(last.content)}])]}


builder = StateGraph(MessagesState).add_node(agent).add_node("tools", tools)
builder.add_edge(START, "agent").add_conditional_edges("agent", tools_condition).add_edge("tools", "agent")
graph = builder.compile()
"""


@pytest.fixture(scope="module")
def server(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "agent.py").write_text(AGENT, encoding="utf-8")
    graphs = {"agent": f"{folder}/agent.py:graph"}
    with serving(folder, built_home, configuration=GUARDED, graphs=graphs) as server:
        yield server


def asking(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": json.dumps({"name": tool, "args": arguments})}]}


def told(state: Any) -> dict[str, Any]:
    message = state["messages"][-2]
    assert message["status"] == "success", message
    return dict(json.loads(message["content"]))


async def test_the_visit_of_an_agent_is_that_of_the_account_that_is_signed_in(server: Server) -> None:
    async with server.client("bob") as bob:
        rehearsed = await bob.runs.wait(None, "agent", input=asking("rehearse", max_steps=3))
        assert len(told(rehearsed)["items"]) == 3
        thread = (await bob.threads.create())["thread_id"]
        run: dict[str, Any] = {"config": {"configurable": {"user_id": "ann"}}}
        state: Any = await bob.runs.wait(thread, "agent", input=asking("ask", wishes="romance"), **run)
        assert state["__interrupt__"][0]["value"]["profile"] == "romance"
        await bob.runs.wait(thread, "agent", command={"resume": {"rating": 4}}, **run)
        state = await bob.runs.wait(thread, "agent", command={"resume": {"leave": True}}, **run)
        assert [one["reward"] for one in told(state)["items"]] == [4, None]
        found = await bob.store.search_items(["statements", "people:tiny", "bob"])
        assert {one["value"]["text"] for one in found["items"]} >= {"romance"}
    async with server.client("ann") as ann:
        found = await ann.store.search_items(["statements", "people:tiny", "ann"])
        assert found["items"] == []
