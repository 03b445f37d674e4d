"""Data of the page beyond LangGraph's API: worlds, their users and items, merged lessons, pairs of items, and studies.

LangGraph does not authenticate these routes. On a server with accounts, those that any account may read ask the server
itself whether it knows the token, and the others do not exist.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from langgraph_sdk.schema import Item
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from graph.server.asgi import ACCOUNT_NOTED
from graph.server.memory import PAGE_OF_ITEMS, stored
from graph.web.pairs import PairsQuery, found_pairs
from graph.web.worlds import built_worlds, found_items, found_users
from memory.chroma.layout import StoredRecord
from memory.lessons import MergedLesson, merge_lessons, stored_by_space
from nodes.state import first_fault
from sim.errors import BadInputError

Endpoint = Callable[[Request], Awaitable[Response]]
REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""Content Security Policy of a study's report, which is one file with its styles and pictures, and has no script."""
MOST_RECORDS_OF_ACCOUNT = 10_000
"""Most records that are merged or counted for an account, since the server is shared."""
MOST_REPLACEMENTS = 1_000_000
"""Most pairs of a lesson and one that it may replace. Keys that many users' records share make a pair for each."""
LONGEST_QUERY = 200
# Address of the server for itself; `billp view` answers to this name.
ITSELF = "http://localhost"


class LessonsPlace(BaseModel):
    """Place of lessons in the store."""

    prefix: list[str] = Field(min_length=1, max_length=10)


class VisitsQuery(BaseModel):
    """Row of a study, and the number of pages of its visits."""

    row: str = Field("", max_length=LONGEST_QUERY)
    pages: int = Field(1, ge=1)


class OwnAnswer(NamedTuple):
    """Answer of the server to itself."""

    answer: httpx.Response
    account: str
    """Account that the server took the request for; empty without accounts."""


def data_routes(*, graphs: bool, accounts: bool) -> list[BaseRoute]:
    """Return the routes of the page's data.

    Args:
        graphs: Whether a LangGraph server is around, so that visits can be made.
        accounts: Whether it has accounts.
    """

    async def server(request: Request) -> Response:
        return JSONResponse({"graphs": graphs, "accounts": accounts})

    most = MOST_RECORDS_OF_ACCOUNT if accounts else None

    def route(path: str, endpoint: Endpoint, *, shown: bool, method: str = "GET") -> Route:
        """Return a route; `shown` says whether accounts may read it."""
        guarded = answering(endpoint)
        if accounts:
            guarded = with_token(guarded) if shown else absent
        # Left out of the schema: LangGraph would read the docstrings of these functions as YAML.
        return Route(path, guarded, methods=[method], include_in_schema=False)

    return [
        Route("/server", server, include_in_schema=False),
        route("/worlds", worlds, shown=True),
        route("/worlds/{world}/items", items, shown=True),
        route("/worlds/{world}/users", users, shown=False),
        route("/account", account, shown=True),
        route("/lessons", partial(lessons, most=most), shown=True, method="POST"),
        route("/pairs", partial(pairs, most=most), shown=True, method="POST"),
        route("/runs", of_studies(runs), shown=False),
        route("/runs/{name}", of_studies(run), shown=False),
        route("/runs/{name}/report", of_studies(report), shown=False),
        route("/runs/{name}/visits", of_studies(visits), shown=False),
        route("/runs/{name}/visits/{number:int}", of_studies(visit), shown=False),
        route("/runs/{name}/minus/{other}", of_studies(minus), shown=False),
    ]


def answering(endpoint: Endpoint) -> Endpoint:
    """Wrap a route: answer an invalid request with its fault in one line."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except StoreRefusedError as refused:
            return _passed_on(refused.answer)
        except BadInputError as error:
            return JSONResponse({"detail": " ".join(str(error).split())}, 422)
        except ValidationError as error:
            return JSONResponse({"detail": first_fault(error)}, 422)
        except OSError as error:
            # The name alone: the folders above it are the server's own.
            file = Path(str(error.filename)).name if error.filename else "a file"
            detail = f"{file} cannot be read ({error.strerror or error}): restore it, or make it again"
            return JSONResponse({"detail": detail}, 422)

    return answered


async def ask_itself(request: Request, path: str, body: Mapping[str, Any]) -> OwnAnswer:
    """Post to a route of the server itself, in the name of a request's sender."""
    accounts: list[str] = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        await request.app({**scope, ACCOUNT_NOTED: accounts.append}, receive, send)

    headers = {"authorization": request.headers.get("authorization", "")}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=noting), base_url=ITSELF) as client:
        answer = await client.post(path, json=body, headers=headers)
    return OwnAnswer(answer, accounts[-1] if accounts else "")


def with_token(endpoint: Endpoint) -> Endpoint:
    """Wrap a route: answer only if the server knows the token of the request."""

    async def checked(request: Request) -> Response:
        asked = await ask_itself(request, "/assistants/search", {"limit": 1})
        if asked.answer.status_code in (401, 403):
            return JSONResponse({"detail": "no valid token: sign in"}, 401)
        if not asked.answer.is_success:
            return _passed_on(asked.answer)
        request.state.account = asked.account
        return await endpoint(request)

    return checked


def _passed_on(answer: httpx.Response) -> Response:
    kept = {name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers}
    return Response(answer.content, answer.status_code, kept)


async def absent(request: Request) -> Response:
    """Answer that a route does not exist."""
    return JSONResponse({"detail": "Not Found"}, 404)


def query_of(request: Request) -> str:
    """Return the text of a search, as far as one is looked for."""
    return request.query_params.get("q", "")[:LONGEST_QUERY].strip()


async def worlds(request: Request) -> Response:
    """Return the names of the built worlds, and the default one."""
    return JSONResponse(await asyncio.to_thread(built_worlds))


