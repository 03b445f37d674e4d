"""Limits on requests to a server: settings, requests per minute, and bodies that arrive in pieces."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from graph.server.app import ClosedRoutes, StoreBounds, unusable_bound
from graph.server.limits import Buckets, Limits, LimitsError, RequestLimits, configured_limits


class Clock:
    """Clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class User:
    """User of a request, as LangGraph passes it."""

    is_authenticated = True

    def __init__(self, identity: str) -> None:
        self.identity = identity


def test_a_bucket_holds_a_minute_s_requests_and_fills_evenly() -> None:
    clock = Clock()
    buckets = Buckets(60, clock=clock)
    key = ("account", "ann")
    assert [buckets.take(key) for _ in range(60)] == [0.0] * 60
    assert buckets.take(key) == pytest.approx(1.0)
    clock.now += 0.25
    assert buckets.take(key) == pytest.approx(0.75)
    # A refused request costs nothing.
    clock.now += 0.75
    assert buckets.take(key) == 0.0 and buckets.take(key) == pytest.approx(1.0)
    assert buckets.take(("account", "bob")) == 0.0
    clock.now += 10_000
    assert [buckets.take(key) for _ in range(61)].count(0.0) == 60


def test_the_table_of_buckets_is_bounded_and_the_one_longest_unused_goes() -> None:
    buckets = Buckets(1, most=3, clock=Clock())
    for name in ("a", "b", "c", "a", "d"):
        buckets.take(("address", name))
    assert len(buckets) == 3
    # The bucket of `b` was deleted, and that of `a`, which was used again, was kept.
    assert buckets.take(("address", "a")) > 0
    assert buckets.take(("address", "b")) == 0.0


def test_limits_are_the_environment_s_and_else_those_that_nobody_meets() -> None:
    assert configured_limits({"BILLP_SERVER_BODY_BYTES": " "}) == Limits()
    set_ones = configured_limits({"BILLP_SERVER_REQUESTS_PER_MINUTE": "7", "BILLP_SERVER_VISITS_AT_ONCE": " 3 "})
    assert (set_ones.requests, set_ones.visits, set_ones.body) == (7, 3, Limits().body)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "1e400", "nan", str(10**30)])
@pytest.mark.parametrize("name", ["REQUESTS_PER_MINUTE", "VISITS_AT_ONCE", "BODY_BYTES"])
def test_a_limit_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(LimitsError, match=f"BILLP_SERVER_{name} cannot be used: "):
        configured_limits({f"BILLP_SERVER_{name}": value})


def scope_of(path: str, account: str | None = "ann", method: str = "POST", **others: Any) -> dict[str, Any]:
    scope = {"type": "http", "method": method, "path": path, "headers": [], "client": ("10.0.0.1", 1)} | others
    return scope if account is None else scope | {"user": User(account)}


async def answer(app: Any, scope: Scope, body: list[bytes] | None = None) -> tuple[int, Any]:
    """Return status and body of an application's answer to a request that arrives in pieces."""
    pieces = body or [b""]
    received = iter(
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    )
    sent: list[Message] = []

    async def receive() -> Message:
        return next(received)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    return sent[0]["status"], text


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Read a whole request, and send it back."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def test_a_body_is_counted_as_it_comes_in_and_not_read_further() -> None:
    app = RequestLimits(echo, Limits.model_validate({"BILLP_SERVER_BODY_BYTES": 1_000}))
    assert await answer(app, scope_of("/threads"), [b"x" * 500] * 2) == (200, "x" * 1_000)
    # The third piece exceeds the limit, and there is no fourth: reading it would raise an error.
    status, text = await answer(app, scope_of("/threads"), [b"x" * 500, b"x" * 500, b"x"])
    assert status == 413 and json.loads(text) == {"detail": "a request has at most 1,000 bytes"}
    said = scope_of("/threads", headers=[(b"content-length", b"1001")])
    assert (await answer(app, said))[0] == 413
    unsaid = scope_of("/threads", headers=[(b"content-length", b"some")])
    assert (await answer(app, unsaid))[0] == 200


async def test_an_answer_streams_by_as_it_comes() -> None:
    seen: list[bytes] = []
    half, goes_on = asyncio.Event(), asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"event: one\n\n", "more_body": True})
        half.set()
        await goes_on.wait()
        await send({"type": "http.response.body", "body": b"event: two\n\n"})

    async def send(message: Message) -> None:
        seen.append(message.get("body", b""))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    app = ClosedRoutes(RequestLimits(StoreBounds(stream), Limits()), accounts=True)
    running = asyncio.create_task(app(scope_of("/runs/stream"), receive, send))
    await half.wait()
    assert seen == [b"", b"event: one\n\n"] and not running.done()
    goes_on.set()
    await running
    assert seen[-1] == b"event: two\n\n"


