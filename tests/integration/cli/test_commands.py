"""Commands run in the test process: they leave nothing behind, and the next one sees nothing of an earlier one."""

import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from nodes.llm.endpoint.settings import shared_endpoint
from tests.commands import CONSOLES, ROOT, billp, billp_process, directory, refused
from tests.processes import line_of, started

DEAD = "http://127.0.0.1:9/v1"
VISIT = ("episode", "--world", "tiny", "--max-steps", "2", "--json")
STUDY = ("study", "--world", "tiny", "--train", "1", "--test", "1", "--max-steps", "3", "--variants", "billp")
# A program whose command waits until it is stopped, as `billp` does: it ends with 130.
STOPPED = """
import signal, sys, time
from pathlib import Path
import graph.cli
from tests.commands import billp

def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print("ready", file=sys.__stdout__, flush=True)
        time.sleep(1000)
    except KeyboardInterrupt:
        sys.exit(130)

signal.signal(signal.SIGINT, signal.default_int_handler)
graph.cli.main = main
billp(Path(sys.argv[1]))
print("it went on")
"""


def state() -> dict[str, Any]:
    """Return the settings of this process that a command may change."""
    loggers = [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    return {
        "environment": dict(os.environ),
        "directory": Path.cwd(),
        "arguments": list(sys.argv),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "handlers": [list(logging.root.handlers), *(list(one.handlers) for one in loggers if one.handlers)],
        "levels": {one.name: one.level for one in [logging.root, *loggers] if one.level},
        "warnings": (list(warnings.filters), warnings.showwarning),
        "threads": {one.name for one in threading.enumerate() if not one.daemon},
        "collector": (gc.get_threshold(), gc.isenabled()),
        "plots": dict(mpl.rcParams),
        "width": [console.width for console in CONSOLES],
        "endpoints": shared_endpoint.cache_info().currsize,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (VISIT, 0),
        ((*STUDY, "--out", "s"), 0),
        (("world", "build", "mine", "--from", "tiny"), 0),
        (("recommend", "--world", "tiny"), 0),
        (("memory", "list"), 0),
        (("episode", "--world", "mars"), 2),
        ((*VISIT, "--model", "openai:x"), 1),
    ],
)
def test_a_command_leaves_this_process_as_it_was(home: Path, args: tuple[str, ...], code: int) -> None:
    (home.parent / ".env").write_text(f"OPENAI_BASE_URL={DEAD}\nBILLP_CALL_ATTEMPTS=1\nBILLP_CALL_SECONDS=60\n")
    # Import what a command imports first, since packages set levels of their loggers as they are imported.
    billp(home, *args, typed="q\n")
    before = state()
    assert billp(home, *args, typed="q\n").returncode == code
    assert state() == before
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


@pytest.mark.slow
def test_a_world_built_anew_is_opened_anew(home: Path) -> None:
    visit = ("episode", "--world", "mine", "--max-steps", "4", "--no-memory", "--json")
    shown = []
    for seed in ("1", "2"):
        assert billp(home, "world", "build", "mine", "--from", "tiny", "--seed", seed).returncode == 0
        shown.append(billp(home, *visit).stdout)
    assert json.loads(shown[0]) != json.loads(shown[1])
    assert shown[1] == billp_process(home, *visit).stdout


def test_a_file_of_settings_holds_for_the_commands_beside_it(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / ".env").write_text(f"OPENAI_BASE_URL={DEAD}\nBILLP_CALL_ATTEMPTS=1\n")
    visit = (*VISIT, "--model", "openai:x")
    (other / "home").symlink_to(home)
    assert "OPENAI_BASE_URL" in billp(other / "home", *visit).stderr
    assert "needs OPENAI_API_KEY or OPENAI_BASE_URL" in refused(billp(home, *visit))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_a_file_of_settings_in_another_encoding_is_named(home: Path, encoding: str) -> None:
    (directory(home) / ".env").write_text("OPENAI_API_KEY=hidden\n", encoding=encoding)
    said = refused(billp(home, "world", "list"))
    assert said == "billp: .env is not text in UTF-8: save it again in this encoding\n"


def test_a_mark_before_a_file_of_settings_is_no_part_of_its_first_name(home: Path) -> None:
    (directory(home) / ".env").write_text("OPENAI_BASE_URL=nowhere\n", encoding="utf-8-sig")
    said = refused(billp(home, "episode", "--world", "tiny", "--model", "openai:m"))
    assert "OPENAI_BASE_URL: it is no address" in said


def test_each_command_has_the_embedding_of_its_own_environment(home: Path) -> None:
    assert billp(home, *VISIT).returncode == 0
    assert "no-such" in refused(billp(home, *VISIT, BILLP_EMBEDDING="no-such"))
    assert billp(home, *VISIT).returncode == 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_test_run_that_is_stopped_during_a_command_stops(tmp_path: Path, sign: signal.Signals) -> None:
    command = [sys.executable, "-c", STOPPED, str(tmp_path / "home")]
    with started(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert line_of(process) == "ready"
        process.send_signal(sign)
        assert process.communicate(timeout=180) == ("", None)
        assert process.returncode == -sign
