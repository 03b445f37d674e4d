"""A visit as the tool of an agent: an agent of LangGraph with a scripted model calls it, and reads the result."""

import json
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command

from graph.checkpoints import serializer
from graph.conformance.isolation import SignedIn
from graph.episode import graph as episode
from graph.extend import billp_tool
from graph.recommend import graph as recommend
from memory.store import ChromaStore
from nodes.context import Context
from nodes.state import VisitInput
from nodes.tools.open_world import open_world_now
from nodes.users.answer_faults import BadAnswerError

pytestmark = pytest.mark.usefixtures("home")
ASKED = {"messages": [("user", "What shall I watch?")]}


def agent_calling(tool: BaseTool, *calls: dict[str, Any], store: ChromaStore | None = None, **node: Any) -> Any:
    """Return an agent whose model calls the tool with each of the arguments, all in one message, and then answers."""
    calling = [{"name": tool.name, "args": args, "id": str(number)} for number, args in enumerate(calls)]
    model = GenericFakeChatModel(messages=iter([AIMessage("", tool_calls=calling), AIMessage("Enjoy.")]))

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", ask)
    builder.add_node("tools", ToolNode([tool], **node))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=InMemorySaver(serde=serializer()), store=store)


def thread(**configurable: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": "t", **configurable}}


def results(output: dict[str, Any]) -> list[ToolMessage]:
    assert output["messages"][-1].content == "Enjoy."
    return [one for one in output["messages"] if isinstance(one, ToolMessage)]


def result(output: dict[str, Any]) -> ToolMessage:
    (found,) = results(output)
    return found


async def written(store: ChromaStore) -> set[tuple[str, ...]]:
    """Return space and user of all records."""
    return {item.namespace[1:] for item in await store.asearch((), limit=1000)}


async def test_an_agent_gets_the_titles_reasons_and_rewards_of_a_visit_as_json() -> None:
    liked = [item.title for item in open_world_now("tiny").world.catalogue][:2]
    agent = agent_calling(billp_tool(world="tiny"), {"history": liked, "max_steps": 4})
    message = result(await agent.ainvoke(ASKED, thread()))
    visit = await episode.ainvoke(VisitInput(world="tiny", user_id="guest", history=liked, max_steps=4))
    assert message.status == "success" and len(str(message.content)) < 1000
    told = json.loads(str(message.content))
    assert told.keys() == {"items", "left"} and told["left"] is visit["left"]
    assert [(one["title"], one["reward"]) for one in told["items"]] == [
        (step.title, round(step.reward, 2)) for step in visit["steps"]
    ]
    assert all(one["why"].startswith("you would probably rate it") for one in told["items"])


def test_a_model_is_told_the_arguments_of_its_own_and_no_more() -> None:
    for tool, arguments in (
        (billp_tool(world="tiny"), {"history", "max_steps"}),
        (billp_tool(recommend, name="ask_person"), {"history", "max_steps", "wishes"}),
    ):
        offered = convert_to_openai_tool(tool)["function"]
        assert offered["name"] == tool.name and "title, why and reward" in offered["description"]
        assert offered["parameters"]["properties"].keys() == arguments
        assert all(one["description"] for one in offered["parameters"]["properties"].values())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"max_steps": 21}, "max_steps: Input should be less than or equal to 20"),
        ({"max_steps": "many"}, "max_steps: Input should be a valid integer"),
        ({"history": ["x" * 501]}, "history.0: String should have at most 500 characters"),
        ({"history": ["x"] * 51}, "history: List should have at most 50 items"),
        ({"user_id": "ann"}, "user_id: Extra inputs are not permitted"),
        ({"world": "../../etc"}, "world: Extra inputs are not permitted"),
        ({"history": ["no\nsuch\ntitle"]}, "or give a history of titles from its catalogue"),
    ],
)
async def test_a_model_reads_each_of_its_mistakes_in_one_line(arguments: dict[str, Any], told: str) -> None:
    message = result(await agent_calling(billp_tool(world="tiny"), arguments).ainvoke(ASKED, thread()))
    assert message.status == "error" and told in message.content
    assert "\n" not in message.content and len(message.content) <= 500


async def test_the_run_names_a_simulated_user() -> None:
    user = open_world_now("tiny").world.split("dev").users[1]
    agent = agent_calling(billp_tool(world="tiny"), {"max_steps": 3})
    told = json.loads(str(result(await agent.ainvoke(ASKED, thread(user_id=user))).content))
    visit = await episode.ainvoke(VisitInput(world="tiny", user_id=user, max_steps=3))
    assert [one["title"] for one in told["items"]] == [step.title for step in visit["steps"]]
    agent = agent_calling(billp_tool(world="tiny"), {})
    refused = result(await agent.ainvoke(ASKED, thread(user_id="nobody")))
    assert refused.status == "error" and "user 'nobody' is unknown in world 'tiny'" in refused.content


