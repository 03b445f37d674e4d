"""Attacks over HTTP on a server with authentication: no account reaches another's data or writes shared records."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memory.records import Lesson
from tests.commands import billp
from tests.integration.study.run_files import same_results
from tests.processes import end
from tests.servers import GUARDED, ROOT, TOKEN_OF, Server, develop, free_port, serving

pytestmark = pytest.mark.slow

STUDIO = {"x-auth-scheme": "langsmith"}
TINY = {"world": "tiny", "max_steps": 1}
LESSON = Lesson(visit="v", user_id="1", situation="", text="stay", length=3, total_reward=9.0).model_dump()
UNASKED = [
    *(("POST", "/internal/truncate"), ("GET", "/internal/debug/thread/x"), ("GET", "/metrics"), ("GET", "/docs")),
    *(("GET", "/openapi.json"), ("GET", "/deploy"), ("POST", "/deploy"), ("GET", "/deploy/x/stream")),
    *(("GET", "/ui/x"), ("GET", "/uix")),
]
ASKED = [
    *(("POST", "/threads"), ("POST", "/threads/search"), ("POST", "/threads/count"), ("POST", "/assistants/search")),
    *(("POST", "/runs"), ("POST", "/runs/wait"), ("POST", "/runs/stream"), ("POST", "/runs/batch")),
    *(("POST", "/runs/cancel"), ("POST", "/runs/crons"), ("POST", "/runs/crons/search"), ("POST", "/ui/episode")),
    *(("POST", "/store/items/search"), ("POST", "/store/namespaces"), ("PUT", "/store/items"), ("GET", "/store/items")),
    *(("DELETE", "/store/items"), ("POST", "/mcp"), ("POST", "/a2a/episode"), ("GET", "/nothing")),
]


async def thread_of(client: httpx.AsyncClient, **state: Any) -> str:
    """Return a thread on which a person was asked about an item."""
    thread = str((await client.post("/threads", json={})).json()["thread_id"])
    given = {"assistant_id": "recommend", "input": TINY | {"wishes": "between us"} | state}
    assert "__interrupt__" in (await client.post(f"/threads/{thread}/runs/wait", json=given)).json()
    return thread


@pytest.mark.parametrize("headers", [{}, STUDIO, {"authorization": "Bearer x"}, STUDIO | {"x-api-key": "lsv2_x"}])
async def test_without_a_token_there_is_health_and_nothing_else(guarded: Server, headers: dict[str, str]) -> None:
    async with guarded.http("ann") as ann, guarded.http(**headers) as stranger:
        thread = await thread_of(ann)
        for method, path in [*UNASKED, ("GET", f"/internal/debug/thread/{thread}")]:
            assert (await stranger.request(method, path)).status_code == 404, path
        for method, path in [*ASKED, ("GET", f"/threads/{thread}"), ("GET", f"/threads/{thread}/state")]:
            answer = await stranger.request(method, path, json={})
            assert answer.status_code == 401 and "between us" not in answer.text, path
        for path in ("/", "/ok", "/info"):
            assert (await stranger.get(path)).status_code == 200
        # The server still has its threads.
        assert (await ann.get(f"/threads/{thread}")).status_code == 200


async def test_a_token_opens_no_more_of_what_the_server_says_of_itself(guarded: Server) -> None:
    async with guarded.http("ann", **STUDIO) as ann:
        closed = [("POST", "/mcp"), ("POST", "/a2a/episode"), ("POST", "/ui/episode"), ("POST", "/runs/batch")]
        for method, path in [*UNASKED, *closed]:
            assert (await ann.request(method, path, json={})).status_code == 404, path


async def test_the_page_is_open_and_its_data_are_not(guarded: Server) -> None:
    async with guarded.http("bob") as bob, guarded.http() as stranger, guarded.http(**STUDIO) as studio:
        for path in ("/app/", "/app/static/main.js"):
            answer = await stranger.get(path)
            assert answer.status_code == 200 and "script-src 'self'" in answer.headers["content-security-policy"]
        assert (await stranger.get("/app")).headers["location"] == "app/"
        for client, status in ((stranger, 401), (studio, 401), (bob, 200)):
            for path in ("/app/api/worlds", "/app/api/worlds/tiny/items?q=garden"):
                assert (await client.get(path)).status_code == status, path
            posted = await client.post("/app/api/lessons", json={"prefix": ["lessons", "account:bob:tiny"]})
            assert posted.status_code == status
        others = await bob.post("/app/api/lessons", json={"prefix": ["lessons", "account:ann:tiny"]})
        assert others.status_code == 403
        for path in ("worlds/tiny/users?q=3", "runs", "runs/x", "runs/x/report", "nothing", "..%2f..%2fmetrics"):
            for client in (stranger, studio, bob):
                assert (await client.get(f"/app/api/{path}")).status_code == 404, path


async def test_pages_of_other_origins_are_not_let_in(guarded: Server) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with guarded.http() as page:
        evil = await page.options("/threads", headers=asked | {"origin": "https://evil.example"})
        assert evil.status_code == 400 and "access-control-allow-origin" not in evil.headers
        studio = await page.options("/threads", headers=asked | {"origin": "https://smith.langchain.com"})
        assert studio.headers["access-control-allow-origin"] == "https://smith.langchain.com"


async def test_the_scheme_is_taken_in_any_case_and_a_token_without_one_is_not(guarded: Server) -> None:
    async with guarded.http() as client:

        async def ask(shown: bytes) -> int:
            return (await client.post("/threads/search", json={}, headers=[(b"authorization", shown)])).status_code

        token = TOKEN_OF["ann"].encode()
        for shown in (b"Bearer " + token, b"bearer " + token, b"BEARER " + token):
            assert await ask(shown) == 200
        for shown in (token, b"", b"Bearer", b"Basic " + token, b"\xff\xfe", b"Bearer \xff", b"Bearer ann"):
            assert await ask(shown) == 401


@pytest.mark.parametrize("headers", [{}, STUDIO])
async def test_nobody_reaches_another_s_thread(guarded: Server, headers: dict[str, str]) -> None:
    async with guarded.http("ann") as ann, guarded.http("bob", **headers) as bob:
        hers, his = await thread_of(ann), await thread_of(bob, wishes="")
        before = (await ann.get(f"/threads/{hers}/state")).json()
        checkpoint, resume = before["checkpoint"], {"command": {"resume": {"leave": True}}}
        run = {"assistant_id": "recommend"}
        refused = [
            *(("GET", f"/threads/{hers}", None), ("GET", f"/threads/{hers}/state", None)),
            *(("DELETE", f"/threads/{hers}", None), ("GET", f"/threads/{hers}/runs", None)),
            ("PATCH", f"/threads/{hers}", {"metadata": {"owner": "bob"}}),
            ("POST", f"/threads/{hers}/copy", None),
            ("POST", f"/threads/{hers}/state", {"values": {"plan": "mine"}}),
            ("POST", f"/threads/{hers}/runs", run),
            ("POST", f"/threads/{hers}/runs/wait", run | resume),
            ("POST", f"/threads/{hers}/runs/stream", run | {"input": TINY, "if_not_exists": "create"}),
            ("POST", "/threads", {"thread_id": hers, "if_exists": "do_nothing"}),
            ("POST", "/threads/prune", {"thread_ids": [hers]}),
            ("POST", "/runs/cancel", {"thread_id": hers, "run_ids": [hers]}),
        ]
        for method, path, body in refused:
            answer = await bob.request(method, path, json=body)
            assert "between us" not in answer.text and checkpoint["checkpoint_id"] not in answer.text
            assert answer.status_code in (404, 409) or answer.json() == [], (method, path, answer.text)
        # The server accepts these requests, but ids in a body do not lead to ann's thread.
        taken: list[tuple[str, Any]] = [
            (f"/threads/{his}/state", {"values": {"plan": "x"}, "checkpoint": checkpoint}),
            (f"/threads/{his}/state/checkpoint", {"checkpoint": checkpoint}),
            (f"/threads/{his}/history", {"checkpoint": checkpoint}),
            (f"/threads/{his}/runs/wait", run | resume | {"checkpoint": checkpoint}),
            ("/runs/wait", run | {"config": {"configurable": {"thread_id": hers}}}),
            ("/threads/search", {"ids": [hers]}),
            ("/threads/search", {"metadata": {"owner": "ann"}}),
            ("/threads", {"metadata": {"owner": "ann"}}),
            ("/runs/wait", {"assistant_id": "episode", "input": TINY, "metadata": {"owner": "ann"}}),
            (f"/threads/{hers}/commands", {"id": 1, "method": "run.start", "params": run | {"input": TINY}}),
            (f"/threads/{hers}/stream/events", {"channels": ["values"]}),
        ]
        for path, body in taken:
            assert "between us" not in (await bob.post(path, json=body)).text, path
        assert (await bob.patch(f"/threads/{his}", json={"metadata": {"owner": "ann"}})).json()["metadata"][
            "owner"
        ] == "bob"
        assert (await ann.get(f"/threads/{hers}/state")).json() == before
        assert (await ann.post("/threads/search", json={"ids": [his]})).json() == []


async def test_no_run_of_another_is_stopped(guarded: Server) -> None:
    async with guarded.http("ann") as ann, guarded.http("bob") as bob:
        waiting = {"assistant_id": "episode", "input": TINY, "after_seconds": 3_600}
        run = (await ann.post("/runs", json=waiting)).json()
        for body in ({"status": "all"}, {"status": "pending"}):
            assert (await bob.post("/runs/cancel", json=body)).status_code == 404
        own = f"/threads/{run['thread_id']}/runs/{run['run_id']}"
        assert (await bob.post(f"{own}/cancel")).status_code == 404
        assert (await bob.delete(own)).status_code == 404
        assert (await ann.get(own)).json()["status"] == "pending"
        await ann.delete(f"/threads/{run['thread_id']}")


async def test_graphs_are_seen_and_not_changed_and_there_are_no_crons(guarded: Server) -> None:
    async with guarded.http("ann") as ann:
        (graph,) = (await ann.post("/assistants/search", json={"graph_id": "episode"})).json()
        own = f"/assistants/{graph['assistant_id']}"
        assert (await ann.get(own)).status_code == 200
        for method, path, body in (
            ("POST", "/assistants", {"graph_id": "episode", "context": {"space": "tiny"}}),
            ("PATCH", own, {"name": "x"}),
            ("DELETE", own, None),
            ("POST", f"{own}/latest", {"version": 1}),
            ("POST", "/runs/crons", {"assistant_id": "episode", "schedule": "* * * * *"}),
            ("POST", "/runs/crons/search", {}),
        ):
            assert (await ann.request(method, path, json=body)).status_code == 403, (method, path)


def put(namespace: list[str], value: Any = LESSON, key: str = "k", **others: Any) -> dict[str, Any]:
    return {"namespace": namespace, "key": key, "value": value} | others


@pytest.mark.parametrize("headers", [{}, STUDIO])
async def test_an_account_that_may_not_share_writes_nothing(guarded: Server, headers: dict[str, str]) -> None:
    words = " ".join(f"word{number}" for number in range(1_000_000))
    async with guarded.http("ann") as ann, guarded.http("bob", **headers) as bob:
        before = (await ann.post("/store/namespaces", json={"prefix": ["lessons", "tiny"], "limit": 1_000})).json()
        common = ["lessons", "tiny", "1"]
        for namespace in (
            *(
                common,
                ["statements", "people:tiny", "bob"],
                ["statements", "people:tiny", "ann"],
                ["notes", "tiny", "bob"],
            ),
            *(["lessons", "account:bob:tiny", "1"], ["lessons", "private:tiny", "1"], ["bob"]),
        ):
            answer = await bob.put("/store/items", json=put(namespace))
            assert answer.status_code == 403 and "may not write" in answer.json()["detail"]
        # Before such limits, 20 MB of words took a core for 27 seconds, and 150 records in namespaces of their own took
        # 336 MB of memory.
        for text, status in ((words * 2, 413), (words, 403)):
            assert (await bob.put("/store/items", json=put(common, {"text": text}))).status_code == status
        for number in range(150):
            assert (await bob.put("/store/items", json=put([f"kind{number}", f"space{number}"]))).status_code == 403
        after = (await ann.post("/store/namespaces", json={"prefix": ["lessons", "tiny"], "limit": 1_000})).json()
        assert after == before


async def test_an_account_that_may_share_writes_records_into_common_spaces_alone(guarded: Server) -> None:
    async with guarded.http("ann") as ann, guarded.http("bob") as bob:
        assert (await ann.put("/store/items", json=put(["lessons", "shared", "1"], LESSON | {"junk": "x"}))).is_success
        kept = {"namespace": "lessons.shared.1", "key": "k"}
        assert (await ann.get("/store/items", params=kept)).json()["value"] == LESSON
        found = await ann.post("/store/items/search", json={"namespace_prefix": ["lessons", "shared"], "query": "stay"})
        assert [item["key"] for item in found.json()["items"]] == ["k"]
        assert (await bob.get("/store/items", params=kept)).status_code == 403
        apart = ("people", "account:ann", "account:bob", "private:account:bob")
        spaces = [["lessons", f"{kind}:tiny", "1"] for kind in apart]
        for namespace in [*spaces, ["lessons"], ["lessons", "*", "1"], ["lessons", "tiny", "1", "2"]]:
            assert (await ann.put("/store/items", json=put(namespace))).status_code == 403, namespace
        for namespace, value, others in (
            (["lessons", "shared", "2"], LESSON, {}),
            (["values", "shared", "1"], LESSON, {}),
            (["statements", "shared", "1"], {"kind": "statements", "text": "x"}, {}),
            (["lessons", "shared", "1"], {"text": "stay"}, {}),
            (["lessons", "shared", "1"], LESSON | {"length": "many"}, {}),
            (["lessons", "shared", "1"], LESSON | {"text": "x" * 100_000}, {}),
            (["lessons", "shared", "1"], LESSON, {"key": "k" * 1_000}),
            (["lessons", "s" * 1_000, "1"], LESSON, {}),
        ):
            answer = await ann.put("/store/items", json=put(namespace, value) | others)
            assert answer.status_code == 422 and len(answer.text) < 1_000, answer.text
        # Ann may not delete shared records.
        gone = {"namespace": ["lessons", "shared", "1"], "key": "k"}
        assert (await ann.request("DELETE", "/store/items", json=gone)).status_code == 403


@pytest.mark.parametrize("name", ["ann", "bob"])
async def test_no_prefix_condition_or_filter_leads_to_what_is_another_s(guarded: Server, name: str) -> None:
    other = {"ann": "bob", "bob": "ann"}[name]
    async with guarded.http(other) as theirs, guarded.http(name) as client:
        thread = await thread_of(theirs)
        rated = {"assistant_id": "recommend", "command": {"resume": {"rating": 5, "comment": "between us"}}}
        await theirs.post(f"/threads/{thread}/runs/wait", json=rated)
        own = await theirs.post("/store/items/search", json={"namespace_prefix": ["statements", "people:tiny", other]})
        assert "between us" in own.text
        prefixes: list[list[str]] = [
            *([], ["statements"], ["*"], ["statements", "people:tiny"], ["statements", "*"], ["*", "people:tiny"]),
            *(["statements", "people:tiny", "*"], ["statements", "*", name], ["statements", "people:tiny", other]),
            *(
                ["statements", "people:tiny", other, name],
                ["statements", f"account:{other}:tiny"],
                ["lessons", f"private:account:{other}:tiny"],
            ),
            *(["statements", f"account:{name}"], ["statements", f"account:{other}:{name}:", name]),
        ]
        for prefix in prefixes:
            for path, body in (
                ("/store/items/search", {"namespace_prefix": prefix}),
                ("/store/items/search", {"namespace_prefix": prefix, "query": "between us", "filter": {"text": "x"}}),
                ("/store/namespaces", {"prefix": prefix}),
                ("/store/namespaces", {"prefix": prefix, "suffix": [other], "max_depth": 2}),
            ):
                answer = await client.post(path, json=body)
                assert answer.status_code in (403, 422), (path, body, answer.text)
        for unscoped in ({}, {"suffix": [other]}, {"suffix": ["*"]}, {"max_depth": 1}):
            assert (await client.post("/store/namespaces", json=unscoped)).status_code == 403
        mine = ["statements", "people:tiny", name]
        for suffix in (["*", other], [other]):
            asked = {"prefix": mine, "suffix": suffix}
            assert (await client.post("/store/namespaces", json=asked)).json() == {"namespaces": []}
        own_kinds = {"namespace_prefix": ["*", "people:tiny", name]}
        conditions: list[Any] = [{"filter": {"$or": [{}]}}, {"filter": {"user_id": other}}, {"query": "between us"}]
        for condition in conditions:
            assert "between us" not in (await client.post("/store/items/search", json=own_kinds | condition)).text
        said = own.json()["items"][0]["key"]
        key = {"namespace": f"statements.people:tiny.{other}", "key": said}
        assert (await client.get("/store/items", params=key)).status_code == 403
        gone = {"namespace": ["statements", "people:tiny", other], "key": said}
        assert (await client.request("DELETE", "/store/items", json=gone)).status_code == 403
        # An account may read and delete its own records.
        taught = {"namespace_prefix": ["lessons", f"account:{other}:tiny"]}
        assert (await theirs.post("/store/items/search", json=taught)).is_success
        assert (await theirs.request("DELETE", "/store/items", json=gone)).is_success
        assert (await theirs.get("/store/items", params=key)).json() is None


LISTED: list[tuple[str, dict[str, Any]]] = [
    *(("/store/items/search", {"limit": number}) for number in (2**63, 10**20, -1, 10_001, 1.5)),
    *(("/store/items/search", {"offset": number}) for number in (2**63, -1, 1.5, 1e20)),
    *(("/store/namespaces", {"limit": number}) for number in (1e20, 2**63, -1, 1.5, 1.0)),
    *(("/store/namespaces", {"offset": number}) for number in (1e20, -1, 1.5)),
    *(("/store/namespaces", {"max_depth": number}) for number in (1e20, 2**63, 0, -1, 1.5)),
]


async def test_numbers_that_no_store_counts_with_are_refused_with_what_is_allowed(guarded: Server) -> None:
    async with guarded.http("bob") as bob:
        for path, numbers in LISTED:
            name = "namespace_prefix" if path.endswith("search") else "prefix"
            answer = await bob.post(path, json={name: ["statements", "people:tiny", "bob"]} | numbers)
            assert answer.status_code == 422, (numbers, answer.text)
            assert answer.json()["detail"].startswith(f"{next(iter(numbers))} has to be an integer from ")
        long = {"namespace_prefix": ["statements", "people:tiny", "bob"], "query": "x" * 10_001}
        answer = await bob.post("/store/items/search", json=long)
        assert (answer.status_code, answer.json()["detail"]) == (422, "query has at most 10,000 characters")
        usual = {"namespace_prefix": ["statements", "people:tiny", "bob"], "limit": 10_000, "offset": 0}
        assert (await bob.post("/store/items/search", json=usual)).status_code == 200


def test_a_study_runs_on_a_server_with_a_token_that_may_share(
    guarded: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ("study", "--world", "tiny", "--variants", "billp", "--train", "2", "--test", "2", "--max-steps", "3")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("BILLP_TOKEN", TOKEN_OF["ann"])
    assert billp(home, *study, "--out", "local").returncode == 0
    there = billp(home, *study, "--out", "there", "--server", guarded.url)
    assert there.returncode == 0, there.stderr
    results = [same_results((home / "runs" / name / "results.json").read_bytes()) for name in ("there", "local")]
    assert results[0] == results[1]
    monkeypatch.setenv("BILLP_TOKEN", "no token of this server")
    refused = billp(home, *study, "--out", "refused", "--server", guarded.url)
    assert refused.returncode == 1 and "no valid token" in refused.stderr


LIMITS = {
    "BILLP_SERVER_REQUESTS_PER_MINUTE": "200",
    "BILLP_SERVER_VISITS_AT_ONCE": "3",
    "BILLP_SERVER_BODY_BYTES": "50000",
}


@pytest.fixture(scope="module")
def bounded(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Server with small limits, and with Studio's header accepted."""
    auth = json.loads((ROOT / GUARDED).read_text(encoding="utf-8"))["auth"] | {"disable_studio_auth": False}
    folder = tmp_path_factory.mktemp("bounded")
    with serving(folder, built_home, configuration=GUARDED, env=LIMITS, auth=auth) as server:
        yield server


