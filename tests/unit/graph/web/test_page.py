"""The page: its files and headers, which requests reach its data, and the checksums of its libraries."""

import gzip
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from graph.server.app import ClosedRoutes, NotedAccount
from graph.server.limits import Limits, RequestLimits
from graph.web import data, studies
from graph.web.data import data_routes
from graph.web.page import POLICY, STATIC, page_routes
from graph.web.worlds import opened_world
from tests.web.vendored import MANIFEST, VENDOR, checksum

TOKEN = {"authorization": "Bearer right"}
OPEN_TO_ACCOUNTS = [
    ("GET", "worlds"),
    ("GET", "worlds/tiny/items?q=a"),
    ("GET", "account"),
    ("POST", "lessons"),
    ("POST", "pairs"),
]
CLOSED_TO_ACCOUNTS = [
    "worlds/tiny/users?q=3",
    "runs",
    "runs/x",
    "runs/x/report",
    "runs/x/visits",
    "runs/x/visits/0",
    "runs/x/minus/y",
]
TIME = "2026-01-01T00:00:00+00:00"
# All that the page loads, compressed.
MOST_BYTES = 400_000


class RightToken(AuthenticationBackend):
    """Stand for LangGraph's authentication: one account, with one token."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        if conn.headers.get("authorization") != TOKEN["authorization"]:
            return None
        return AuthCredentials(["authenticated"]), SimpleUser("o'brien")


async def asked(request: Request) -> Response:
    """Stand for LangGraph's route, which answers to the right token only."""
    return JSONResponse([], 200 if request.user.is_authenticated else 401)


def store_of(records: list[dict[str, Any]], heard: list[dict[str, Any]]) -> Callable[[Request], Any]:
    """Return a route that stands for the search of LangGraph's store, and notes what it is asked."""

    async def search(request: Request) -> Response:
        wanted = await request.json()
        heard.append(wanted)
        if wanted["namespace_prefix"][0] == "forbidden":
            return JSONResponse({"detail": "Forbidden"}, 403)
        return JSONResponse({"items": records[wanted["offset"] :][: wanted["limit"]]})

    return search


def client(
    *, accounts: bool, records: list[dict[str, Any]] | None = None, heard: list[dict[str, Any]] | None = None
) -> httpx.AsyncClient:
    protected: list[BaseRoute] = [
        Route("/assistants/search", asked, methods=["POST"]),
        Route("/store/items/search", store_of(records or [], [] if heard is None else heard), methods=["POST"]),
    ]
    # In the order of `auth_first`: LangGraph authenticates its own routes before the page's middleware.
    around = [Middleware(AuthenticationMiddleware, backend=RightToken()), Middleware(NotedAccount)]
    routes = [*page_routes(data_routes(graphs=True, accounts=accounts)), Mount("", routes=protected, middleware=around)]
    return httpx.AsyncClient(transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://server")


async def test_the_page_and_its_files_have_the_headers_that_keep_others_out() -> None:
    async with client(accounts=False) as page:
        for path in ("/app/", "/app/static/main.js", "/app/static/vendor/preact.mjs", "/app/api/server"):
            answer = await page.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["content-security-policy"] == POLICY and "unsafe" not in POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
        moved = await page.get("/app")
        assert moved.status_code == 307 and str(moved.next_request and moved.next_request.url) == "http://server/app/"
        for path in ("/app/static/../page.py", "/app/static/%2e%2e/page.py", "/app/static/nothing", "/app/page.py"):
            assert (await page.get(path)).status_code == 404, path


async def test_with_accounts_the_data_ask_the_server_for_the_token_and_others_data_do_not_exist(home: Path) -> None:
    async with client(accounts=True) as page:
        for method, path in OPEN_TO_ACCOUNTS:
            for headers in ({}, {"authorization": "Bearer wrong"}):
                assert (await page.request(method, f"/app/api/{path}", json={}, headers=headers)).status_code == 401, (
                    path
                )
            answer = await page.request(method, f"/app/api/{path}", json={"prefix": ["lessons", "tiny"]}, headers=TOKEN)
            assert answer.status_code == 200, answer.text
        for path in CLOSED_TO_ACCOUNTS:
            assert (await page.get(f"/app/api/{path}", headers=TOKEN)).status_code == 404, path
        assert (await page.get("/app/api/server")).json() == {"graphs": True, "accounts": True}


def served(app: ASGIApp, mark: Any) -> httpx.AsyncClient:
    """Return a client of an app below a route that has added `mark` to its scope."""

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, **mark}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(marked), base_url="http://server")


