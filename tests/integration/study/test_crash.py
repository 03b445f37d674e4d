"""Study and visit killed at random moments and resumed: the same results, the same memory."""

import json
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from langgraph.runtime import Runtime

from graph.checkpoints import checkpointer
from graph.episode import VARIANTS, build_episode
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context
from nodes.state import VisitInput, VisitState
from nodes.users.simulated import user
from tests.commands import BILLP, ROOT, billp, environment_of
from tests.integration.study.run_files import contents
from tests.processes import kill, started
from tests.waiting import until

pytestmark = pytest.mark.slow

STUDY = ("study", "--world", "tiny", "--variants", "billp,reflexion,diverse_greedy", "--processes", "2")
SMALL = ("--train", "4", "--test", "2", "--cohort", "2", "--max-steps", "15", "--out", "run")
BESIDES = ("--memory", "inverted", "--curve", "2", "--curve-users", "1", "--visits-per-user", "2", "--recall", "shared")
EPISODE = ("episode", "--world", "tiny", "--max-steps", "40", "--json")
RESUME = ("episode", "--resume", "--json")
FILES = ("results.json", "run.json", "visits.jsonl", "report.html")
KILLS = 3
VISITS = 4
# Most seconds between the awaited progress of a command and its kill.
DELAY = 0.3


@contextmanager
def running(home: Path, log: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, with its output in a file, while the block runs; what is left of it then is killed."""
    with (
        log.open("wb") as output,
        started(
            [*BILLP, *args], signal.SIGKILL, cwd=ROOT, env=environment_of(home), stdout=output, stderr=output
        ) as process,
    ):
        yield process


def killed_after(
    home: Path, log: Path, args: tuple[str, ...], progress: Callable[[], int], least: float, delay: float
) -> bool:
    """Kill a command with all its processes; return False if it ends before.

    Args:
        home: Home folder.
        log: File for its output.
        args: The command.
        progress: Function that tells how far the command is.
        least: Progress after which it is killed.
        delay: Seconds between that progress and the kill.
    """
    with running(home, log, *args) as process:
        until(lambda: process.poll() is not None or progress() > least, "progress of the command")
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            kill(process)
            process.wait()
            return True
        assert process.returncode == 0 or args == RESUME, log.read_text()
        return False


def remembered(folder: Path) -> list[tuple[Any, ...]]:
    with ChromaStore(folder, embeddings=shared_embeddings()) as store:
        return [(item.namespace, item.key, item.value) for item in store.search((), limit=100_000)]


def outcome(home: Path) -> tuple[Any, ...]:
    run = home / "runs" / "run"
    assert {one.name for one in run.iterdir()} == {*FILES, "curves.jsonl", "returning.jsonl", "memory"}
    return contents(run), {folder.name: remembered(folder) for folder in (run / "memory").iterdir()}


def size_of(folder: Path, pattern: str) -> int:
    """Return the bytes of the matching files of a folder, which may be deleted meanwhile."""
    total = 0
    for file in [*folder.glob(pattern)]:
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def most(home: Path, log: Path, args: tuple[str, ...], progress: Callable[[], int]) -> int:
    """Run a command to its end, and return the most progress that it showed."""
    seen: list[int] = []

    def ended() -> bool:
        seen.append(progress())
        return process.poll() is not None

    with running(home, log, *args) as process:
        until(ended, "the end of the command")
        assert process.returncode == 0, log.read_text()
    assert max(seen)
    return max(seen)


def test_a_study_killed_at_random_moments_ends_with_the_same_results_and_memory(home: Path, tmp_path: Path) -> None:
    unfinished, study, log = home / "runs" / ".run.unfinished", (*STUDY, *SMALL, *BESIDES), tmp_path / "log"

    def progress() -> int:
        return size_of(unfinished, "cells/*/visits.jsonl")

    total, whole = most(home, log, study, progress), outcome(home)
    rng, kills = random.Random(), 0
    while kills < KILLS:
        # Each run makes some progress before its kill, so that the study ends after several kills.
        least = progress() + rng.uniform(0, total / 4)
        if killed_after(home, log, study, progress, least, rng.uniform(0, DELAY)):
            kills += 1
        else:
            assert outcome(home) == whole
    assert billp(home, *study).returncode == 0
    assert outcome(home) == whole
    assert not unfinished.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_the_workers_of_a_study_end_with_it(home: Path, tmp_path: Path) -> None:
    long = ("--train", "400", "--test", "2", "--out", "run")
    with running(home, tmp_path / "log", *STUDY, *long) as process:
        # The study alone is killed here, not the group that its workers belong to.
        until(lambda: any(home.glob("runs/.run.unfinished/memory/*/chroma.sqlite3")), "the first memory")
        workers = group(process.pid) - {process.pid}
        assert workers
        process.kill()
        until(lambda: not group(process.pid) - {process.pid}, "the end of the workers")


def group(leader: int) -> set[int]:
    """Return the running processes of a process group."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = file.read_text().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_group) == leader and state != "Z":
            found.add(int(file.parent.name))
    return found


def without_ids(folder: Path) -> list[tuple[Any, ...]]:
    """Return the records of a memory without the ids of visits, which are random."""
    values = [(namespace, value | {"visit": ""}) for namespace, _, value in remembered(folder)]
    return sorted(values, key=repr)


def test_a_visit_killed_at_random_moments_goes_on_where_it_was(home: Path, tmp_path: Path) -> None:
    def progress() -> int:
        return size_of(home / "visits", "*/checkpoints.sqlite*")

    log = tmp_path / "log"
    total, memory = most(home, log, EPISODE, progress), without_ids(home / "memory")
    whole = json.loads(log.read_text())
    assert whole["length_with_exit"] > 5 and memory
    rng, resumed = random.Random(), 0
    for number in range(VISITS):
        shutil.rmtree(home / "memory")
        least = rng.uniform(0, total)
        killed_after(home, log, EPISODE, progress, least, rng.uniform(0, DELAY))
        for _ in range(number % 2):
            # Kill its resume too.
            killed_after(home, log, RESUME, progress, progress(), rng.uniform(0, DELAY))
        run = billp(home, *RESUME)
        if run.returncode == 0:
            assert json.loads(run.stdout) == whole
            resumed += 1
        else:
            # The kill came after the visit had ended.
            assert "there is no unfinished visit" in run.stderr
        assert without_ids(home / "memory") == memory
        assert not any((home / "visits").iterdir())
    assert resumed


async def test_checkpoints_grow_linearly_with_the_length_of_a_visit(home: Path, tmp_path: Path) -> None:
    async def stay(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
        update = await user(state, runtime)
        for step in update["steps"]:
            step.left = False
        return update | {"left": False, "leave_reason": None}

    stay.__name__ = "user"
    step, at_end, _ = VARIANTS["billp"]
    nodes = [stay if node is user else node for node in step]
    sizes = {}
    for rounds in (10, 50, 200):
        file = tmp_path / f"{rounds}.sqlite"
        async with checkpointer(file) as saver:
            graph: Any = build_episode(*nodes, at_end=at_end).compile(checkpointer=saver)
            visit = VisitInput(world="tiny", max_steps=rounds)
            config = {"configurable": {"thread_id": "t"}}
            output = await graph.ainvoke(visit, config, context=Context(learn="cohort"))
            assert output["length"] == rounds
        sizes[rounds] = file.stat().st_size / rounds
    assert sizes[200] < 1.5 * sizes[10] and sizes[200] < 200_000, sizes
