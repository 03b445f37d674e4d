"""Study whose visits run on a LangGraph server with its memory in a Chroma server: same results as a local study."""

import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from langgraph_sdk import get_sync_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from tests.commands import BILLP, Run, billp, environment_of
from tests.integration.study.run_files import contents
from tests.processes import kill, started
from tests.servers import deployed, free_port, serving_chroma
from tests.waiting import until

pytestmark = pytest.mark.slow

STUDY = ("study", "--world", "tiny", "--variants", "billp,random", "--train", "4", "--test", "3")
SMALL = ("--cohort", "2", "--max-steps", "8", "--concurrency", "4")
BESIDES = ("--memory", "shuffled", "--visits-per-user", "2", "--recall", "own")


@pytest.fixture
def url(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Addresses of a LangGraph server, and of the Chroma server with its memory."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with (
        serving_chroma(tmp_path / "chroma") as chroma,
        deployed(tmp_path / "deployment", home, env={"BILLP_CHROMA_URL": chroma.url}) as server,
    ):
        yield server.url, chroma.url


class Unreliable:
    """Proxy that disturbs every fifth request: some fail, for others the answer is lost."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=120)
        self.requests = 0

    async def answer(self, request: Request) -> Response:
        self.requests += 1
        number, body = self.requests, await request.body()
        if number % 10 == 4:
            return Response("busy", 503)
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        answer = await self._client.request(request.method, path, content=body, headers=headers)
        if number % 10 == 9:
            return StreamingResponse(broken())
        return Response(answer.content, answer.status_code, {"content-type": "application/json"})


async def broken() -> AsyncIterator[bytes]:
    yield b"{"
    raise ConnectionResetError("the answer is lost on its way")


@contextmanager
def unreliable(url: str) -> Iterator[tuple[str, Unreliable]]:
    """Run an unreliable proxy in a thread while the block runs."""
    proxy, port = Unreliable(url), free_port()
    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    app = Starlette(routes=[Route("/{path:path}", proxy.answer, methods=methods)])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the proxy")
        yield f"http://127.0.0.1:{port}", proxy
    finally:
        server.should_exit = True
        thread.join()


def read(home: Path, name: str) -> dict[str, bytes]:
    return contents(home / "runs" / name)


def run_study(home: Path, *args: str) -> Run:
    return billp(home, *STUDY, *SMALL, *args)


def test_a_study_on_a_server_gives_what_a_local_one_gives(url: tuple[str, str], home: Path) -> None:
    server, chroma = url
    local = run_study(home, "--out", "local")
    assert local.returncode == 0, local.stderr
    there = run_study(home, "--out", "there", "--server", server)
    assert there.returncode == 0, there.stderr
    assert read(home, "there") == read(home, "local")
    assert not (home / "runs" / "there" / "memory").exists()
    with ChromaStore(chroma, embeddings=shared_embeddings()) as memory:
        spaces = {namespace[1] for namespace in memory.list_namespaces(limit=1000)}
        (space,) = [one for one in spaces if one.endswith("-billp-0")]
        kept = [(item.key, item.value) for item in memory.search(("experiences", space), limit=10_000)]
    with ChromaStore(home / "runs" / "local" / "memory" / "billp-0", embeddings=shared_embeddings()) as memory:
        assert kept == [(item.key, item.value) for item in memory.search(("experiences",), limit=10_000)]
    assert kept
    assert get_sync_client(url=server).threads.search(limit=10) == []

    more = run_study(home, *BESIDES, "--out", "more")
    assert more.returncode == 0, more.stderr
    log = home / "runs" / ".killed.unfinished" / "cells" / "billp-0" / "visits.jsonl"
    killed = (*STUDY, *SMALL, *BESIDES, "--out", "killed", "--server", server)
    quiet = subprocess.DEVNULL
    with started([*BILLP, *killed], env=environment_of(home), stdout=quiet, stderr=quiet) as process:
        until(lambda: process.poll() is not None or (log.exists() and log.read_bytes().count(b"\n") > 2))
        assert process.poll() is None
        kill(process)
    resumed = billp(home, *killed)
    assert resumed.returncode == 0 and "visits are done" in resumed.stderr
    assert read(home, "killed") == read(home, "more") and "returning.jsonl" in read(home, "more")

    ablation = ("--variants", "billp_outlook", "--ablate", "--train", "1", "--test", "1", "--max-steps", "4")
    parts = run_study(home, *ablation, "--out", "parts")
    assert parts.returncode == 0, parts.stderr
    with unreliable(server) as (address, proxy):
        shaky = run_study(home, *ablation, "--out", "shaky", "--server", address)
    assert shaky.returncode == 0, shaky.stderr
    # The server's results depend only on the settings that are sent with each visit.
    assert read(home, "shaky") == read(home, "parts") and proxy.requests > 100


def test_a_server_that_does_not_answer_is_named_in_one_line(home: Path) -> None:
    run = billp(home, *STUDY, "--out", "x", "--server", f"http://me:secret@127.0.0.1:{free_port()}")
    assert run.returncode == 1 and "no LangGraph server answers" in run.stderr and "secret" not in run.stderr
    # The study stopped before it created any files.
    assert not (home / "runs").exists()
