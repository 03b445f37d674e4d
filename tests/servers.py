"""Real server processes on free loopback ports: LangGraph Server as started by `make dev`, and `chroma run`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.processes import Command, end, kill, start, started
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[1]
LANGGRAPH = Path(sys.executable).with_name("langgraph")
TOKEN_OF = {"ann": "token-of-ann-0123456789", "bob": "token-of-bob-0123456789"}
# Ann may share: her visits teach, and she may write memories that others recall.
TOKENS: dict[str, Any] = {TOKEN_OF["ann"]: {"name": "ann", "share": True}, TOKEN_OF["bob"]: "bob"}
OPEN, GUARDED = "langgraph.json", "langgraph.auth.json"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def develop(folder: Path, home: Path, port: int, *, jobs: int = 10, **environment: str) -> subprocess.Popen[bytes]:
    """Start `langgraph dev` in a folder with a `langgraph.json`."""
    with (folder / "log").open("w") as log:
        return start(
            [
                *(LANGGRAPH, "dev", "--no-browser", "--no-reload", "--n-jobs-per-worker", str(jobs)),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=folder,
            env=os.environ | {"BILLP_HOME": str(home), "BILLP_TOKENS": json.dumps(TOKENS)} | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def answers(url: str) -> bool:
    """Return whether a server answers at an address."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def last_words(log: Path) -> str:
    return log.read_text()[-3000:]


class Server(NamedTuple):
    """Running server."""

    url: str
    process: subprocess.Popen[bytes]
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
    """Run a server while the block runs, with a copy of a home folder.

    Args:
        folder: Empty folder for the server's files.
        built_home: Home folder with the required worlds, which is copied.
        settings: As for `deployed`.
    """
    shutil.copytree(built_home, folder / "home")
    with deployed(folder / "deployment", folder / "home", **settings) as server:
        yield server


@contextmanager
def deployed(
    folder: Path, home: Path, *, jobs: int = 10, configuration: str = OPEN, **settings: Any
) -> Iterator[Server]:
    """Run a server while the block runs, on a copy of a configuration, so that its files stay out of the checkout.

    Args:
        folder: Folder to create for the server's files.
        home: Home folder.
        jobs: Runs at once.
        configuration: Configuration to start from: OPEN, or GUARDED with authentication.
        settings: Further entries of the configuration, such as `env`.
    """
    folder.mkdir()
    for name in ("graph", "nodes", "memory", "sim", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    changed = json.loads((ROOT / configuration).read_text(encoding="utf-8")) | settings
    (folder / "langgraph.json").write_text(json.dumps(changed), encoding="utf-8")
    with developing(folder, home, jobs=jobs) as server:
        yield server


@contextmanager
def developing(folder: Path, home: Path, **options: Any) -> Iterator[Server]:
    """Run `langgraph dev` while the block runs, in a folder with a `langgraph.json`."""
    port, log = free_port(), folder / "log"
    process = develop(folder, home, port, **options)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or answers(f"{url}/ok"), f"the server at {url}")
        assert process.poll() is None, last_words(log)
        yield Server(url, process, log)
    finally:
        end(process)


class ChromaServer(NamedTuple):
    """Running `chroma run`."""

    url: str
    process: subprocess.Popen[bytes]

    def hang(self) -> None:
        """Stop the server from answering, with its connections open."""
        kill(self.process, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a stopped server answer again."""
        kill(self.process, signal.SIGCONT)


@contextmanager
def serving_chroma(folder: Path) -> Iterator[ChromaServer]:
    """Run a Chroma server on a free loopback port while the block runs, with its records in a folder."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = Path(sys.executable).with_name("chroma")
    command: Command = [program, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: process.poll() is not None or answers(f"{url}/api/v2/heartbeat"), f"the Chroma server at {url}")
        assert process.poll() is None, "chroma run ended at once"
        yield ChromaServer(url, process)
