"""The page without a LangGraph server: memory and studies under BILLP_HOME, for `billp view`."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from graph.server.app import StoreBounds, memory_failed
from graph.server.asgi import PAGE
from graph.web.data import data_routes
from graph.web.page import page_routes
from graph.web.store_routes import OpenMemory, store_routes
from memory.chroma.errors import StoreError
from nodes.state import first_fault
from sim.errors import BadInputError

HOST = "127.0.0.1"


def view_app() -> Starlette:
    """Return the application: the page, its data, and the part of LangGraph's store API that it uses."""
    memory = OpenMemory()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        memory.close()

    return Starlette(
        routes=[
            *page_routes(data_routes(graphs=False, accounts=False)),
            *store_routes(memory),
            Route("/ok", healthy, include_in_schema=False),
        ],
        # A page of another origin cannot reach this server by a name of its own that leads to this machine.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]), Middleware(StoreBounds)],
        exception_handlers={StoreError: memory_failed, ValidationError: refused},
        lifespan=lifespan,
    )


async def healthy(request: Request) -> Response:
    """Answer that the server is up."""
    return JSONResponse({"ok": True})


async def refused(request: Request, error: Exception) -> Response:
    """Answer an invalid request with its fault."""
    return JSONResponse({"detail": first_fault(cast(ValidationError, error))}, 422)


def serve_view(port: int, ready: Callable[[str], None]) -> None:
    """Serve the page until the process is stopped.

    Args:
        port: Port on this machine; 0 for a free one.
        ready: Function that gets the address of the page.

    Raises:
        BadInputError: The port is in use.
    """
    server = uvicorn.Server(uvicorn.Config(view_app(), log_level="warning", timeout_graceful_shutdown=5))
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise BadInputError(f"port {port} cannot be used ({error.strerror}): choose another with --port") from error
        listening.listen()
        ready(f"http://{HOST}:{listening.getsockname()[1]}{PAGE}/")
        server.run(sockets=[listening])
