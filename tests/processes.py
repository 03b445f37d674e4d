"""Processes that tests start: each leads a process group, and no group outlives the test process.

A test process may be stopped in any way, SIGKILL included, which leaves it no time to clean up. So one guard process
stands beside it and reads from a pipe which groups are running. The pipe closes when the test process is gone, and the
guard then kills the groups that are left.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.waiting import PATIENCE

GUARD = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    sign, group = line[0], int(line[1:])
    (groups.add if sign == "+" else groups.discard)(group)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
Command = Sequence[object]
"""Program and arguments; paths and numbers are written as text."""


class Process(subprocess.Popen[Any]):
    """Process whose streams are known to be pipes where a test reads or writes them."""

    stdin: Any
    stdout: Any
    stderr: Any


class _Guard:
    """Guard process of this test process, started with the first group."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def tell(self, sign: str, group: int) -> None:
        with self._lock:
            if self._process is None:
                # A session of its own: Ctrl-C in a terminal must not stop the guard.
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", GUARD], stdin=subprocess.PIPE, text=True, start_new_session=True
                )
            assert self._process.stdin is not None
            self._process.stdin.write(f"{sign}{group}\n")
            self._process.stdin.flush()


_guard = _Guard()


def end_with_parent() -> None:
    """Kill this process, and by its guard all that it started, once its parent is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


def start(command: Command, **options: Any) -> Process:
    """Start a command as the leader of a process group; `end` it when the test is done with it.

    Args:
        command: Program and arguments.
        options: Further arguments of `subprocess.Popen`.
    """
    process = Process([*map(str, command)], start_new_session=True, **options)
    _guard.tell("+", process.pid)
    return process


@contextmanager
def guarded(group: int) -> Iterator[None]:
    """Let the guard kill a process group if this process is gone before the block ends, which ends the group itself."""
    _guard.tell("+", group)
    try:
        yield
    finally:
        _guard.tell("-", group)


def end(process: subprocess.Popen[Any], sign: signal.Signals = signal.SIGTERM, patience: float = 30.0) -> None:
    """End a process and its group: by `sign` first, and by SIGKILL if anything is left.

    Args:
        process: Process that `start` returned; it may have ended.
        sign: First signal.
        patience: Seconds that the process may take to end after it.
    """
    if process.poll() is None:
        kill(process, sign)
        # A stopped process obeys no signal but SIGKILL.
        kill(process, signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    kill(process, signal.SIGKILL)
    process.wait()
    _guard.tell("-", process.pid)


def kill(process: subprocess.Popen[Any], sign: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to all that is left of the group of a process."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, sign)


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints to its pipe, without the line break; empty if it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@contextmanager
def started(command: Command, sign: signal.Signals = signal.SIGTERM, **options: Any) -> Iterator[Process]:
    """Run a command while the block runs.

    Args:
        command: Program and arguments.
        sign: First signal at the end of the block.
        options: Further arguments of `subprocess.Popen`.
    """
    process = start(command, **options)
    try:
        yield process
    finally:
        end(process, sign)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def run(
    command: Command, *, typed: str = "", timeout: float = PATIENCE, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and return its exit code and output as text.

    Args:
        command: Program and arguments.
        typed: Standard input.
        timeout: Seconds after which it is killed.
        check: Whether an exit code other than 0 is an error.
        options: Further arguments of `subprocess.Popen`.

    Raises:
        subprocess.TimeoutExpired: It did not end in time.
        subprocess.CalledProcessError: It failed, and `check` is set.
    """
    pipes: dict[str, Any] = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    # A command that takes too long is killed at once.
    with started(command, signal.SIGKILL, text=True, **pipes | options) as process:
        stdout, stderr = process.communicate(typed, timeout=timeout)
    done = subprocess.CompletedProcess(list(map(str, command)), process.returncode, stdout, stderr)
    if check:
        done.check_returncode()
    return done
