"""Command `billp` in tests: in the test's own process, or as a process of its own."""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from graph.cli import console, main
from nodes.tools.open_world import close_worlds
from tests.processes import run

ROOT = Path(__file__).resolve().parents[1]
BILLP = (sys.executable, "-m", "graph.cli")
WIDTH = 100
Run = subprocess.CompletedProcess[str]


def billp(home: Path, *args: str, typed: str = "", **env: str) -> Run:
    """Run a command in this process, and return its exit code and output.

    A process of its own would import everything anew, which takes longer than most commands do.

    Args:
        home: Home folder; its parent is the working directory.
        args: Arguments.
        typed: Standard input.
        env: Further environment variables.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.chdir(home.parent.parent if home.parent.is_file() else home.parent)
        patch.setattr(sys, "argv", ["billp", *args])
        patch.setattr(sys, "stdin", io.StringIO(typed))
        for shown in (console.out, console.err):
            patch.setattr(shown, "width", WIDTH)
        for name, value in ({"BILLP_HOME": str(home)} | env).items():
            patch.setenv(name, value)
        # A command finds no world opened by an earlier one, as in a process of its own.
        close_worlds()
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, handler)
            close_worlds()
    code = ended.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(args, code, stdout.getvalue(), stderr.getvalue())


def billp_process(home: Path, *args: str, typed: str = "", **env: str) -> Run:
    """Run a command as a process of its own; arguments as for `billp`."""
    return run(
        [*BILLP, *args],
        typed=typed,
        env=os.environ | {"BILLP_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": str(WIDTH)} | env,
        cwd=home.parent.parent if home.parent.is_file() else home.parent,
    )


def refused(run: Run) -> str:
    """Check that a command was refused as bad usage, and return its one line."""
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1 and run.stderr.startswith("billp: "), run.stderr
    return run.stderr
