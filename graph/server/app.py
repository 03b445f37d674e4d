"""Application around LangGraph's routes: closes some of them, bounds requests, checks numbers of the store's routes.

`langgraph.json` names it as `http.app`, with `"middleware_order": "auth_first"`, so that an account is known here.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.server.asgi import is_internal, path_of, refuse
from graph.server.limits import RequestLimits, configured_limits

# Routes that need no account where there are accounts: health, and the version of the server.
OPEN = ("/", "/ok", "/info")
STORE_LISTINGS = ("/store/items/search", "/store/namespaces")


class ClosedRoutes:
    """Middleware that closes what LangGraph has no switch for.

    These are the routes of the development server that empty it or show any thread. Where there are accounts, whatever
    LangGraph serves without asking who it is, now or in a later version, is closed too, and so is the start of many
    runs by one request, since visits at once are counted before each.
    """

    def __init__(self, app: ASGIApp, accounts: bool) -> None:
        """Set what is closed.

        Args:
            app: The application behind.
            accounts: Whether authentication is on.
        """
        self._app, self._accounts = app, accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say that there is no such route."""
        if scope["type"] in ("http", "websocket") and not is_internal(scope) and self._closed(scope):
            await refuse(scope, send, 404, "Not Found")
        else:
            await self._app(scope, receive, send)

    def _closed(self, scope: Scope) -> bool:
        path = path_of(scope)
        if path.startswith("/internal/"):
            return True
        # LangGraph asks who it is before it goes on to here, but for its routes about itself.
        unasked = "user" not in scope and path not in OPEN
        return self._accounts and (unasked or path == "/runs/batch")


# Least and largest number that a search or a listing may give; LangGraph hands them to the store as they come.
NUMBERS = {"limit": (0, 10_000), "offset": (0, 1_000_000_000), "max_depth": (1, 100)}


def _allowed(name: str) -> Any:
    least, largest = NUMBERS[name]
    return Field(None, strict=True, ge=least, le=largest)


class _Listing(BaseModel):
    limit: int | None = _allowed("limit")
    offset: int | None = _allowed("offset")
    max_depth: int | None = _allowed("max_depth")


def unusable_number(body: bytes) -> str:
    """Return what a number of a request to the store has to be, empty if all are."""
    try:
        _Listing.model_validate_json(body)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            # Anything else that may be wrong is LangGraph's to say.
            if fault["loc"]:
                least, largest = NUMBERS[str(fault["loc"][0])]
                return f"{fault['loc'][0]} has to be an integer from {least:,} to {largest:,}"
    return ""


class StoreNumbers:
    """Middleware that refuses numbers with which the store cannot count."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say which number cannot be used."""
        if scope["type"] != "http" or scope["method"] != "POST" or path_of(scope) not in STORE_LISTINGS:
            await self._app(scope, receive, send)
            return
        messages = [message := await receive()]
        while message.get("more_body"):
            messages.append(message := await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        if fault := await asyncio.to_thread(unusable_number, body):
            await refuse(scope, send, 422, fault)
        else:
            await self._app(scope, _again(messages, receive), send)


def _again(messages: list[Message], receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Return a `receive` that gives messages that were read already, then the others."""
    left = iter(messages)

    async def replay() -> Message:
        return next(left, None) or await receive()

    return replay


app = Starlette(
    middleware=[
        Middleware(ClosedRoutes, accounts=bool(os.environ.get("LANGGRAPH_AUTH"))),
        Middleware(RequestLimits, limits=configured_limits()),
        Middleware(StoreNumbers),
    ]
)
