"""A Chroma server that hangs: every wait is limited, and every waiting call fails with one line."""

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from langgraph.store.base import PutOp

from memory.chroma.errors import BadStoreError, NoAnswerError, StoreError
from memory.store import ChromaStore
from tests.processes import line_of, started
from tests.servers import ChromaServer, serving_chroma
from tests.stores import chroma

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
NAMED = r"The memory at {url} failed \(no answer within 1 seconds\): check that .* increase BILLP_CHROMA_SECONDS\.$"
FOR_ALL = 180
"""Seconds after which a step will never end. Without the limits under test it would take at least 600."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChromaServer]:
    """Server of this test alone, which may stop it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving_chroma(tmp_path / "chroma") as server:
        yield server


async def test_all_who_wait_are_told_at_once_and_it_goes_on_when_the_server_does(server: ChromaServer) -> None:
    async with chroma(server.url, seconds=1) as store:
        await store.aput(("a", "b"), "k", {"n": 1})
        server.hang()
        # One after another, each would take a second or more.
        waiting = [store.aget(("a", "b"), "k"), *(store.aput(("a", f"{n}"), "k", {}) for n in range(30))]
        failed = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), FOR_ALL)
        for error in failed:
            assert isinstance(error, NoAnswerError)
            assert re.fullmatch(NAMED.format(url=re.escape(server.url)), str(error)) and "\n" not in str(error)
        server.go_on()
        await store.aput(("a", "b"), "k", {"n": 2})
        item = await store.aget(("a", "b"), "k")
        assert item and item.value == {"n": 2}
        # A failed write may be stored or not, but completely and once.
        assert {found.key for found in await store.asearch((), limit=99)} == {"k"}


def test_a_store_is_closed_and_frees_those_who_wait_while_the_server_hangs(
    server: ChromaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.store.CLOSING_SECONDS", 0.2)
    store = chroma(server.url, seconds=600, ttl={"default_ttl": 1})
    store.put(("a", "b"), "k", {})
    store.start_ttl_sweeper(0.0001)
    errors: list[str] = []
    begun = threading.Barrier(4)

    def wait() -> None:
        begun.wait()
        try:
            while True:
                store.get(("a", "b"), "k")
        except StoreError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    server.hang()
    closing = threading.Thread(target=store.close, daemon=True)
    closing.start()
    for thread in (closing, *threads):
        thread.join(FOR_ALL)
        assert not thread.is_alive()
    for error in errors:
        assert re.search(rf"{re.escape(server.url)} (was closed while its server did not answer|is closed)", error)
    assert len(errors) == 3


def test_a_server_that_hangs_as_it_is_opened_is_named(server: ChromaServer) -> None:
    server.hang()
    with pytest.raises(BadStoreError, match=rf"{server.url} does not answer within 1 seconds.*BILLP_CHROMA_SECONDS"):
        chroma(server.url, seconds=1)


def test_a_process_ends_while_the_server_hangs_even_if_nobody_closes_the_store(server: ChromaServer) -> None:
    code = f"""
import threading
from tests.stores import chroma
store = chroma({server.url!r}, seconds=600)
store.put(("a", "b"), "k", {{}})
print("open", flush=True)
input()
threading.Thread(target=store.get, args=(("a", "b"), "k"), daemon=True).start()
"""
    command = [sys.executable, "-c", code]
    with started(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert line_of(process) == "open"
        server.hang()
        process.communicate("go\n", timeout=FOR_ALL)
        assert process.returncode == 0


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon", "1e9"])
def test_seconds_that_are_none_are_refused(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from memory.store import open_configured

    monkeypatch.setenv("BILLP_CHROMA_SECONDS", seconds)
    with pytest.raises(BadStoreError, match=rf"BILLP_CHROMA_SECONDS\) is '{seconds}': use seconds"):
        open_configured("http://127.0.0.1:9")
    with pytest.raises(BadStoreError, match="use seconds, more than 0"):
        chroma("http://127.0.0.1:9", seconds=float("nan"))


def test_a_call_that_is_slow_alone_fails_alone(server: ChromaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers the heartbeat, so the other calls do not fail."""
    with chroma(server.url, seconds=600) as store:
        store.batch([PutOp(("a", "b"), "k", {"n": 1})])
        slow = NoAnswerError("slow")
        amid, go_on = threading.Event(), threading.Event()

        def late() -> None:
            amid.set()
            assert go_on.wait(FOR_ALL)
            raise slow

        one = store.worker.submit(late)
        assert amid.wait(FOR_ALL)
        two = store.worker.submit(lambda: "answer")
        go_on.set()
        assert one.exception(FOR_ALL) is slow and two.result(FOR_ALL) == "answer"
        assert isinstance(store, ChromaStore)
