"""Where the visits of a study run, and where what they taught is kept: in this process, or on a LangGraph server."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import NAMESPACE_URL, uuid5

import httpx
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.store.base import BaseStore, PutOp
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import Run
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from graph.checkpoints import checkpointer
from graph.episode import build_variant
from graph.server_client import connected
from graph.variants import VARIANTS, graph_id
from memory.embeddings import shared_embeddings
from memory.recall import remember, write_ops
from memory.records import Record, private_space
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm.endpoint.settings import EndpointError, RefusedVisitError
from nodes.state import VisitInput, VisitOutput
from nodes.tools.open_world import close_worlds, open_world
from sim.errors import BadInputError, BillpError

T = TypeVar("T")


class VisitFailedError(BillpError):
    """Raised where a visit cannot go on now; its thread is kept, so that it can another time.

    Attributes:
        own: Whether the fault is the visit's own, so that others may do well.
    """

    def __init__(self, why: str, own: bool = False) -> None:
        super().__init__(why, own)
        self.own = own

    def __str__(self) -> str:
        return str(self.args[0])


class VisitRunner(Protocol):
    """Runs visits, each on a thread of its own that is gone on with where it was stopped."""

    async def visit(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Run a visit, or the rest of it, and return what came of it.

        Raises:
            VisitFailedError: It cannot go on now.
        """
        ...

    async def forget(self, thread: str) -> None:
        """Forget the thread of a visit that has ended."""
        ...

    async def remember(self, records: Sequence[Record], *, private: bool = False) -> None:
        """Write what visits taught, for later ones to recall: of any user, or of theirs alone."""
        ...