async def test_an_account_is_no_simulated_user() -> None:
    agent = agent_calling(billp_tool(world="tiny"), {"max_steps": 3})
    # LangGraph's server writes the account's name under both keys.
    told = result(await agent.ainvoke(ASKED, thread(user_id="ann", langgraph_auth_user=SignedIn("ann"))))
    assert told.status == "success" and len(json.loads(str(told.content))["items"]) == 3


async def test_each_item_asks_the_person_and_the_agent_gets_their_ratings() -> None:
    agent = agent_calling(billp_tool(recommend, world="tiny"), {"wishes": "romance", "max_steps": 9})
    questions = [(await agent.ainvoke(ASKED, thread()))["__interrupt__"][0].value]
    for answer in ({"rating": 4}, {"skip": True}):
        questions.append((await agent.ainvoke(Command(resume=answer), thread()))["__interrupt__"][0].value)
    told = json.loads(str(result(await agent.ainvoke(Command(resume={"leave": True}), thread())).content))
    assert [one["reward"] for one in told["items"]] == [4, None, None] and told["left"]
    assert [(one["title"], one["why"]) for one in told["items"]] == [(one["title"], one["why"]) for one in questions]
    assert "you asked for Romance" in questions[0]["why"]


async def test_a_bad_answer_of_a_person_is_not_the_models_and_leaves_the_question_open() -> None:
    # The node would tell the model any other error.
    agent = agent_calling(billp_tool(recommend, world="tiny"), {"max_steps": 1}, handle_tool_errors=True)
    asked = (await agent.ainvoke(ASKED, thread()))["__interrupt__"][0].value
    with pytest.raises(BadAnswerError, match="a number from 1 to 5"):
        await agent.ainvoke(Command(resume={"rating": 9}), thread())
    assert (await agent.aget_state(thread())).interrupts[0].value == asked
    told = json.loads(str(result(await agent.ainvoke(Command(resume={"rating": 5}), thread())).content))
    assert [one["reward"] for one in told["items"]] == [5]


@pytest.mark.parametrize(
    ("configurable", "person"),
    [
        ({}, "guest"),
        ({"user_id": "bob"}, "bob"),
        ({"user_id": "bob", "langgraph_auth_user": SignedIn("ann")}, "ann"),
    ],
)
async def test_the_person_is_the_one_who_is_signed_in(configurable: dict[str, Any], person: str) -> None:
    async with ChromaStore() as store:
        agent = agent_calling(billp_tool(recommend, world="tiny"), {"max_steps": 1}, store=store)
        await agent.ainvoke(ASKED, thread(**configurable))
        result(await agent.ainvoke(Command(resume={"rating": 4, "comment": "more"}), thread(**configurable)))
        assert await written(store) == {("people:tiny", person)}


async def test_a_simulated_visit_of_an_account_teaches_nobody_else() -> None:
    async with ChromaStore() as store:
        agent = agent_calling(billp_tool(world="tiny"), {"max_steps": 3}, store=store)
        await agent.ainvoke(ASKED, thread(langgraph_auth_user=SignedIn("ann")))
        assert {space for space, _ in await written(store)} == {"account:ann:tiny"}


async def test_settings_of_a_tool_are_those_of_its_visits() -> None:
    async with ChromaStore() as store:
        quiet = billp_tool(world="tiny", context=Context(learn="off"))
        await agent_calling(quiet, {"max_steps": 3}, store=store).ainvoke(ASKED, thread())
        assert not await written(store)
        await agent_calling(billp_tool(world="tiny"), {"max_steps": 3}, store=store).ainvoke(ASKED, thread())
        assert await written(store)


async def test_calls_in_one_message_are_visits_of_their_own() -> None:
    async with ChromaStore() as store:
        agent = agent_calling(billp_tool(world="tiny"), {"max_steps": 3}, {"max_steps": 3}, store=store)
        assert len(results(await agent.ainvoke(ASKED, thread()))) == 2
        assert len({item.value["visit"] for item in await store.asearch(("lessons", "tiny"))}) == 2


async def test_the_agents_limit_of_steps_is_not_that_of_a_visit() -> None:
    agent = agent_calling(billp_tool(world="tiny"), {"max_steps": 20})
    told = json.loads(str(result(await agent.ainvoke(ASKED, thread() | {"recursion_limit": 4})).content))
    assert len(told["items"]) > 4
