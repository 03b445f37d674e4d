"""Where the visits of a study run, and where what they taught is kept: in this process, or on a LangGraph server."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from uuid import NAMESPACE_URL, uuid5

import httpx
from langchain_core.runnables import RunnableConfig
from langgraph.store.base import PutOp
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from graph.checkpoints import checkpointer
from graph.episode import build_variant, graph_id, run_config
from graph.remote import connected
from memory.embeddings import shared_embeddings
from memory.recall import remember, write_ops
from memory.records import Record
from memory.store import ChromaStore
from nodes.context import Context
from nodes.state import VisitInput, VisitOutput
from nodes.worlds import close_places, open_place
from sim.errors import BadInputError, BillpError

T = TypeVar("T")


class Engine(Protocol):
    """Runs visits, each on a thread of its own that is gone on with where it was stopped."""

    async def visit(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Run a visit, or the rest of it, and return what came of it."""
        ...

    async def forget(self, thread: str) -> None:
        """Forget the thread of a visit that has ended."""
        ...

    async def remember(self, records: Sequence[Record]) -> None:
        """Write what visits taught, for later ones to recall."""
        ...


class Here:
    """Visits in this process, with checkpoints in SQLite and a memory in a folder that is begun anew.

    Args:
        world: Name of the world.
        variant: Name of the variant.
        space: Where memories are kept.
        checkpoints: File of the checkpoints.
        memory: Folder of the memory.
    """

    def __init__(self, world: str, variant: str, space: str, *, checkpoints: Path, memory: Path) -> None:
        self._world, self._variant, self._space = world, variant, space
        self._checkpoints, self._memory = checkpoints, memory
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._opened.callback(close_places)
        await open_place(self._world)
        shutil.rmtree(self._memory, ignore_errors=True)
        store = ChromaStore(self._memory, embeddings=shared_embeddings())
        self._store = await self._opened.enter_async_context(store)
        self._saver = await self._opened.enter_async_context(checkpointer(self._checkpoints))
        self._graph: Any = build_variant(self._variant).compile(checkpointer=self._saver, store=self._store)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(kind, error, trace)

    async def visit(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Run a visit, or the rest of it."""
        config: RunnableConfig = {**run_config(self._variant, visit), "configurable": {"thread_id": thread}}
        begun = await self._saver.aget_tuple({"configurable": {"thread_id": thread}}) is not None
        output = await self._graph.ainvoke(
            None if begun else visit, config, context=context, durability="exit" if context.scripted else "async"
        )
        return VisitOutput.model_validate(output)

    async def forget(self, thread: str) -> None:
        """Forget the thread of a visit that has ended."""
        await self._saver.adelete_thread(thread)

    async def remember(self, records: Sequence[Record]) -> None:
        """Write what visits taught."""
        await remember(self._store, self._space, records)


# Tries of a visit, or of a request; seconds of the first pause between two, and of the longest.
TRIES = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
WRITES_AT_ONCE = 16
# A thread that another run is on, too many requests, and whatever went wrong on the server's own side.
_PASSING = (409, 429, 500, 502, 503, 504)


class There:
    """Visits as background runs of a LangGraph server, with the memory in a space of its own in the server's store.

    Args:
        url: Address of the server.
        variant: Name of the variant.
        space: Where memories are kept, and what the threads of the visits are named after.
    """

    def __init__(self, url: str, variant: str, space: str) -> None:
        self._url, self._variant, self._space = url, variant, space
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._client = await self._opened.enter_async_context(connected(self._url))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(kind, error, trace)

    async def visit(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Run a visit, or the rest of it.

        Raises:
            BadInputError: The server cannot use the input: it has another world of that name, say.
            BillpError: The visit failed on the server each time it was tried.
        """
        context = context.model_copy(update={"space": self._space})
        return await _patiently(lambda: self._try(self._id(thread), visit, context))

    async def _try(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Join the run of a visit, or the rest of it, wherever the last try or a former process left it."""
        await self._client.threads.create(thread_id=thread, if_exists="do_nothing")
        newest = await self._client.runs.list(thread, limit=1)
        run = newest[0] if newest and newest[0]["status"] in ("pending", "running") else None
        if run is None:
            state: Any = await self._client.threads.get_state(thread)
            if output := _output(state, visit):
                return output
            run = await self._client.runs.create(
                thread,
                graph_id(self._variant),
                input=None if state["next"] else visit.model_dump(),
                context=context.model_dump(exclude_defaults=True),
                metadata=run_config(self._variant, visit)["metadata"],
                multitask_strategy="reject",
            )
        await self._client.runs.join(thread, run["run_id"])
        state = await self._client.threads.get_state(thread)
        if output := _output(state, visit):
            return output
        faults = [task["error"] for task in state["tasks"] if task.get("error")] or ["it was stopped"]
        kind = BadInputError if faults[0].startswith(BadInputError.__name__) else _FailedThereError
        raise kind(f"the visit of user {visit.user_id!r} failed on the server: {faults[0][:300]}")

    async def forget(self, thread: str) -> None:
        """Forget the thread of a visit that has ended."""
        await _patiently(lambda: self._client.threads.delete(self._id(thread)))

    async def remember(self, records: Sequence[Record]) -> None:
        """Write what visits taught."""
        free = asyncio.Semaphore(WRITES_AT_ONCE)

        async def write(op: PutOp) -> None:
            async with free:
                await _patiently(
                    lambda: self._client.store.put_item(op.namespace, op.key, dict(op.value or {}), index=op.index)
                )

        await asyncio.gather(*(write(op) for op in write_ops(self._space, records)))

    def _id(self, thread: str) -> str:
        """Return the id of a thread on the server: the same whenever the study goes on."""
        return str(uuid5(NAMESPACE_URL, f"billp:{self._space}/{thread}"))


class _FailedThereError(BillpError):
    """Raised where a visit failed on the server, and may do better another time."""


def _output(state: Mapping[str, Any], visit: VisitInput) -> VisitOutput | None:
    """Return what came of the visit that a thread's state is of, None where it has not ended."""
    values = state["values"]
    ended = not state["next"] and "length" in values
    return VisitOutput.model_validate({"user_id": visit.user_id, **values}) if ended else None


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Do what can be done again without harm until it succeeds, with growing pauses, `TRIES` times at most."""
    async for attempt in AsyncRetrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential_jitter(FIRST_PAUSE, LONGEST_PAUSE),
        retry=retry_if_exception(_passing),
        reraise=True,
    ):
        with attempt:
            return await ask()
    raise AssertionError("the last try returns or raises")


def _passing(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx.TransportError | _FailedThereError)
