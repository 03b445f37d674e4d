"""Processes of tests: none outlives the test process, however that ends."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import processes

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
PATIENCE = 60.0
# Started by the guard itself, or a class of `subprocess` that is named and not called.
ALLOWED = {"processes.py"}
# A test run that starts a group of two processes, says their ids, and waits.
PROGRAM = """
import sys, time
from tests.processes import start
child = "import subprocess, sys; other = subprocess.Popen(['sleep', '1000']); print(other.pid, flush=True); other.wait()"
process = start([sys.executable, '-c', child], stdout=-1, text=True)
print(process.pid, process.stdout.readline().strip(), flush=True)
time.sleep(1000)
"""


def gone(pid: int) -> None:
    """Wait until a process has ended."""
    stat, deadline = Path(f"/proc/{pid}/stat"), time.monotonic() + PATIENCE
    # An ended process whose parent has not read its exit code is a zombie, Z.
    while stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_test_process(sign: signal.Signals) -> None:
    with processes.started([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        leader, child = map(int, process.stdout.readline().split())
        assert os.getpgid(child) == leader != os.getpgid(process.pid)
        process.send_signal(sign)
        process.wait(30)
        gone(leader)
        gone(child)


def test_a_command_ends_with_its_children() -> None:
    with processes.started(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
    gone(child)
    assert process.returncode == -signal.SIGTERM
    with pytest.raises(subprocess.TimeoutExpired):
        processes.run(["sleep", "1000"], timeout=0.01)


def test_input_output_and_exit_code_of_a_command_are_returned() -> None:
    done = processes.run([sys.executable, "-c", "print(input()[::-1]); raise SystemExit(3)"], typed="abc")
    assert (done.stdout, done.stderr, done.returncode) == ("cba\n", "", 3)
    with pytest.raises(subprocess.CalledProcessError):
        processes.run(["false"], check=True)


def test_all_tests_start_processes_in_this_way() -> None:
    starts = re.compile(r"\bsubprocess\.(run|call|check_call|check_output|Popen)\(|os\.(system|fork|spawn\w*)\(")
    found = [
        f"{file.relative_to(TESTS)}: {line.strip()}"
        for file in TESTS.rglob("*.py")
        if file.name not in ALLOWED and file != Path(__file__)
        for line in file.read_text(encoding="utf-8").splitlines()
        if starts.search(line)
    ]
    assert found == []
