"""Files of the page, with the headers that keep all else out of it."""

from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.server.asgi import PAGE, PAGE_MARK

STATIC = Path(__file__).with_name("static")
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content Security Policy of the page: its own files and the server's API, nothing inline and no other origin."""
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # Browsers ask each time whether a file has changed, so that a new version needs no new names.
    "cache-control": "no-cache",
}


class PageHeaders:
    """Middleware that adds the page's headers to each answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, add)


class PageMount(Mount):
    """Mount that marks its requests, for the middleware around it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match a request, and mark it if it is for this mount."""
        match, child = super().matches(scope)
        return match, {**child, PAGE_MARK: True} if child else child


async def index(request: Request) -> FileResponse:
    """Return the page."""
    return FileResponse(STATIC / "index.html")


async def moved(request: Request) -> RedirectResponse:
    """Lead to the address with a slash at its end, below which the page's files are found."""
    return RedirectResponse(f"{PAGE.removeprefix('/')}/", headers=HEADERS)


def page_routes(data: Sequence[BaseRoute]) -> list[BaseRoute]:
    """Return the routes of the page.

    Args:
        data: Routes of the data that it shows, below its address.
    """
    # Left out of the schema: LangGraph would read the docstrings of these functions as YAML.
    inner: list[BaseRoute] = [
        Route("/", index, include_in_schema=False),
        Mount("/static", StaticFiles(directory=STATIC)),
        Mount("/api", routes=data),
    ]
    page = PageMount(PAGE, routes=inner)
    page.app = PageHeaders(page.app)
    return [Route(PAGE, moved, include_in_schema=False), page]
