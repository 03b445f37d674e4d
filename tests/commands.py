"""Command `billp` in tests: in the test's own process, or as a process of its own."""

import io
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import graph.cli
import graph.console
from memory.embeddings import forget_shared_embeddings
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.tools.open_world import close_worlds
from tests.processes import run

ROOT = Path(__file__).resolve().parents[1]
BILLP = (sys.executable, "-m", "graph.cli")
WIDTH = 100
# Consoles that the commands print to.
CONSOLES = (graph.console.out, graph.console.err)
QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
Run = subprocess.CompletedProcess[str]


def billp(home: Path, *args: str, typed: str = "", **env: str) -> Run:
    """Run a command in this process, and return its exit code and output.

    A process of its own would import everything anew, which takes longer than most commands do. Apart from the imports
    and the weights of the embedding, nothing of a command is left for the next one.

    Args:
        home: Home folder; its parent is the working directory.
        args: Arguments.
        typed: Standard input.
        env: Further environment variables.
    """
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    environment = {"BILLP_HOME": str(home), "COLUMNS": str(WIDTH)} | env
    with (
        pytest.MonkeyPatch.context() as patched,
        # All of the environment is restored: a command reads `.env` into it.
        patch.dict(os.environ, environment),
        _signals(),
        _messages(),
        _nothing_open("BILLP_EMBEDDING" in env),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        patched.chdir(directory(home))
        patched.setattr(sys, "argv", ["billp", *args])
        patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode()), encoding="utf-8"))
        for console in CONSOLES:
            patched.setattr(console, "width", WIDTH)
        with pytest.raises(SystemExit) as ended:
            graph.cli.main()
    code = ended.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(args, code, *(shown.buffer.getvalue().decode() for shown in (stdout, stderr)))


def billp_process(home: Path, *args: str, typed: str = "", **env: str) -> Run:
    """Run a command as a process of its own; arguments as for `billp`."""
    return run([*BILLP, *args], typed=typed, env=environment_of(home, **env), cwd=directory(home))


def environment_of(home: Path, **env: str) -> dict[str, str]:
    """Return the environment of a command in a process of its own."""
    return os.environ | {"BILLP_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": str(WIDTH)} | env


def directory(home: Path) -> Path:
    """Return the working directory of a command: the parent of its home folder, or the parent's if that is a file."""
    return home.parent.parent if home.parent.is_file() else home.parent


def refused(run: Run) -> str:
    """Check that a command was refused as bad usage, and return its one line."""
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1 and run.stderr.startswith("billp: "), run.stderr
    return run.stderr


@contextmanager
def _signals() -> Iterator[None]:
    """Keep the signal handlers of this process; Ctrl-C and SIGTERM end the command first, and then this process."""
    arrived: list[int] = []
    former = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: Any) -> None:
        arrived.append(number)
        raise KeyboardInterrupt

    try:
        # `asyncio.run` replaces the default handler alone, hence another function for SIGINT than the default.
        signal.signal(signal.SIGINT, lambda *given: stop(*given))
        with patch.object(signal, "default_int_handler", stop):
            yield
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)
        for number in arrived:
            signal.raise_signal(number)


@contextmanager
def _messages() -> Iterator[None]:
    """Print log messages and warnings to standard error as Python does by default, and keep the settings of both."""

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))

    loggers = [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    levels = [(one, one.level) for one in loggers]
    try:
        with warnings.catch_warnings(), patch.object(logging.root, "handlers", []):
            warnings.resetwarnings()
            for category in QUIET:
                warnings.simplefilter("ignore", category)
            with patch.object(warnings, "showwarning", show):
                yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)


@contextmanager
def _nothing_open(other_embedding: bool) -> Iterator[None]:
    """Close worlds, and drop the endpoint, before and after; also the embedding, if a command has another one."""

    def close() -> None:
        close_worlds()
        shared_endpoint.cache_clear()
        if other_embedding:
            forget_shared_embeddings()

    close()
    try:
        yield
    finally:
        close()
