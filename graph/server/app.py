"""Application around LangGraph's routes: closes some routes, limits requests, checks searches of the store.

`langgraph.json` names it as `http.app`, with the page in the browser (`graph.web.app`), and with
`"middleware_order": "auth_first"`, so that the account is known here.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.server.asgi import ACCOUNT_NOTED, PAGE, account_of, is_internal, is_page, path_of, refuse
from graph.server.limits import RequestLimits, configured_limits
from memory.chroma.errors import StoreError
from nodes.llm.tracing import bound_traces

# Routes open to requests without an account: health, the version of the server, and the way to the page.
OPEN_PATHS = ("/", "/ok", "/info", PAGE)
STORE_LISTINGS = ("/store/items/search", "/store/namespaces")


class NotedAccount:
    """Middleware that tells a request of the page to its own server as which account LangGraph let it in.

    No client can set the key of the scope that asks for it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if noted := scope.get(ACCOUNT_NOTED):
            noted(account_of(scope))
        await self._app(scope, receive, send)


class ClosedRoutes:
    """Middleware that closes routes for which LangGraph has no switch.

    These are the routes of the development server that empty it or show any thread. With accounts, it also closes every
    route that LangGraph serves without authentication, now or in a later version, and the route that starts many runs
    by one request, because the number of visits at once is checked once per request.
    """

    def __init__(self, app: ASGIApp, accounts: bool) -> None:
        """Set the closed routes.

        Args:
            app: The wrapped application.
            accounts: Whether authentication is on.
        """
        self._app, self._accounts = app, accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that the route does not exist."""
        if scope["type"] in ("http", "websocket") and not is_internal(scope) and self._closed(scope):
            await refuse(scope, send, 404, "Not Found")
        else:
            await self._app(scope, receive, send)

    def _closed(self, scope: Scope) -> bool:
        path = path_of(scope)
        if path.startswith("/internal/"):
            return True
        # LangGraph authenticates a request before this point, except on the routes about the server itself. The page
        # is open: its files tell nothing, and its data routes ask for the token (graph.web.data).
        unasked = "user" not in scope and path not in OPEN_PATHS and not is_page(scope)
        return self._accounts and (unasked or path == "/runs/batch")


MAX_QUERY = 10_000
"""Most characters of the text of a search, which is embedded; a situation has some hundreds."""
# Minimum and maximum of the numbers in a search or listing; LangGraph passes them to the store unchecked.
NUMBER_BOUNDS = {"limit": (0, 10_000), "offset": (0, 1_000_000_000), "max_depth": (1, 100)}


def _allowed(name: str) -> Any:
    least, largest = NUMBER_BOUNDS[name]
    return Field(None, strict=True, ge=least, le=largest)


class _Listing(BaseModel):
    limit: int | None = _allowed("limit")
    offset: int | None = _allowed("offset")
    max_depth: int | None = _allowed("max_depth")
    query: str | None = Field(None, max_length=MAX_QUERY)


def unusable_bound(body: bytes) -> str:
    """Return what is allowed instead of a number or query out of bounds; empty if a request to the store has none."""
    try:
        _Listing.model_validate_json(body)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            # LangGraph itself reports every other fault.
            if fault["type"] == "string_too_long":
                return f"query has at most {MAX_QUERY:,} characters"
            if fault["loc"] and fault["loc"][0] in NUMBER_BOUNDS:
                least, largest = NUMBER_BOUNDS[str(fault["loc"][0])]
                return f"{fault['loc'][0]} has to be an integer from {least:,} to {largest:,}"
    return ""


class StoreBounds:
    """Middleware that refuses searches and listings with numbers or queries that the store cannot bear."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse one out of bounds."""
        if scope["type"] != "http" or scope["method"] != "POST" or path_of(scope) not in STORE_LISTINGS:
            await self._app(scope, receive, send)
            return
        messages = [message := await receive()]
        while message.get("more_body"):
            messages.append(message := await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        if fault := await asyncio.to_thread(unusable_bound, body):
            await refuse(scope, send, 422, fault)
        else:
            await self._app(scope, _again(messages, receive), send)


def _again(messages: list[Message], receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Return a `receive` that first repeats messages already read, then receives new ones."""
    left = iter(messages)

    async def replay() -> Message:
        return next(left, None) or await receive()

    return replay


async def memory_failed(request: Request, error: Exception) -> JSONResponse:
    """Answer a request to the store with the line of the memory's fault, which LangGraph would hide."""
    return JSONResponse({"detail": str(error)}, 422 if isinstance(error, ValueError) else 503)


def with_accounts() -> bool:
    """Return whether LangGraph authenticates the requests of this server."""
    return bool(os.environ.get("LANGGRAPH_AUTH"))


def bordered(routes: Sequence[BaseRoute]) -> Starlette:
    """Return the application around LangGraph's routes.

    Args:
        routes: Routes of its own, which LangGraph does not authenticate.
    """
    # LangGraph loads the application before it runs a graph.
    bound_traces()
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(NotedAccount),
            Middleware(ClosedRoutes, accounts=with_accounts()),
            Middleware(RequestLimits, limits=configured_limits()),
            Middleware(StoreBounds),
        ],
        exception_handlers={StoreError: memory_failed},
    )
