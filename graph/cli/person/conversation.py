"""Visit of a person in a terminal: the questions and answers of `recommend`, in this process or on a server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import uuid4

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient

from graph.checkpoints import serializer
from graph.recommend import builder
from graph.server.client import connected
from memory.store import create_store
from nodes.context import Context
from nodes.users.person import Answer
from sim.errors import BadInputError, BillpError

Question = dict[str, Any]
Ask = Callable[[Question], Answer]


class Conversation(Protocol):
    """Visit of a person that is under way."""

    async def start(self, given: dict[str, Any]) -> dict[str, Any]:
        """Start the visit, and return its state when it stops."""
        ...

    async def resume(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Resume the visit with an answer, and return the state when the visit stops again."""
        ...


async def converse(conversation: Conversation, given: dict[str, Any], ask: Ask) -> dict[str, Any]:
    """Run a person's visit to its end, and return its output."""
    state = await conversation.start(given)
    while questions := state.get("__interrupt__"):
        state = await conversation.resume(ask(questions[0]["value"]).model_dump(exclude_defaults=True))
    return state


class LocalConversation:
    """Visit in this process."""

    def __init__(self, graph: Any, context: Context) -> None:
        self._graph = graph
        self._run = {"config": {"configurable": {"thread_id": str(uuid4())}}, "context": context}

    async def start(self, given: dict[str, Any]) -> dict[str, Any]:
        """Start the visit."""
        return _plain(await self._graph.ainvoke(given, **self._run))

    async def resume(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Resume the visit with an answer."""
        return _plain(await self._graph.ainvoke(Command(resume=answer), **self._run))


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state with its interrupts in the JSON form of a server."""
    stopped = state.get("__interrupt__", ())
    return state | {"__interrupt__": [{"value": one.value} for one in stopped]}


class ServerConversation:
    """Visit on a LangGraph server."""

    def __init__(self, client: LangGraphClient, thread: str, context: Context) -> None:
        self._client = client
        self._thread = thread
        self._context = context.model_dump(exclude_defaults=True)

    async def start(self, given: dict[str, Any]) -> dict[str, Any]:
        """Start the visit."""
        return await self._wait(input=given)

    async def resume(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Resume the visit with an answer."""
        return await self._wait(command={"resume": answer})

    async def _wait(self, **run: Any) -> dict[str, Any]:
        state: Any = await self._client.runs.wait(
            self._thread, "recommend", context=self._context, raise_error=False, **run
        )
        if failed := state.get("__error__"):
            kind = BadInputError if failed.get("error") == BadInputError.__name__ else BillpError
            raise kind(f"the server reports: {failed.get('message') or failed.get('error')}")
        return dict(state)


@asynccontextmanager
async def local_conversation(context: Context) -> AsyncIterator[Conversation]:
    """Yield a visit in this process, with the memory under BILLP_HOME."""
    async with create_store() as store:
        yield LocalConversation(builder.compile(checkpointer=InMemorySaver(serde=serializer()), store=store), context)


@asynccontextmanager
async def server_conversation(url: str, context: Context) -> AsyncIterator[Conversation]:
    """Yield a visit on the LangGraph server at `url`.

    Raises:
        BillpError: The server does not answer, or does not serve `recommend`.
    """
    async with connected(url) as client:
        thread = await client.threads.create()
        yield ServerConversation(client, thread["thread_id"], context)
