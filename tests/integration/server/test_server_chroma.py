"""Real LangGraph Server with its memory in a real Chroma server: messages to clients, and a clean stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import memory.store
from tests.processes import kill
from tests.servers import ChromaServer, Server, deployed, serving_chroma
from tests.waiting import until

pytestmark = pytest.mark.slow

PATIENCE = 180
"""Seconds to wait for a slow machine; not a limit under test, and less than a wait for Chroma."""


@pytest.fixture(scope="module")
def chroma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    with serving_chroma(tmp_path_factory.mktemp("chroma")) as server:
        yield server


@contextlib.contextmanager
def remembering(folder: Path, home: Path, chroma: ChromaServer, seconds: str) -> Iterator[Server]:
    """Run a server with its memory in a Chroma server, which it waits for so many seconds."""
    environment = {"BILLP_CHROMA_URL": chroma.url, "BILLP_CHROMA_SECONDS": seconds, "NO_PROXY": "127.0.0.1"}
    with deployed(folder / "deployment", home, env=environment) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, built_home: Path, chroma: ChromaServer) -> Iterator[Server]:
    with remembering(tmp_path_factory.mktemp("server"), built_home, chroma, "2") as server:
        yield server


def ask(server: Server, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("path", "asked", "status", "said"),
    [
        ("/store/items/search", {"limit": 2**63}, 422, "limit has to be an integer from 0 to 10,000"),
        ("/store/items/search", {"limit": -1}, 422, "limit has to be"),
        ("/store/items/search", {"offset": 2**63}, 422, "offset has to be an integer from 0 to 1,000,000,000"),
        ("/store/items/search", {"offset": -1}, 422, "offset has to be"),
        ("/store/items/search", {"filter": {"$or": []}}, 400, "filter operator '$or' is not a field"),
        ("/store/items/search", {"filter": {"n": {"$gt": "x"}}}, 400, "bound of $gt"),
        ("/store/namespaces", {"limit": 1e20}, 422, "limit has to be"),
        ("/store/namespaces", {"max_depth": 1e20}, 422, "max_depth has to be an integer from 1 to 100"),
        ("/store/namespaces", {"max_depth": -1}, 422, "max_depth has to be"),
        ("/store/namespaces", {"offset": -1}, 422, "offset has to be"),
    ],
)
def test_what_is_out_of_range_is_the_caller_s_mistake_and_says_what_is_allowed(
    server: Server, path: str, asked: dict[str, Any], status: int, said: str
) -> None:
    place = {"namespace_prefix": ["a", "b"]} if path.endswith("search") else {}
    answer = ask(server, path, place | asked)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert ask(server, path, place | {"limit": 5}).status_code == 200


def test_a_visit_that_chroma_s_silence_stops_says_so_and_can_be_resumed(server: Server, chroma: ChromaServer) -> None:
    thread = ask(server, "/threads", {}).json()["thread_id"]
    visit = {"assistant_id": "episode", "input": {"world": "tiny", "max_steps": 3, "user_id": "12"}}
    chroma.hang()
    try:
        failed = ask(server, f"/threads/{thread}/runs/wait", visit).json()["__error__"]
        searched = ask(server, "/store/items/search", {"namespace_prefix": ["lessons", "tiny"]})
    finally:
        chroma.go_on()
    assert failed["error"] == "NoAnswerError"
    assert failed["message"] == (
        f"The memory at {chroma.url} failed (no answer within 2 seconds): check that the server runs, or "
        "increase BILLP_CHROMA_SECONDS."
    )
    assert searched.status_code == 503
    assert searched.json()["detail"] == failed["message"]
    ended = ask(server, f"/threads/{thread}/runs/wait", visit | {"input": None}).json()
    assert ended["length"] > 0 and "__error__" not in ended
    found = ask(server, "/store/items/search", {"namespace_prefix": ["experiences", "tiny"], "limit": 99}).json()
    assert len(found["items"]) == ended["length"]


def asked(chroma: ChromaServer) -> bool:
    """Return whether the paused server has an unread request in the queue of its socket."""
    port = f":{int(chroma.url.rpartition(':')[2]):04X}"
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return any(one[1].endswith(port) and one[3] == "01" and not one[4].endswith(":00000000") for one in sockets)


@pytest.mark.parametrize("waiting", ["search", "visit"])
def test_the_server_stops_while_chroma_hangs(
    waiting: str, tmp_path: Path, built_home: Path, chroma: ChromaServer
) -> None:
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "search": ("/store/items/search", {"namespace_prefix": ["a", "b"]}),
        "visit": ("/runs/wait", {"assistant_id": "episode", "input": {"world": "tiny", "user_id": "12"}}),
    }
    with remembering(tmp_path, built_home, chroma, "600") as server:
        chroma.hang()
        try:

            def wait() -> None:
                with contextlib.suppress(httpx.HTTPError):
                    ask(server, *bodies[waiting])

            client = threading.Thread(target=wait, daemon=True)
            client.start()
            until(lambda: asked(chroma) or not client.is_alive(), "a request to Chroma")
            assert client.is_alive()
            kill(server.process, signal.SIGTERM)
            # The server waits for Chroma for CLOSING_SECONDS, which containers allow, and not for 600 seconds.
            server.process.wait(PATIENCE)
        finally:
            chroma.go_on()
    assert memory.store.CLOSING_SECONDS < 10
