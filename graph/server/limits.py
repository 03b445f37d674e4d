"""Limits on requests: requests per minute and visits at once by account, sizes of requests and histories.

The library `limits` counts requests too, but its in-memory store has no bound on the number of addresses, and the
middleware around it would still be our own code. A token bucket is two numbers, in a table of bounded size.
"""

import asyncio
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.server.asgi import account_of, is_internal, is_page_file, path_of, refuse
from nodes.lifecycle import history_bytes
from sim.errors import BillpError

MOST_KEYS = 10_000
HEALTH = ("/", "/ok")
HISTORY_BYTES = 50_000_000
"""Most bytes of the states in the history of a thread: the server holds all of them for its answer."""
_STARTS = re.compile(r"(/threads/[^/]+)?/runs(/stream|/wait)?|/threads/[^/]+/commands")


class LimitsError(BillpError):
    """Raised when the limits of a server are invalid; the message names the variable."""


class Limits(BaseModel):
    """Limits of a server, high enough for a person and for a study on one machine."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    requests: int = Field(6_000, ge=1, le=1_000_000_000, alias="BILLP_SERVER_REQUESTS_PER_MINUTE")
    """Requests of an account per minute; of an address for requests without an account."""
    visits: int = Field(50, ge=1, le=1_000_000_000, alias="BILLP_SERVER_VISITS_AT_ONCE")
    """Running and waiting visits of an account."""
    body: int = Field(16_000_000, ge=1_000, le=1_000_000_000, alias="BILLP_SERVER_BODY_BYTES")
    """Bytes of a request's body. A visit of 2,000 rounds, edited as a whole, has some 3,000,000."""


def configured_limits(environment: Mapping[str, str] = os.environ) -> Limits:
    """Return the limits set in the environment, with defaults for the others.

    Raises:
        LimitsError: A limit is not a number, or out of range.
    """
    names = [field.alias or "" for field in Limits.model_fields.values()]
    try:
        return Limits.model_validate({name: value for name in names if (value := environment.get(name, "").strip())})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise LimitsError(f"{fault['loc'][0]} cannot be used: {fault['msg']}") from error


class Buckets:
    """Token buckets, one for each key: each holds the requests of a minute, and fills evenly."""

    def __init__(self, a_minute: int, most: int = MOST_KEYS, clock: Callable[[], float] = time.monotonic) -> None:
        """Set the limits.

        Args:
            a_minute: Requests per minute.
            most: Maximum number of buckets; the least recently used is deleted first.
            clock: Function that returns the time in seconds.
        """
        self._size, self._most, self._clock = a_minute, most, clock
        self._left: dict[tuple[str, str], tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._left)

    def take(self, key: tuple[str, str]) -> float:
        """Take one request from a bucket; return 0, or the seconds until a request is free."""
        now = self._clock()
        left, at = self._left.pop(key, (float(self._size), now))
        left = min(float(self._size), left + (now - at) * self._size / 60)
        wait = max(0.0, (1 - left) * 60 / self._size)
        # Insert the key again at the end, so that the first key of the table is the least recently used.
        self._left[key] = (left if wait else left - 1, now)
        if len(self._left) > self._most:
            del self._left[next(iter(self._left))]
        return wait


class _TooLargeError(Exception):
    """Raised to the reader of a request's body when the body exceeds the limit."""


def _is_uncounted(scope: Scope) -> bool:
    """Return whether a request has no limit: of the server itself, about its health, or for a file of the page."""
    return is_internal(scope) or path_of(scope) in HEALTH or is_page_file(scope)


class RequestLimits:
    """Middleware that limits requests per minute and the size of their bodies; answers are streamed unchanged."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._buckets = Buckets(limits.requests)
        self._starting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket") or _is_uncounted(scope):
            await self._app(scope, receive, send)
            return
        history_bytes.set(HISTORY_BYTES)
        account = account_of(scope)
        key = ("account", account) if account else ("address", (scope.get("client") or [""])[0])
        if wait := self._buckets.take(key):
            headers = {"retry-after": str(math.ceil(wait))}
            await refuse(scope, send, 429, f"more than {self._limits.requests:,} requests in a minute", headers)
        elif account and scope.get("method") == "POST" and _STARTS.fullmatch(path_of(scope)):
            await self._start_alone(account, scope, receive, send)
        else:
            await self._bounded(scope, receive, send)

    async def _start_alone(self, account: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that starts a visit, one request of an account at a time.

        The visits at once are counted before a visit starts, so two requests counted at the same time could exceed the
        limit. When the answer begins, the server has counted the visit, and the next request may go on.
        """
        lock = self._starting[account]
        await lock.acquire()
        waited_for = True

        async def begin(message: Message) -> None:
            nonlocal waited_for
            if waited_for:
                waited_for = False
                lock.release()
            await send(message)

        try:
            await self._bounded(scope, receive, begin)
        finally:
            if waited_for:
                lock.release()

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        most, read, answer_started = self._limits.body, 0, False
        detail = f"a request has at most {most:,} bytes"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            await refuse(scope, send, 413, detail)
            return

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > most:
                    raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal answer_started
            answer_started = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLargeError:
            if answer_started:
                raise
            await refuse(scope, send, 413, detail)


@cache
def _server() -> LangGraphClient:
    return get_client()


async def visits_under_way(account: str) -> int:
    """Return the number of an account's running and waiting visits, counted by the server's busy threads.

    A visit counts while its thread is busy: with or without a connected client, until the visit ends, fails or is
    stopped, and while it waits in the queue of another process. Runs that wait on one thread run one after another, and
    count as one visit.
    """
    return await _server().threads.count(metadata={"owner": account}, status="busy")