async def items(request: Request) -> Response:
    """Return items of a world whose titles contain a text."""
    return JSONResponse(await asyncio.to_thread(found_items, request.path_params["world"], query_of(request)))


async def users(request: Request) -> Response:
    """Return users of a world whose ids or histories contain a text."""
    return JSONResponse(await asyncio.to_thread(found_users, request.path_params["world"], query_of(request)))


async def account(request: Request) -> Response:
    """Return the name of the account that asks; empty without accounts."""
    return JSONResponse({"account": getattr(request.state, "account", "")})


class StoreRefusedError(Exception):
    """Answer of the store to a request that it refuses."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


async def records_below(request: Request, prefix: Sequence[str], most: int | None) -> list[StoredRecord]:
    """Return the records below a prefix.

    The server's store is read in the name of the request, so that an account gets what it may read.

    Args:
        request: The request.
        prefix: First labels of the namespaces.
        most: Most records; None for all.

    Raises:
        BadInputError: There are more records.
        StoreRefusedError: The store refuses the request.
    """
    items: list[Item] = []
    page_size = PAGE_OF_ITEMS
    while page_size == PAGE_OF_ITEMS:
        wanted = {"namespace_prefix": list(prefix), "limit": PAGE_OF_ITEMS, "offset": len(items)}
        # To look at a record prolongs no life.
        answer, _ = await ask_itself(request, "/store/items/search", wanted | {"refresh_ttl": False})
        if not answer.is_success:
            raise StoreRefusedError(answer)
        page = answer.json()["items"]
        page_size = len(page)
        items += page
        if most is not None and len(items) > most:
            raise BadInputError(f"there are more than {most:,} records here: choose one user")
    return await asyncio.to_thread(lambda: [stored(one) for one in items])


async def lessons(request: Request, most: int | None) -> Response:
    """Return the lessons below a prefix that count, those with the most visits first.

    Args:
        request: The request.
        most: Most records; None for all.

    Raises:
        BadInputError: There are more records, or too many that may replace each other.
    """
    place = LessonsPlace.model_validate_json(await request.body())
    return JSONResponse(await asyncio.to_thread(merged, await records_below(request, place.prefix, most)))


async def pairs(request: Request, most: int | None) -> Response:
    """Return the items that a query means in the experiences below a prefix, and the pairs of one.

    Args:
        request: The request.
        most: Most records; None for all.

    Raises:
        BadInputError: There are more records.
    """
    query = PairsQuery.model_validate_json(await request.body())
    return JSONResponse(await asyncio.to_thread(found_pairs, await records_below(request, query.prefix, most), query))


def merged(records: Sequence[StoredRecord]) -> list[dict[str, Any]]:
    """Return the lessons that count, each with those that it replaced; records that are no lessons are left out.

    Raises:
        BadInputError: More than MOST_REPLACEMENTS pairs of lessons of a space may replace each other.
    """
    spaces, _ = stored_by_space(records)
    for space, own in spaces.items():
        keys = Counter(one.key for one in own)
        pairs = sum(keys[key] for one in own for key in set(one.lesson.replaces))
        if pairs > MOST_REPLACEMENTS:
            raise BadInputError(
                f"the lessons of {space[:80]!r} may replace {pairs:,} others, more than {MOST_REPLACEMENTS:,}: "
                "choose one user"
            )
    return [_as_json(space, one) for space, own in sorted(spaces.items()) for one in merge_lessons(own)]


def _as_json(space: str, lesson: MergedLesson) -> dict[str, Any]:
    return {
        "space": space,
        "text": lesson.text,
        "support": lesson.support,
        "length": lesson.length,
        "records": [{"namespace": list(one.namespace), "key": one.key} for one in lesson.records],
        "replaced": list(dict.fromkeys(one.lesson.text for one in lesson.replaced)),
    }


def of_studies(endpoint: Endpoint) -> Endpoint:
    """Wrap a route about studies: load their code in a thread, because it is slow to load and may stop the event loop.

    A server with accounts shows no studies, so it never loads the code.
    """

    async def with_code(request: Request) -> Response:
        for module in ("graph.web.studies", "graph.web.study_visits"):
            await asyncio.to_thread(import_module, module)
        return await endpoint(request)

    return with_code


async def runs(request: Request) -> Response:
    """Return the finished studies."""
    from graph.web.studies import finished_runs

    return JSONResponse(await asyncio.to_thread(finished_runs))


async def run(request: Request) -> Response:
    """Return the rows of a study."""
    from graph.web.studies import rows_of

    return JSONResponse(await asyncio.to_thread(rows_of, request.path_params["name"]))


async def report(request: Request) -> Response:
    """Return the report of a study."""
    from graph.web.studies import report_file

    file = await asyncio.to_thread(report_file, request.path_params["name"])
    return FileResponse(file, headers={"content-security-policy": REPORT_POLICY})


async def visits(request: Request) -> Response:
    """Return a page of the visits of a row of a study."""
    from graph.web.study_visits import listed_visits

    wanted = VisitsQuery.model_validate(dict(request.query_params))
    name = request.path_params["name"]
    return JSONResponse(await asyncio.to_thread(listed_visits, name, wanted.row, wanted.pages))


async def visit(request: Request) -> Response:
    """Return a visit of a study."""
    from graph.web.study_visits import study_visit

    name, number = request.path_params["name"], request.path_params["number"]
    return JSONResponse(await asyncio.to_thread(study_visit, name, number))


async def minus(request: Request) -> Response:
    """Return the rows that two studies have, with the differences of their users."""
    from graph.web.studies import compared

    return JSONResponse(await asyncio.to_thread(compared, request.path_params["name"], request.path_params["other"]))