async def test_an_account_starts_one_visit_after_the_other_and_no_other_waits_for_it() -> None:
    begun: asyncio.Queue[str] = asyncio.Queue()
    goes_on = asyncio.Event()

    async def start(scope: Scope, receive: Receive, send: Send) -> None:
        begun.put_nowait(scope["user"].identity)
        await goes_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = RequestLimits(start, Limits())
    starts = [asyncio.create_task(answer(app, scope_of("/runs/wait", name))) for name in ("ann", "ann", "bob")]
    assert {await begun.get(), await begun.get()} == {"ann", "bob"}
    for _ in range(20):
        await asyncio.sleep(0)
    assert begun.empty()
    goes_on.set()
    assert [status for status, _ in await asyncio.gather(*starts)] == [200, 200, 200]
    assert await begun.get() == "ann" and begun.empty()


async def test_a_start_that_breaks_off_lets_the_next_one_go() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    app = RequestLimits(broken, Limits())
    for _ in range(3):
        with pytest.raises(RuntimeError):
            await answer(app, scope_of("/runs"))


async def test_who_has_no_account_is_bounded_by_address_and_health_never() -> None:
    app = RequestLimits(echo, Limits.model_validate({"BILLP_SERVER_REQUESTS_PER_MINUTE": 1}))
    elsewhere = scope_of("/info", None, client=("10.0.0.2", 1))
    assert [(await answer(app, scope_of("/info", None)))[0] for _ in range(2)] == [200, 429]
    assert (await answer(app, elsewhere))[0] == 200
    # An account named like an address has a bucket of its own.
    assert (await answer(app, scope_of("/info", "10.0.0.1")))[0] == 200
    for path in ("/", "/ok"):
        assert [(await answer(app, scope_of(path, None)))[0] for _ in range(3)] == [200] * 3
    inside = scope_of("/threads", "ann", root_path="/noauth")
    assert [(await answer(app, inside))[0] for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    ("path", "account", "accounts", "status"),
    [
        *(("/internal/truncate", None, accounts, 404) for accounts in (True, False)),
        *(("/docs", None, True, 404), ("/docs", None, False, 200), ("/whatever/comes/later", None, True, 404)),
        *(("/ok", None, True, 200), ("/", None, True, 200), ("/info", None, True, 200), ("/threads", "ann", True, 200)),
        *(("/runs/batch", "ann", True, 404), ("/runs/batch", "ann", False, 200)),
    ],
)
async def test_what_asks_nobody_who_it_is_is_closed_where_there_are_accounts(
    path: str, account: str | None, accounts: bool, status: int
) -> None:
    closed = ClosedRoutes(echo, accounts=accounts)
    assert (await answer(closed, scope_of(path, account)))[0] == status
    prefixed = scope_of(f"/prefix{path}", account, root_path="/prefix")
    assert (await answer(closed, prefixed))[0] == status


async def test_a_request_to_the_store_goes_on_as_it_came() -> None:
    body = json.dumps({"namespace_prefix": ["a"], "limit": 3}).encode()
    pieces = [body[:5], body[5:9], body[9:]]
    assert await answer(StoreBounds(echo), scope_of("/store/items/search"), pieces) == (200, body.decode())
    bad = [json.dumps({"limit": 2**63}).encode()]
    status, text = await answer(StoreBounds(echo), scope_of("/store/namespaces"), bad)
    assert status == 422 and json.loads(text) == {"detail": "limit has to be an integer from 0 to 10,000"}
    long = [json.dumps({"namespace_prefix": ["a"], "query": "x" * 10_001}).encode()]
    status, text = await answer(StoreBounds(echo), scope_of("/store/items/search"), long)
    assert status == 422 and json.loads(text) == {"detail": "query has at most 10,000 characters"}
    # The middleware ignores numbers on other routes.
    assert (await answer(StoreBounds(echo), scope_of("/threads/search"), bad))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"limit": null}',
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b'{"filter": {"limit": -1}}',
        b'{"query": 1}',
        b"\xff",
    ],
)
def test_what_is_no_number_of_a_listing_is_left_to_langgraph(body: bytes) -> None:
    assert unusable_bound(body) == ""