class LocalRunner:
    """Visits in this process."""

    def __init__(self, variant: str, space: str, saver: AsyncSqliteSaver, store: BaseStore) -> None:
        self._variant, self._space = variant, space
        self._saver, self._store = saver, store
        self._graph: Any = build_variant(variant).compile(checkpointer=saver, store=store)

    async def visit(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Run a visit, or the rest of it."""
        config: RunnableConfig = {"configurable": {"thread_id": thread}}
        begun = await self._saver.aget_tuple(config) is not None
        try:
            output = await self._graph.ainvoke(
                None if begun else visit, config, context=context, durability="exit" if context.scripted else "async"
            )
        except EndpointError as error:
            raise VisitFailedError(str(error), isinstance(error, RefusedVisitError)) from error
        return VisitOutput.model_validate(output)

    async def forget(self, thread: str) -> None:
        """Forget the thread of a visit that has ended."""
        await self._saver.adelete_thread(thread)

    async def remember(self, records: Sequence[Record], *, private: bool = False) -> None:
        """Write what visits taught."""
        await remember(self._store, private_space(self._space) if private else self._space, records)


@asynccontextmanager
async def local_runner(
    world: str, variant: str, space: str, *, checkpoints: Path, memory: Path
) -> AsyncIterator[LocalRunner]:
    """Open a place for visits in this process.

    Args:
        world: Name of the world.
        variant: Name of the variant.
        space: Where memories are kept.
        checkpoints: SQLite file in which visits under way are kept.
        memory: Folder of the memory, which is begun anew.
    """
    await open_world(world)
    try:
        shutil.rmtree(memory, ignore_errors=True)
        async with (
            ChromaStore(memory, embeddings=shared_embeddings()) as store,
            checkpointer(checkpoints, VARIANTS[variant].nodes) as saver,
        ):
            yield LocalRunner(variant, space, saver, store)
    finally:
        close_worlds()


# Tries of a request, and of a visit; seconds of the first pause between two, and of the longest.
TRIES = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
WRITES_AT_ONCE = 16
_GONE = 404
# A thread that another run is on, too many requests, and whatever went wrong on the server's own side.
_PASSING = (409, 429, 500, 502, 503, 504)


class ServerRunner:
    """Visits as background runs of a LangGraph server, with the memory in a space of its own in the server's store."""

    def __init__(self, client: LangGraphClient, variant: str, space: str) -> None:
        self._client, self._variant, self._space = client, variant, space

    async def visit(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Run a visit, or the rest of it.

        Raises:
            BadInputError: The server cannot use the input: it has another world of that name, say.
            VisitFailedError: It failed on the server each time it was tried.
        """
        context = context.model_copy(update={"space": self._space})
        return await _retried(lambda: self._try(self._id(thread), visit, context), _failed)

    async def _try(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Join the run of a visit, or of the rest of it, wherever the last try or a former process left it."""
        threads, runs = self._client.threads, self._client.runs
        await _patiently(lambda: threads.create(thread_id=thread, if_exists="do_nothing"))
        newest = await _patiently(lambda: runs.list(thread, limit=1))
        if newest and newest[0]["status"] in ("pending", "running"):
            run = newest[0]
        else:
            state: Any = await _patiently(lambda: threads.get_state(thread))
            if output := _output(state, visit):
                return output
            run = await self._start(thread, None if state["next"] else visit, context)
        await _patiently(lambda: runs.join(thread, run["run_id"]))
        state = await _patiently(lambda: threads.get_state(thread))
        if output := _output(state, visit):
            return output
        faults = [task["error"] for task in state["tasks"] if task.get("error")] or ["it was stopped"]
        why = f"the visit of user {visit.user_id!r} failed on the server: {faults[0][:300]}"
        if faults[0].startswith(BadInputError.__name__):
            raise BadInputError(why)
        raise VisitFailedError(why, faults[0].startswith(RefusedVisitError.__name__))

    async def _start(self, thread: str, visit: VisitInput | None, context: Context) -> Run:
        """Start a run; a request whose answer is lost may have started it, so it is not simply sent again."""
        try:
            return await self._client.runs.create(
                thread,
                graph_id(self._variant),
                input=None if visit is None else visit.model_dump(),
                context=context.model_dump(exclude_defaults=True),
                multitask_strategy="reject",
            )
        except httpx.HTTPError as error:
            if not _passing(error):
                raise
            raise VisitFailedError(f"a visit could not be started on the server: {error}") from error

    async def forget(self, thread: str) -> None:
        """Forget the thread of a visit that has ended."""
        await _patiently(lambda: self._delete(self._id(thread)))

    async def _delete(self, thread: str) -> None:
        try:
            await self._client.threads.delete(thread)
        except httpx.HTTPStatusError as error:
            # A former try deleted it, and only its answer was lost.
            if error.response.status_code != _GONE:
                raise

    async def remember(self, records: Sequence[Record], *, private: bool = False) -> None:
        """Write what visits taught."""
        free = asyncio.Semaphore(WRITES_AT_ONCE)
        store = self._client.store
        space = private_space(self._space) if private else self._space

        async def write(op: PutOp) -> None:
            async with free:
                await _patiently(lambda: store.put_item(op.namespace, op.key, dict(op.value or {}), index=op.index))

        await asyncio.gather(*(write(op) for op in write_ops(space, records)))

    def _id(self, thread: str) -> str:
        """Return the id of a thread on the server: the same whenever the study goes on."""
        return str(uuid5(NAMESPACE_URL, f"billp:{self._space}/{thread}"))


@asynccontextmanager
async def server_runner(url: str, variant: str, space: str) -> AsyncIterator[ServerRunner]:
    """Open a place for visits on a LangGraph server.

    Args:
        url: Address of the server.
        variant: Name of the variant.
        space: Where memories are kept, and what the threads of the visits are named after.

    Raises:
        BillpError: The server does not answer, or does not serve the variant.
    """
    async with connected(url) as client:
        if not await _patiently(lambda: client.assistants.search(graph_id=graph_id(variant), limit=1)):
            raise BillpError(f"the server does not serve the graph {graph_id(variant)!r}")
        yield ServerRunner(client, variant, space)


def _failed(error: BaseException) -> bool:
    return isinstance(error, VisitFailedError)


def _passing(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx.TransportError)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Send a request that does no harm when it is sent twice, again where something passing keeps it from success."""
    return await _retried(ask, _passing)


async def _retried(ask: Callable[[], Awaitable[T]], again: Callable[[BaseException], bool]) -> T:
    """Try something `TRIES` times at most, with growing pauses."""
    tries = AsyncRetrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential_jitter(FIRST_PAUSE, LONGEST_PAUSE),
        retry=retry_if_exception(again),
        reraise=True,
    )

    # Tenacity waits for what is a coroutine function alone.
    async def attempt() -> T:
        return await ask()

    return await tries(attempt)


def _output(state: Mapping[str, Any], visit: VisitInput) -> VisitOutput | None:
    """Return what came of the visit that a thread's state is of, None where it has not ended."""
    values = state["values"]
    ended = not state["next"] and "length" in values
    return VisitOutput.model_validate({"user_id": visit.user_id, **values}) if ended else None