async def test_where_studio_s_header_is_left_on_the_start_warns_and_the_header_opens_nothing(bounded: Server) -> None:
    warnings = [line for line in bounded.log.read_text().splitlines() if "disable_studio_auth" in line]
    assert len([line for line in warnings if "langgraph.auth.json has it" in line]) == 1
    async with bounded.http(**STUDIO) as studio:
        for path in ("/threads", "/threads/search", "/assistants/search", "/runs/crons/search"):
            assert (await studio.post(path, json={})).status_code == 403
        prefix = {"namespace_prefix": ["statements", "people:tiny", "langgraph-studio-user"]}
        assert (await studio.post("/store/items/search", json=prefix)).status_code == 403
        start = {"assistant_id": "episode", "input": TINY}
        assert (await studio.post("/runs/wait", json=start)).status_code == 403


async def test_only_so_many_visits_of_an_account_are_under_way(bounded: Server) -> None:
    waiting = {"assistant_id": "episode", "input": TINY, "after_seconds": 3_600}
    async with bounded.http("ann") as ann, bounded.http("bob") as bob:
        answers = await asyncio.gather(*(bob.post("/runs", json=waiting) for _ in range(12)))
        assert Counter(answer.status_code for answer in answers) == {200: 3, 429: 9}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) > 0 and "3 visits at once" in refused.json()["detail"]
        # Other accounts continue, and bob can start a visit again when one of his visits is stopped.
        assert (await ann.post("/runs/wait", json=waiting | {"after_seconds": 0})).is_success
        one = next(answer.json() for answer in answers if answer.is_success)
        for path in ("/runs", "/runs/wait", "/runs/stream"):
            assert (await bob.post(path, json=waiting)).status_code == 429
        assert (await bob.post(f"/threads/{one['thread_id']}/runs/{one['run_id']}/cancel")).is_success
        assert (await bob.post("/runs/wait", json=waiting | {"after_seconds": 0})).is_success
        # The same holds when a client that asked for `on_disconnect: cancel` disconnects.
        thread = (await bob.post("/threads", json={})).json()["thread_id"]
        going = waiting | {"on_disconnect": "cancel"}
        async with bob.stream("POST", f"/threads/{thread}/runs/stream", json=going) as stream:
            assert (await bob.post("/runs", json=waiting)).status_code == 429
            run = stream.headers["content-location"].rpartition("/")[2]
        await bob.get(f"/threads/{thread}/runs/{run}/join")
        assert (await bob.post("/runs/wait", json=waiting | {"after_seconds": 0})).is_success
        await bob.post("/runs/cancel", json={"status": "all"})
        far = await bob.post("/runs", json=waiting | {"after_seconds": 10**15})
        assert far.status_code == 422 and "86,400" in far.json()["detail"]


