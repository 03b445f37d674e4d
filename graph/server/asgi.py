"""Helpers of the server's middleware: facts of an ASGI scope, and refusal of a request."""

import json
from collections.abc import Mapping

from starlette.types import Scope, Send

PAGE = "/app"
"""Address of the page in the browser."""
PAGE_MARK = "billp.page"
"""Key of the scope of a request that is for the page or its data."""

ACCOUNT_NOTED = "billp.account"
"""Key of the scope of a request that the page makes to its own server: a function that gets the account's name."""


async def refuse(scope: Scope, send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
    """Refuse an HTTP request with an error, and close a web socket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": detail[:100]})
        return
    body = json.dumps({"detail": detail}).encode()
    given = {"content-type": "application/json", "content-length": str(len(body))} | dict(headers or {})
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def is_internal(scope: Scope) -> bool:
    """Return whether the server called itself, as for its MCP endpoint; no client can set this path."""
    return str(scope.get("root_path", "")).startswith("/noauth")


def is_page(scope: Scope) -> bool:
    """Return whether a request is for the page in the browser; no client can set this mark."""
    return bool(scope.get(PAGE_MARK))


def is_page_file(scope: Scope) -> bool:
    """Return whether a request is for a file of the page in the browser, which is not data."""
    return is_page(scope) and path_of(scope).startswith("/static/")


def path_of(scope: Scope) -> str:
    """Return the path of a request, without the prefix at which the server is mounted."""
    return str(scope["path"]).removeprefix(str(scope.get("root_path", "")))


def account_of(scope: Scope) -> str:
    """Return the name of the account that sends a request; empty if none."""
    user = scope.get("user")
    return str(user.identity) if user is not None and user.is_authenticated else ""
