"""Traces of LangSmith: they reach a server that answers; one that does not delays the exit alone, with one warning."""

import json
import multiprocessing
import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from graph.study.settings import StudySettings, cells_of
from graph.study.workers import Work, run_cells
from sim.world.storage import world_checksum
from tests.commands import ROOT, billp_process
from tests.processes import run

EPISODE = ("episode", "--world", "tiny", "--no-memory", "--max-steps", "2", "--json")
STUDY = (
    *("study", "--world", "tiny", "--out", "traced", "--variants", "act_only,react", "--train", "0", "--test", "1"),
    *("--max-steps", "2", "--processes", "2", "--json"),
)
PROGRAM = """
import multiprocessing
from langsmith import traceable
from nodes.llm.tracing import bound_traces

def traced():
    bound_traces()
    for number in range(300):
        traceable(name=f"run {number}")(lambda: None)()

if __name__ == "__main__":
    if WORKER:
        worker = multiprocessing.get_context("forkserver").Process(target=traced)
        worker.start()
        worker.join()
    else:
        traced()
"""


@pytest.fixture(params=["refusing", "silent"])
def absent(request: pytest.FixtureRequest) -> Iterator[int]:
    """Port that refuses connections, or that accepts them and never answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        if request.param == "silent":
            held.listen(100)
        yield held.getsockname()[1]


@pytest.fixture
def received() -> Iterator[tuple[int, list[bytes]]]:
    """Port of a server that takes traces, and the bodies of its requests."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer()

        def answer(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"instance_flags": {"zstd_compression_enabled": true}}')

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, bodies
        server.shutdown()
        thread.join()


def tracing_to(port: int) -> dict[str, str]:
    return {
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_ENDPOINT": f"http://127.0.0.1:{port}",
        "LANGSMITH_API_KEY": "not a key",
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", [EPISODE, STUDY], ids=lambda command: command[0])
def test_a_command_ends_with_its_results_and_one_warning(home: Path, absent: int, command: tuple[str, ...]) -> None:
    done = billp_process(home, *command, **tracing_to(absent))
    assert done.returncode == 0
    assert json.loads(done.stdout)
    # Beside progress, and what the study says before it starts.
    said = (line for line in done.stderr.splitlines() if "━" not in line)
    warnings = [line for line in said if not line.startswith(("This takes ", "Warning: --train"))]
    assert len(warnings) == 1, done.stderr
    (warning,) = warnings
    assert warning.startswith("LangSmith does not receive all traces (")
    assert warning.endswith("check LANGSMITH_ENDPOINT and LANGSMITH_API_KEY, or set LANGSMITH_TRACING=false")


@pytest.mark.slow
@pytest.mark.parametrize("absent", ["silent"], indirect=True)
def test_the_results_of_a_study_do_not_wait_for_its_traces(
    home: Path, tmp_path: Path, absent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in tracing_to(absent).items():
        monkeypatch.setenv(name, value)
    settings = StudySettings(world="tiny", variants=["act_only"], train=0, test=1, seeds=1, max_steps=2)
    checksum = world_checksum(home / "worlds" / "tiny")
    work = Work(settings, checksum, tmp_path, 1, "", "", None, 0.0, False)
    others = {*multiprocessing.active_children()}
    visits = dict(run_cells(cells_of(settings), work, 1, lambda *_: None))
    waiting = {*multiprocessing.active_children()} - others
    assert len(visits) == len(waiting) == 1


@pytest.mark.parametrize("worker", [False, True], ids=["program", "worker"])
def test_all_traces_are_sent_before_a_process_ends(
    tmp_path: Path, received: tuple[int, list[bytes]], worker: bool
) -> None:
    port, bodies = received
    program = tmp_path / "traced.py"
    program.write_text(PROGRAM.replace("WORKER", str(worker)))
    done = run([sys.executable, program], env=os.environ | tracing_to(port) | {"PYTHONPATH": str(ROOT)}, check=True)
    assert done.stderr == ""
    assert all(f'"run {number}"'.encode() in b"".join(bodies) for number in range(300))
