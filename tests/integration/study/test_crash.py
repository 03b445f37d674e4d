"""Study and visit killed at random moments and resumed: the same results, the same memory."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langgraph.runtime import Runtime

from graph.checkpoints import checkpointer
from graph.episode import VARIANTS, build_episode
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context
from nodes.state import VisitInput, VisitState
from nodes.users.simulated import user
from tests.integration.cli.test_cli import billp

STUDY = ("study", "--world", "tiny", "--variants", "billp,reflexion,diverse_greedy", "--processes", "2")
SMALL = ("--train", "4", "--test", "2", "--cohort", "2", "--max-steps", "15", "--out", "run")
BESIDES = ("--memory", "inverted", "--curve", "2", "--curve-users", "1", "--visits-per-user", "2", "--recall", "shared")
EPISODE = ("episode", "--world", "tiny", "--max-steps", "40", "--json")
RESUME = ("episode", "--resume", "--json")
FILES = ("results.json", "visits.jsonl", "report.html")
KILLS = 20
VISITS = 5
DEADLINE = 60.0
Started = subprocess.Popen[str]


def start(home: Path, *args: str) -> Started:
    return subprocess.Popen(
        [sys.executable, "-m", "graph.cli", *args],
        env=os.environ | {"BILLP_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def under_way(process: Started, sign: Callable[[], bool]) -> bool:
    """Wait until a command has started its work; return False if it has already ended."""
    deadline = time.monotonic() + DEADLINE
    while not sign():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return True


def killed(process: Started, delay: float) -> bool:
    """Kill a command with all its processes after a delay; return False if it ends before."""
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    process.communicate()
    return False


def remembered(folder: Path) -> list[tuple[Any, ...]]:
    with ChromaStore(folder, embeddings=shared_embeddings()) as store:
        return [(item.namespace, item.key, item.value) for item in store.search((), limit=100_000)]


def outcome(home: Path) -> tuple[Any, ...]:
    run = home / "runs" / "run"
    names = [*FILES, "curves.jsonl", "returning.jsonl"]
    assert {one.name for one in run.iterdir()} == {*names, "memory"}
    files = [(run / name).read_bytes() for name in names]
    return *files, {folder.name: remembered(folder) for folder in (run / "memory").iterdir()}


def test_a_study_killed_at_random_moments_ends_with_the_same_results_and_memory(home: Path) -> None:
    unfinished = home / "runs" / ".run.unfinished"
    began = time.monotonic()
    process = start(home, *STUDY, *SMALL, *BESIDES)
    assert under_way(process, lambda: any(unfinished.glob("cells/*")))
    start_up = time.monotonic() - began
    assert not killed(process, DEADLINE) and process.returncode == 0
    length = time.monotonic() - began - start_up
    whole = outcome(home)
    rng, kills, pace = random.Random(), 0, 1.0
    while kills < KILLS:
        process = start(home, *STUDY, *SMALL, *BESIDES)
        # Kill a little after the usual start, so that each run makes progress and the study ends after several kills.
        if killed(process, pace * (start_up + rng.uniform(0, length / 2))):
            kills += 1
        else:
            assert process.returncode == 0 and outcome(home) == whole
            # The machine may have been busy during the measurement: kill sooner, or no kill would ever succeed.
            pace *= 0.8
    assert billp(home, *STUDY, *SMALL, *BESIDES).returncode == 0
    assert outcome(home) == whole
    assert not unfinished.exists()


def without_ids(folder: Path) -> list[tuple[Any, ...]]:
    """Return the records of a memory without the ids of visits, which are random."""
    values = [(namespace, value | {"visit": ""}) for namespace, _, value in remembered(folder)]
    return sorted(values, key=repr)


def test_a_visit_killed_at_random_moments_goes_on_where_it_was(home: Path) -> None:
    def begun() -> bool:
        return any((home / "visits").glob("*/visit.json"))

    process = start(home, *EPISODE)
    assert under_way(process, begun)
    began = time.monotonic()
    assert under_way(process, lambda: not begun())
    length = time.monotonic() - began
    shown, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors
    whole, memory = json.loads(shown), without_ids(home / "memory")
    assert whole["length_with_exit"] > 5 and memory
    rng, resumed = random.Random(), 0
    for number in range(VISITS):
        shutil.rmtree(home / "memory")
        process = start(home, *EPISODE)
        assert under_way(process, begun)
        killed(process, rng.uniform(0, length))
        for _ in range(number % 2):
            killed(start(home, *RESUME), rng.uniform(0, 2 * length))
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