async def test_with_accounts_the_page_is_open_and_no_other_route_without_a_user_is() -> None:
    async def seen(scope: Any, receive: Any, send: Any) -> None:
        await Response("seen")(scope, receive, send)

    routes = page_routes(data_routes(graphs=True, accounts=True))
    (page,) = (one for one in routes if hasattr(one, "routes"))
    around = [page.matches({"type": "http", "path": path, "method": "GET"})[1] for path in ("/app/", "/app/api/x")]
    transport = httpx.ASGITransport(ClosedRoutes(seen, accounts=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as server:
        for path in ("/app/", "/appx", "/application", "/metrics"):
            assert (await server.get(path)).status_code == 404, path
    for scope in around:
        async with served(ClosedRoutes(seen, accounts=True), scope) as server:
            assert (await server.get("/app/")).status_code == 200


async def test_worlds_users_and_items_are_found_by_text(home: Path) -> None:
    async with client(accounts=False) as page:
        assert (await page.get("/app/api/worlds")).json()["built"] == ["tiny"]
        found = (await page.get("/app/api/worlds/tiny/items?q=GARDEN")).json()
        assert found and all("garden" in one["title"].casefold() for one in found)
        (user, *_) = (await page.get("/app/api/worlds/tiny/users?q=3")).json()
        assert user["id"] == "3" and user["split"] == "dev" and user["history"]
        refused = await page.get("/app/api/worlds/nowhere/users?q=3")
        assert refused.status_code == 422 and "is not built" in refused.json()["detail"]
        assert (await page.get("/app/api/worlds/..%2F..%2Fetc/items?q=a")).status_code in (404, 422)


def lesson(key: str, text: str, visit: str, replaces: tuple[str, ...] = ()) -> dict[str, Any]:
    value = {"kind": "lessons", "visit": visit, "user_id": "1", "situation": "", "text": text, "length": 3}
    return {
        "namespace": ["lessons", "tiny", "1"],
        "key": key,
        "created_at": TIME,
        "updated_at": TIME,
        "value": value | {"total_reward": 9.0, "replaces": list(replaces)},
    }


async def merged(page: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await page.post("/app/api/lessons", json={"prefix": ["lessons", "tiny"]}, headers=headers)


async def test_the_page_learns_the_name_of_its_account_from_its_token_alone() -> None:
    async with client(accounts=True) as page:
        assert (await page.get("/app/api/account", headers=TOKEN)).json() == {"account": "o'brien"}
    async with client(accounts=False) as page:
        assert (await page.get("/app/api/account")).json() == {"account": ""}


async def test_lessons_are_merged_by_the_rules_of_the_memory() -> None:
    said = [lesson("1", "Keep close.", "a"), lesson("2", "Keep apart.", "b", ("1",)), lesson("3", "Keep apart.", "c")]
    foreign = lesson("4", "", "d") | {"value": {"text": 5}}
    heard: list[dict[str, Any]] = []
    async with client(accounts=False, records=[*said, foreign], heard=heard) as page:
        (found,) = (await merged(page)).json()
        assert found["space"] == "tiny"
        assert (found["text"], found["support"], found["replaced"]) == ("Keep apart.", 3, ["Keep close."])
        assert [one["key"] for one in found["records"]] == ["2", "3"]
        # To look at lessons does not prolong their lives.
        assert [one["refresh_ttl"] for one in heard] == [False]
        for body in ("{", '{"prefix": 5}', '{"prefix": []}', '{"prefix": [{}]}'):
            refused = await page.post("/app/api/lessons", content=body)
            assert refused.status_code == 422 and "\n" not in refused.json()["detail"], refused.text
        refused = await page.post("/app/api/lessons", json={"prefix": ["forbidden"]})
        assert (refused.status_code, refused.json()) == (403, {"detail": "Forbidden"})


async def test_the_space_of_lessons_is_the_one_that_was_written() -> None:
    escaped = lesson("1", "Keep close.", "a") | {"namespace": ["lessons", "people:a%2Eb", "1"]}
    async with client(accounts=False, records=[escaped]) as page:
        (found,) = (await merged(page)).json()
    assert found["space"] == "people:a.b" and found["records"][0]["namespace"][1] == "people:a%2Eb"


async def test_a_large_memory_is_merged_and_an_account_gets_as_many_lessons_as_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data, "MOST_RECORDS_OF_ACCOUNT", 1_200)
    # Three pages of the store.
    many = [lesson(str(number), f"Lesson {number}.", f"v{number}") for number in range(2_500)]
    async with client(accounts=False, records=many) as page:
        assert len((await merged(page)).json()) == 2_500
    async with client(accounts=True, records=many[:1_200]) as page:
        assert len((await merged(page, **TOKEN)).json()) == 1_200
    async with client(accounts=True, records=many) as page:
        refused = await merged(page, **TOKEN)
        assert refused.status_code == 422 and "1,200 records" in refused.json()["detail"]


async def test_lessons_with_equal_keys_that_replace_each_other_are_refused_before_the_work() -> None:
    # Each user's lesson may replace that of each other: 1,100 * 1,100 pairs.
    crossed = [
        lesson("same", f"Lesson {number}.", "a", ("same",)) | {"namespace": ["lessons", "tiny", str(number)]}
        for number in range(1_100)
    ]
    for accounts, headers in ((True, TOKEN), (False, {})):
        async with client(accounts=accounts, records=crossed) as page:
            refused = await merged(page, **headers)
            assert refused.status_code == 422 and "1,210,000" in refused.json()["detail"]


def experience(key: str, item: str, recent: tuple[str, ...], left: bool | None, space: str = "tiny") -> dict[str, Any]:
    value: dict[str, Any] = {
        "kind": "experiences",
        "visit": key,
        "user_id": "1",
        "situation": "",
        "plan": "",
        "title": f"Title {item}",
    }
    value |= {"item_id": item, "recent": list(recent), "left": left, "genres": [], "predicted": 4.0, "distance": None}
    return {
        "namespace": ["experiences", space, "1"],
        "key": key,
        "created_at": TIME,
        "updated_at": TIME,
        "value": value | {"reward": 4.0, "advantage": 0.0},
    }


async def test_pairs_are_counted_in_either_order_once_a_round(home: Path) -> None:
    rounds = [
        experience("1", "x", ("y", "y"), False),
        experience("2", "y", ("x", "z"), True),
        experience("3", "z", ("y",), False),
        # An experience of the original, whose end is unknown, and a record of another form.
        experience("4", "x", ("y",), None),
        experience("5", "x", ("y",), True) | {"value": {"item_id": "x"}},
    ]
    async with client(accounts=False, records=rounds) as page:

        async def asked(**query: Any) -> Any:
            answer = await page.post("/app/api/pairs", json={"prefix": ["experiences", "nowhere"]} | query)
            return answer.raise_for_status().json()

        found = await asked(title="title X")
        assert found["items"] == [{"item_id": "x", "title": "Title x"}] and found["more"] == 0
        assert found["pairs"] == [{"item_id": "y", "title": "Title y", "stayed": 1, "ended": 1, "distance": None}]
        # Ends first; the world of this space is not built, so no distance is known.
        assert [(one["item_id"], one["stayed"], one["ended"]) for one in (await asked(item_id="y"))["pairs"]] == [
            ("x", 1, 1),
            ("z", 1, 1),
        ]
        several = await asked(title="Title")
        assert [one["item_id"] for one in several["items"]] == ["x", "y", "z"] and several["pairs"] is None
        assert await asked(item_id="unknown") == {"items": [], "pairs": None, "more": 0}
        for body in ({"prefix": ["experiences"]}, {"prefix": ["experiences", "tiny"], "title": 5}, {}):
            assert (await page.post("/app/api/pairs", json=body)).status_code == 422
        refused = await page.post("/app/api/pairs", json={"prefix": ["forbidden", "tiny"]})
        assert (refused.status_code, refused.json()) == (403, {"detail": "Forbidden"})


async def test_the_distances_of_pairs_are_those_of_the_world_of_a_space(home: Path) -> None:
    world = opened_world("tiny")
    one, two = (item.id for item in list(world.catalogue)[:2])
    for space in ("tiny", "people:tiny", "account:o%2527brien:tiny"):
        async with client(accounts=False, records=[experience("1", one, (two,), False, space)]) as page:
            query = {"prefix": ["experiences", space], "item_id": one}
            (pair,) = (await page.post("/app/api/pairs", json=query)).json()["pairs"]
        assert pair["distance"] == pytest.approx(world.logs.distance(one, two))
        assert pair["title"] == world.catalogue.item(two).title


async def test_the_files_of_the_page_are_not_counted_and_its_data_are() -> None:
    async def seen(scope: Any, receive: Any, send: Any) -> None:
        await Response("seen")(scope, receive, send)

    (page,) = (one for one in page_routes([]) if hasattr(one, "routes"))
    app = RequestLimits(seen, Limits.model_validate({"BILLP_SERVER_REQUESTS_PER_MINUTE": 1}))

    async def status(path: str, *, marked: bool = True) -> int:
        child = page.matches({"type": "http", "path": path, "method": "GET"})[1] if marked else {}
        async with served(app, child) as server:
            return (await server.get(path)).status_code

    assert [await status("/app/static/main.js") for _ in range(20)] == [200] * 20
    assert [await status("/app/api/worlds") for _ in range(2)] == [200, 429]
    # A path of LangGraph's own that looks like the page's is counted.
    assert [await status(path, marked=False) for path in ("/static/x", "/app/static/x")] == [429, 429]


async def test_the_code_of_studies_is_not_loaded_by_the_event_loop(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading: dict[str, bool] = {}

    class Noting(MetaPathFinder):
        def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
            loading[fullname] = threading.current_thread() is threading.main_thread()

    for module in ("graph.web.studies", "graph.web.study_visits"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Noting(), *sys.meta_path])
    async with client(accounts=False) as page:
        assert (await page.get("/app/api/runs")).json() == []
    assert {name: loading[name] for name in loading if name.startswith("graph.web")} == {
        "graph.web.studies": False,
        "graph.web.study_visits": False,
    }


async def test_a_run_that_is_unknown_or_damaged_is_named(home: Path) -> None:
    (home / "runs" / "broken").mkdir(parents=True)
    (home / "runs" / "broken" / "results.json").write_text("{}")
    async with client(accounts=False) as page:
        (run,) = (await page.get("/app/api/runs")).json()
        assert run["name"] == "broken" and "damaged" in run["fault"]
        for name in ("broken", "nothing", "..%2Fworlds"):
            for path in (name, *(f"{name}/{part}" for part in ("report", "visits", "visits/0", "minus/broken"))):
                assert (await page.get(f"/app/api/runs/{path}")).status_code in (404, 422), path


async def test_the_visits_of_a_study_are_listed_by_row_and_read_one_by_one(home: Path) -> None:
    folder = home / "runs" / "two"
    folder.mkdir(parents=True)
    context: dict[str, Any] = {}
    settings = {"train": 0, "seeds": 1, "cohort": 1, "max_steps": 9, "visits_per_user": 1, "recall": []}
    results = {"world": "tiny", "model": "rules", "note": "", "settings": settings, "rows": []}
    results["settings"] = settings | {"learn_at_test": False, "context": context}
    (folder / "results.json").write_text(json.dumps(results))
    step: dict[str, Any] = {
        "plan": "Plan.",
        "title": "Tower",
        "genres": [],
        "distance": None,
        "reward": 4.0,
        "next_value": None,
    }
    about: dict[str, Any] = {
        "without": None,
        "memory": "full",
        "split": "dev",
        "seed": 0,
        "length": 1,
        "length_with_exit": 1,
        "leave_reason": None,
    }
    about |= {"left": False, "lessons": [], "steps": [step | {"left": False}], "records": [{"value": "not shown"}]}
    lines = [
        about | {"variant": variant, "user_id": f"é{number}", "total_reward": float(number)}
        for number, variant in enumerate(["random"] * 60 + ["billp"] * 2)
    ]
    file = folder / "visits.jsonl"
    file.write_text("".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in lines), encoding="utf-8")
    async with client(accounts=False) as page:

        async def asked(path: str) -> Any:
            return (await page.get(f"/app/api/runs/two/visits{path}")).raise_for_status().json()

        first = await asked("")
        assert (first["rows"], first["row"], first["total"]) == (["random", "billp"], "random", 60)
        assert [one["number"] for one in first["visits"]] == list(range(50)) and first["visits"][3]["rounds"] == 1
        assert [one["user_id"] for one in (await asked("?row=random&pages=2"))["visits"]] == [
            f"é{number}" for number in range(60)
        ]
        assert [one["number"] for one in (await asked("?row=billp"))["visits"]] == [60, 61]
        found = await asked("/61")
        assert (found["study"], found["variant"], found["user_id"], found["max_steps"]) == ("two", "billp", "é61", 9)
        assert found["steps"] == lines[61]["steps"] and "records" not in found
        for path in ("/62", "/-1", "?row=nothing", "?pages=0", "?pages=x"):
            assert (await page.get(f"/app/api/runs/two/visits{path}")).status_code in (404, 422), path
        # A study that was run again under its name is read again; a damaged line is named.
        file.write_text(json.dumps(lines[0]) + '\n{"variant": 5}\n')
        os.utime(file, ns=(0, 0))
        refused = await page.get("/app/api/runs/two/visits")
        assert refused.status_code == 422 and "line 2 is damaged" in refused.json()["detail"]


async def test_a_missing_file_is_named_without_the_folders_of_the_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str, other: str) -> None:
        (home / "runs" / name / "visits.jsonl").read_bytes()

    monkeypatch.setattr(studies, "compared", missing)
    async with client(accounts=False) as page:
        refused = await page.get("/app/api/runs/one/minus/two")
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("visits.jsonl cannot be read (No such file or directory)")
    assert str(home) not in refused.text