async def test_a_body_that_grows_too_large_is_refused_while_it_comes_in(bounded: Server) -> None:
    async def pieces() -> Any:
        for _ in range(60):
            yield b" " * 1_000

    async with bounded.http("ann") as ann:
        for path in ("/threads", "/runs/wait", "/store/items/search", "/threads/search"):
            for body in (pieces(), b" " * 50_001):
                answer = await ann.post(path, content=body, headers={"content-type": "application/json"})
                assert answer.status_code == 413 and "50,000 bytes" in answer.json()["detail"], path
        padded = b"{}" + b" " * 49_998
        assert (await ann.post("/threads", content=padded)).is_success


async def test_requests_of_an_account_are_bounded_by_the_minute_and_those_of_others_are_not(bounded: Server) -> None:
    async with bounded.http("ann") as ann, bounded.http("bob") as bob, bounded.http() as stranger:
        answers = [await bob.post("/threads/search", json={}) for _ in range(400)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused and int(refused[0].headers["retry-after"]) >= 1
        assert "200 requests in a minute" in refused[0].json()["detail"]
        assert (await ann.post("/threads/search", json={})).is_success
        assert (await stranger.get("/info")).is_success
        # Health checks are never limited.
        health = [await stranger.get("/ok") for _ in range(400)]
        assert {answer.status_code for answer in health} == {200}


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"BILLP_TOKENS": ""}, "BILLP_TOKENS is not set"),
        ({"BILLP_TOKENS": '{"a-short-token": "ann"}'}, "the token of entry 1 must have 16"),
        ({"BILLP_SERVER_VISITS_AT_ONCE": "none"}, "BILLP_SERVER_VISITS_AT_ONCE cannot be used"),
    ],
)
def test_a_server_whose_settings_cannot_be_used_does_not_start_and_says_why(
    built_home: Path, tmp_path: Path, variables: dict[str, Any], why: str
) -> None:
    for name in ("graph", "nodes", "memory", "sim", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "langgraph.json").symlink_to(ROOT / GUARDED)
    process = develop(tmp_path, built_home, free_port(), **variables)
    try:
        assert process.wait(180) == 1
    finally:
        end(process)
    text = (tmp_path / "log").read_text()
    assert why in text.splitlines()[-1] and "a-short-token" not in text
