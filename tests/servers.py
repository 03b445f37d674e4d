"""Real server processes on free loopback ports: LangGraph Server as started by `make dev`, and `chroma run`."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

ROOT = Path(__file__).resolve().parents[1]
LANGGRAPH = Path(sys.executable).with_name("langgraph")
START_SECONDS = 90
TOKEN_OF = {"ann": "token-of-ann-0123456789", "bob": "token-of-bob-0123456789"}
# Ann may share: her visits teach, and she may write memories that others recall.
TOKENS: dict[str, Any] = {TOKEN_OF["ann"]: {"name": "ann", "share": True}, TOKEN_OF["bob"]: "bob"}
OPEN, GUARDED = "langgraph.json", "langgraph.auth.json"
DEADLINE = 30.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(
    folder: Path, home: Path, port: int, *, jobs: int = 10, configuration: str = OPEN, **settings: Any
) -> subprocess.Popen[bytes]:
    """Start a server on a copy of a configuration, so that its own files stay out of the checkout."""
    folder.mkdir()
    for name in ("graph", "nodes", "memory", "sim", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    changed = json.loads((ROOT / configuration).read_text(encoding="utf-8")) | settings
    (folder / "langgraph.json").write_text(json.dumps(changed), encoding="utf-8")
    return develop(folder, home, port, jobs=jobs)


def develop(folder: Path, home: Path, port: int, *, jobs: int = 10, **environment: str) -> subprocess.Popen[bytes]:
    """Start `langgraph dev` in a folder with a `langgraph.json`."""
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [
                *(LANGGRAPH, "dev", "--no-browser", "--no-reload", "--n-jobs-per-worker", str(jobs)),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=folder,
            env=os.environ | {"BILLP_HOME": str(home), "BILLP_TOKENS": json.dumps(TOKENS)} | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers; return False if it ends or takes too long."""
    async with httpx.AsyncClient() as client:
        for _ in range(START_SECONDS * 5):
            if process.poll() is not None:
                return False
            try:
                return (await client.get(f"{url}/ok")).status_code == 200
            except httpx.TransportError:
                await asyncio.sleep(0.2)
    return False


def last_words(log: Path) -> str:
    return log.read_text()[-3000:]


class Server(NamedTuple):
    """Running server."""

    url: str
    pid: int
    log: Path

    def http(self, name: str = "", **headers: str) -> httpx.AsyncClient:
        """Return a client with the token of ann or bob; without a token for the empty name."""
        return httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False, headers=authorization(name) | headers)

    def client(self, name: str, **headers: str) -> LangGraphClient:
        """Return LangGraph's client for ann or bob."""
        return get_client(url=self.url, timeout=60, api_key=None, headers=authorization(name) | headers)


def authorization(name: str) -> dict[str, str]:
    """Return the header with the token of ann or bob; no header for the empty name."""
    return {"Authorization": f"Bearer {TOKEN_OF[name]}"} if name else {}


@contextmanager
def serving(folder: Path, built_home: Path, **settings: Any) -> Iterator[Server]:
    """Run a server while the block runs.

    Args:
        folder: Empty folder for the server's files.
        built_home: Home folder with the required worlds, which is copied.
        settings: Number of `jobs` at once, the `configuration` to start from (OPEN, or GUARDED with authentication),
            and further entries of the configuration, such as `env`.
    """
    shutil.copytree(built_home, folder / "home")
    port = free_port()
    process = start(folder / "deployment", folder / "home", port, **settings)
    with answering(process, port, folder / "deployment" / "log") as server:
        yield server


@contextmanager
def answering(process: subprocess.Popen[bytes], port: int, log: Path) -> Iterator[Server]:
    """Wait for a started server, and end it after the block."""
    url = f"http://127.0.0.1:{port}"
    try:
        assert asyncio.run(answers(url, process)), last_words(log)
        yield Server(url, process.pid, log)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


class ChromaServer:
    """`chroma run` on a free loopback port."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        program = str(Path(sys.executable).with_name("chroma"))
        self.process = subprocess.Popen(
            [program, "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self) -> None:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + DEADLINE
        while True:
            try:
                direct.open(f"{self.url}/api/v2/heartbeat", timeout=1).close()
                return
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None, "chroma run ended at once"
                assert time.monotonic() < end, "chroma run did not answer in time"
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