def test_the_libraries_are_those_of_the_manifest_with_their_licences() -> None:
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    named = {file: digest for one in manifest.values() for file, digest in one["files"].items()}
    assert {file.name for file in VENDOR.iterdir()} == {*named, MANIFEST.name}
    for file, digest in named.items():
        assert checksum((VENDOR / file).read_bytes()) == digest, file
    for name, one in manifest.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", one["version"]) and one["license"] in ("MIT", "Apache-2.0")
        assert one["integrity"].startswith("sha512-") and f"{name}.LICENSE" in one["files"]


class Attributes(HTMLParser):
    """Names and values of all attributes of a page, and its texts in elements that run or style."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += attrs


def sources() -> Iterator[Path]:
    return (file for file in STATIC.rglob("*") if file.suffix in (".js", ".html", ".css", ".svg"))


def test_the_page_is_small_and_has_nothing_inline_or_from_elsewhere() -> None:
    assert sum(len(gzip.compress(file.read_bytes())) for file in STATIC.rglob("*") if file.is_file()) < MOST_BYTES
    page = Attributes()
    page.feed((STATIC / "index.html").read_text(encoding="utf-8"))
    assert not [name for name, _ in page.found if name.startswith("on") or name == "style"]
    # Browsers fetch all modules at once, not one after the imports of another.
    preloaded = {value for name, value in page.found if name == "href" and value and value.endswith("js")}
    modules = {f"static/{file.relative_to(STATIC).as_posix()}" for file in STATIC.rglob("*.*js")}
    assert preloaded == modules - {"static/main.js"}
    for file in sources():
        text = file.read_text(encoding="utf-8")
        addresses = set(re.findall(r"\bhttps?://[^\s\"'`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, (file.name, addresses)
        for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"):
            assert unsafe not in text, (file.name, unsafe)
