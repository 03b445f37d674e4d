"""Holder of a lock: named by its process and command, without its options."""

import sys
from pathlib import Path

import pytest
from filelock import FileLock

from graph.cli.memory.lock_holder import lock_holder, server_address
from tests.processes import line_of, started

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_the_process_that_holds_a_lock_is_named_with_its_command(tmp_path: Path) -> None:
    lock, program = tmp_path / "billp.lock", tmp_path / "billp"
    program.write_text(HOLD.replace("sys.argv[1]", repr(str(lock))))
    command = [sys.executable, program, "memory", "list", "--token", "secret"]
    with started(command, stdin=-1, stdout=-1, text=True) as holder:
        assert line_of(holder) == "locked"
        assert lock_holder(lock) == f"process {holder.pid} (billp memory list)"
    assert lock_holder(lock) == "another process"
    with FileLock(lock):
        assert lock_holder(lock) == "this process"


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
@pytest.mark.parametrize(
    ("name", "options", "address"),
    [
        ("langgraph", ["dev", "--host", "127.0.0.2", "--port", "4711"], "http://127.0.0.2:4711"),
        ("langgraph", ["dev", "--port=4711"], "http://127.0.0.1:4711"),
        ("langgraph", ["dev"], "http://127.0.0.1:2024"),
        ("billp", ["study", "--port", "1"], ""),
    ],
)
def test_a_server_that_holds_a_lock_is_found(tmp_path: Path, name: str, options: list[str], address: str) -> None:
    lock, program = tmp_path / "billp.lock", tmp_path / name
    program.write_text(HOLD.replace("sys.argv[1]", repr(str(lock))))
    with started([sys.executable, program, *options], stdin=-1, stdout=-1, text=True) as holder:
        assert line_of(holder) == "locked"
        assert server_address(lock) == address


def test_a_lock_that_is_missing_has_no_known_holder(tmp_path: Path) -> None:
    assert lock_holder(tmp_path / "none") == "another process"
    assert server_address(tmp_path / "none") == ""
