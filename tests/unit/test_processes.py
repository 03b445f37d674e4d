"""Processes of tests: none outlives the test process, however that ends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
# Started by the guard itself, or a class of `subprocess` that is named and not called.
ALLOWED = {"processes.py"}
# A test run that starts a group of two processes, says their ids, and waits.
PROGRAM = """
import signal, time
from tests.processes import start
# A shell may have started this program with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
process = start(['sh', '-c', 'sleep 1000 & echo $!; wait'], stdout=-1, text=True)
print(process.pid, process.stdout.readline().strip(), flush=True)
time.sleep(1000)
"""


def gone(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    # An ended process whose parent has not read its exit code is a zombie, Z.
    return stat.rsplit(")", 1)[1].split()[0] == "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_test_process(sign: signal.Signals) -> None:
    with processes.started([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        leader, child = map(int, processes.line_of(process).split())
        assert os.getpgid(child) == leader != os.getpgid(process.pid)
        process.send_signal(sign)
        until(lambda: gone(process.pid) and gone(leader) and gone(child), "the end of the three processes")


WAITING = """
from tests.processes import start
def test_that_waits():
    process = start(['sleep', '1000'])
    open({file!r}, 'w').write(f'{{process.pid}}\\n')
    process.wait()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_test_run_in_several_processes(tmp_path: Path, sign: signal.Signals) -> None:
    file, test = tmp_path / "pid", tmp_path / "test_waiting.py"
    test.write_text(WAITING.format(file=str(file)))
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "1", test]
    with processes.started(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        until(lambda: file.exists() and file.read_text().endswith("\n"), "the start of the waiting process")
        process.send_signal(sign)
        until(lambda: gone(int(file.read_text())), "the end of the waiting process")


def test_a_command_ends_with_its_children() -> None:
    with processes.started(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as process:
        child = int(processes.line_of(process))
    until(lambda: gone(child), "the end of the child")
    assert process.returncode == -signal.SIGTERM
    with pytest.raises(subprocess.TimeoutExpired):
        processes.run(["sleep", "1000"], timeout=0.01)


def test_input_output_and_exit_code_of_a_command_are_returned() -> None:
    done = processes.run([sys.executable, "-c", "print(input()[::-1]); raise SystemExit(3)"], typed="abc")
    assert (done.stdout, done.stderr, done.returncode) == ("cba\n", "", 3)
    with pytest.raises(subprocess.CalledProcessError):
        processes.run(["false"], check=True)


def test_all_tests_start_processes_in_this_way() -> None:
    starts = re.compile(
        r"\bsubprocess\.(run|call|check_call|check_output|getoutput|getstatusoutput|Popen)\("
        r"|\bfrom subprocess import|\bcreate_subprocess_(exec|shell)\(|\bsubprocess_(exec|shell)\("
        r"|\bos\.(system|popen|fork\w*|spawn\w+|posix_spawn\w*)\(|\bpty\.(fork|spawn)\("
    )
    found = [
        f"{file.relative_to(TESTS)}: {line.strip()}"
        for file in TESTS.rglob("*.py")
        if file.name not in ALLOWED and file != Path(__file__)
        for line in file.read_text(encoding="utf-8").splitlines()
        if starts.search(line)
    ]
    assert found == []
