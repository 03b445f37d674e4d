"""Visit runners of a study: in this process or on a LangGraph server, each with its memory."""

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
from graph.server.client import connected
from graph.variants import VARIANTS, graph_id
from memory.embeddings import shared_embeddings
from memory.recall import remember, write_ops
from memory.records import Record, private_space
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm.endpoint.settings import EndpointError, RefusedVisitError
from nodes.state import VisitInput, VisitOutput
from nodes.tools.open_world import close_worlds, open_world, world_folder
from sim.errors import BadInputError, BillpError
from sim.world.storage import world_checksum

T = TypeVar("T")


class VisitFailedError(BillpError):
    """Raised when a visit fails; its thread is kept, so that a later run can resume it.

    Attributes:
        own: Whether the visit itself is at fault, so that other visits may succeed.
    """

    def __init__(self, why: str, own: bool = False) -> None:
        super().__init__(why, own)
        self.own = own

    def __str__(self) -> str:
        return str(self.args[0])


class VisitRunner(Protocol):
    """Runner of visits: each has its own thread, on which an interrupted visit resumes."""

    async def visit(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Run or resume a visit, and return its output.

        Raises:
            VisitFailedError: The visit failed and can be resumed later.
        """
        ...

    async def forget(self, thread: str) -> None:
        """Delete the thread of a finished visit."""
        ...

    async def remember(self, records: Sequence[Record], *, private: bool = False) -> None:
        """Write the records of finished visits, for later visits of any user; if `private`, of the same user only."""
        ...


class LocalRunner:
    """Runner of visits in this process."""

    def __init__(self, variant: str, space: str, saver: AsyncSqliteSaver, store: BaseStore) -> None:
        self._variant, self._space = variant, space
        self._saver, self._store = saver, store
        self._graph: Any = build_variant(variant).compile(checkpointer=saver, store=store)

    async def visit(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Run or resume a visit."""
        config: RunnableConfig = {"configurable": {"thread_id": thread}}
        started = await self._saver.aget_tuple(config) is not None
        try:
            output = await self._graph.ainvoke(
                None if started else visit, config, context=context, durability="exit" if context.scripted else "async"
            )
        except EndpointError as error:
            raise VisitFailedError(str(error), isinstance(error, RefusedVisitError)) from error
        return VisitOutput.model_validate(output)

    async def forget(self, thread: str) -> None:
        """Delete the thread of a finished visit."""
        await self._saver.adelete_thread(thread)

    async def remember(self, records: Sequence[Record], *, private: bool = False) -> None:
        """Write the records of finished visits."""
        await remember(self._store, private_space(self._space) if private else self._space, records)


def check_world(name: str, checksum: str) -> None:
    """Check that a world that was just read is the one that the study started with.

    Raises:
        BadInputError: The world was replaced.
    """
    if world_checksum(world_folder(name)) != checksum:
        raise BadInputError(
            f"the world {name!r} was replaced while the study ran: bring it back and run the same command again, or "
            "add `--fresh` to start with the new one"
        )


@asynccontextmanager
async def local_runner(
    world: str, checksum: str, variant: str, space: str, *, checkpoints: Path, memory: Path
) -> AsyncIterator[LocalRunner]:
    """Open a runner of visits in this process.

    Args:
        world: Name of the world.
        checksum: Checksum of the world that the study started with.
        variant: Name of the variant.
        space: Space of the memory.
        checkpoints: SQLite file with the checkpoints of unfinished visits.
        memory: Folder of the memory; existing records are deleted.
    """
    await open_world(world)
    try:
        check_world(world, checksum)
        shutil.rmtree(memory, ignore_errors=True)
        async with (
            ChromaStore(memory, embeddings=shared_embeddings()) as store,
            checkpointer(checkpoints, VARIANTS[variant].nodes) as saver,
        ):
            yield LocalRunner(variant, space, saver, store)
    finally:
        close_worlds()


# Maximum attempts of a request and of a visit; first and longest pause between attempts, in seconds.
TRIES = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
WRITES_AT_ONCE = 16
_GONE = 404
# Temporary errors: another run on the thread, too many requests, and errors of the server itself.
_PASSING = (409, 429, 500, 502, 503, 504)


class ServerRunner:
    """Runner of visits as background runs of a LangGraph server, with its own memory space in the server's store."""

    def __init__(self, client: LangGraphClient, variant: str, space: str) -> None:
        self._client, self._variant, self._space = client, variant, space

    async def visit(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Run or resume a visit.

        Raises:
            BadInputError: The server refuses the input, for example because its world of that name differs.
            VisitFailedError: The visit failed on the server at every attempt.
        """
        context = context.model_copy(update={"space": self._space})
        return await _retried(lambda: self._try(self._id(thread), visit, context), _failed)

    async def _try(self, thread: str, visit: VisitInput, context: Context) -> VisitOutput:
        """Join the run of a visit, or start or resume it, depending on the state of its thread on the server."""
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
        faults = [task["error"] for task in state["tasks"] if task.get("error")] or ["the run was stopped"]
        why = f"the visit of user {visit.user_id!r} failed on the server: {faults[0][:300]}"
        if faults[0].startswith(BadInputError.__name__):
            raise BadInputError(why)
        raise VisitFailedError(why, faults[0].startswith(RefusedVisitError.__name__))

    async def _start(self, thread: str, visit: VisitInput | None, context: Context) -> Run:
        """Start a run, without retries: if the answer was lost, the server may have started the run."""
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
        """Delete the thread of a finished visit."""
        await _patiently(lambda: self._delete(self._id(thread)))

    async def _delete(self, thread: str) -> None:
        try:
            await self._client.threads.delete(thread)
        except httpx.HTTPStatusError as error:
            # An earlier attempt deleted the thread, and its answer was lost.
            if error.response.status_code != _GONE:
                raise

    async def remember(self, records: Sequence[Record], *, private: bool = False) -> None:
        """Write the records of finished visits."""
        free = asyncio.Semaphore(WRITES_AT_ONCE)
        store = self._client.store
        space = private_space(self._space) if private else self._space

        async def write(op: PutOp) -> None:
            async with free:
                await _patiently(lambda: store.put_item(op.namespace, op.key, dict(op.value or {}), index=op.index))

        await asyncio.gather(*(write(op) for op in write_ops(space, records)))

    def _id(self, thread: str) -> str:
        """Return the id of a thread on the server, the same when the study is resumed."""
        return str(uuid5(NAMESPACE_URL, f"billp:{self._space}/{thread}"))


@asynccontextmanager
async def server_runner(url: str, variant: str, space: str) -> AsyncIterator[ServerRunner]:
    """Open a runner of visits on a LangGraph server.

    Args:
        url: Address of the server.
        variant: Name of the variant.
        space: Space of the memory, and prefix of the thread names.

    Raises:
        BillpError: The server does not answer, or does not serve the variant.
    """
    async with connected(url) as client:
        if not await _patiently(lambda: client.assistants.search(graph_id=graph_id(variant), limit=1)):
            raise BillpError(f"the server lacks the graph {graph_id(variant)!r}: add it to its langgraph.json")
        yield ServerRunner(client, variant, space)


def _failed(error: BaseException) -> bool:
    return isinstance(error, VisitFailedError)


def _passing(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx.TransportError)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Send a request that is safe to repeat, and retry after temporary errors."""
    return await _retried(ask, _passing)


async def _retried(ask: Callable[[], Awaitable[T]], again: Callable[[BaseException], bool]) -> T:
    """Retry up to `TRIES` attempts with growing pauses."""
    tries = AsyncRetrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential_jitter(FIRST_PAUSE, LONGEST_PAUSE),
        retry=retry_if_exception(again),
        reraise=True,
    )

    # Tenacity awaits coroutine functions only.
    async def attempt() -> T:
        return await ask()

    return await tries(attempt)


def _output(state: Mapping[str, Any], visit: VisitInput) -> VisitOutput | None:
    """Return the output of a visit from its thread's state; None if the visit has not ended."""
    values = state["values"]
    ended = not state["next"] and "length" in values
    return VisitOutput.model_validate({"user_id": visit.user_id, **values}) if ended else None
