"""Helpers of the server's middleware: facts of an ASGI scope, and refusal of a request."""

import json
from collections.abc import Mapping

from starlette.types import Scope, Send


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


def path_of(scope: Scope) -> str:
    """Return the path of a request, without the prefix at which the server is mounted."""
    return str(scope["path"]).removeprefix(str(scope.get("root_path", "")))


def account_of(scope: Scope) -> str:
    """Return the name of the account that sends a request; empty if none."""
    user = scope.get("user")
    return str(user.identity) if user is not None and user.is_authenticated else ""
