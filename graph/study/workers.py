"""The cells of a study, each a variant with one seed, worked on in processes of their own."""

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from graph.ablation import without_part
from graph.study.baselines import BASELINES, policy_of
from graph.study.memory_controls import controlled
from graph.study.runners import VisitFailedError, VisitRunner, local_runner, server_runner
from graph.study.schedule import Batch, Phase, phases, visit_seed, visitors
from graph.study.settings import MEMORY, TRAIN, WITHOUT, Cell, StudySettings
from graph.study.visit_log import VisitLog, VisitResult, thread_of
from graph.variants import VARIANTS, variant_settings
from memory.chroma.errors import StoreError
from memory.home import home
from nodes.llm.endpoint.budget import Budget, BudgetSpentError
from nodes.llm.endpoint.settings import shared_endpoint
from nodes.state import VisitInput, VisitOutput
from nodes.tools.open_world import load_world
from sim.errors import BillpError
from sim.policies.rollout import play
from sim.world.data import SplitName

CELLS, VISITS, CHECKPOINTS = "cells", "visits.jsonl", "checkpoints.sqlite"
FAILED = "failed"
# Seconds between two looks at what workers report.
PAUSE = 0.1


class Work(NamedTuple):
    """What the processes of a study are given."""

    settings: StudySettings
    folder: Path
    """Where the study works."""
    concurrency: int
    """Visits of a cell at once."""
    server: str
    """URL of the LangGraph server that runs the visits; empty for here."""
    token: str
    """Tells the study's memories and threads on a server from those of other studies."""
    max_cost: float | None
    """Dollars that the study may cost."""
    spent: float
    """Dollars that it has cost before."""
    skip_failed: bool
    """Whether visits that fail are left out where the study would stop."""


class StudyProgress(Protocol):
    """Is told how far a study is."""

    def __call__(self, cell: Cell, stage: str, done: int, total: int) -> None:
        """Take notice of the visits done in one stage of one cell; of steps, where reinforcement learning trains."""
        ...


def run_cells(
    cells: Sequence[Cell], work: Work, processes: int, progress: StudyProgress
) -> Iterator[tuple[Cell, list[dict[str, Any]]]]:
    """Run cells, each in some worker process, and yield the visits of each as it ends."""
    # Fork would copy the threads' locks of Chroma and onnxruntime in whatever state they are.
    spawn = multiprocessing.get_context("spawn")
    events = spawn.SimpleQueue()
    limited = work.max_cost is not None and not work.settings.context.scripted
    budget = Budget(work.max_cost or 0.0, spawn.Value("d", work.spent)) if limited else None
    given = (events, home().absolute(), budget)
    with (
        _listening(events, progress),
        ProcessPoolExecutor(processes, spawn, initializer=_set_up_worker, initargs=given) as pool,
    ):
        running = {pool.submit(_run_cell, cell, work): cell for cell in cells}
        spent: BudgetSpentError | None = None
        try:
            for future in as_completed(running):
                try:
                    lines = future.result()
                except BudgetSpentError as error:
                    # The others find out by themselves, when what they have asked is answered and kept.
                    spent = error
                else:
                    yield running[future], lines
            if spent is not None:
                raise spent
        except BaseException:
            # Whoever stops a study does not want to wait for the visits under way.
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def _listening(events: Any, progress: StudyProgress) -> Iterator[None]:
    """Pass on what the workers report while the block runs."""
    ended = threading.Event()

    def listen() -> None:
        # Looks instead of waiting for a last word: a worker that is ended amid a report keeps the queue's lock.
        while not ended.wait(PAUSE):
            while not events.empty():
                progress(*events.get())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        ended.set()
        listener.join(1)
        while not events.empty() and not listener.is_alive():
            progress(*events.get())


# What a worker process was given when it started: where to report, one entry.
_events: list[Any] = []


def _set_up_worker(events: Any, base: Path, budget: Budget | None) -> None:
    _events[:] = [events]
    os.environ["BILLP_HOME"] = str(base)
    if budget is not None:
        shared_endpoint().budget = budget
    # The parent is told of Ctrl-C as well and ends its workers; one that loses its parent ends by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _report(cell: Cell, stage: str, done: int, total: int) -> None:
    for events in _events:
        events.put((cell, stage, done, total))


def _run_cell(cell: Cell, work: Work) -> list[dict[str, Any]]:
    try:
        if cell.variant in BASELINES:
            return _run_baseline(cell, work)
        return asyncio.run(_run_agent(cell, work))
    except (BillpError, StoreError, OSError):
        raise
    except Exception as error:
        # Errors of an endpoint's client do not all survive the way to the parent, which would then know nothing.
        raise BillpError(f"{cell.name}, seed {cell.seed}: {type(error).__name__}: {error}") from None


def _run_baseline(cell: Cell, work: Work) -> list[dict[str, Any]]:
    settings = work.settings
    world = load_world(settings.world)
    policy = policy_of(cell, world, settings, work.folder, lambda done, total: _report(cell, "train", done, total))
    users = visitors(world, settings.test_split, settings.test, 0)
    lines = []
    _report(cell, settings.test_split, 0, len(users))
    for done, user_id in enumerate(users, 1):
        visit = play(policy, world, settings.test_split, user_id, seed=cell.seed, max_steps=settings.max_steps)
        output = VisitOutput.model_validate(visit)
        lines.append(_about(cell, settings.test_split) | {MEMORY: "full"} | output.model_dump(mode="json"))
        _report(cell, settings.test_split, done, len(users))
    return lines


async def _run_agent(cell: Cell, work: Work) -> list[dict[str, Any]]:
    folder = work.folder / CELLS / str(cell)
    folder.mkdir(parents=True, exist_ok=True)
    done = VisitLog(folder / VISITS)
    lines = []
    world = load_world(work.settings.world)
    for course in phases(world, work.settings, cell.seed, VARIANTS[cell.variant].remembers):
        # Its visits may all be done, and what the last of them taught not be written.
        ended = folder / f"{course.name or TRAIN}.ended"
        if not ended.exists() or any(done.missing(stage) for stage in course.stages):
            await _follow(course, cell, work, done)
            ended.touch()
        for stage in course.stages:
            lines += _stage_lines(cell, stage, done)
    return lines


async def _follow(course: Phase, cell: Cell, work: Work, done: VisitLog) -> None:
    """Make the visits of a course that have not been made, with what was made before in memory again."""
    async with _runner(cell, course, work) as engine:
        spare_collector()
        # Written again where a study goes on: from the visits alone, whatever the memory was stopped amid.
        await engine.remember(controlled(done.taught(TRAIN), course.begins_with, cell.seed))
        visit = Visits(cell, work, engine, done, course)
        for stage in course.stages:
            await visit(stage)
            if stage.learns:
                records = (one for output in done.outputs(stage) for one in output.records)
                private = bool(course.changes.get("private"))
                await engine.remember(sorted(records, key=lambda one: one.key), private=private)


def _stage_lines(cell: Cell, stage: Batch, done: VisitLog) -> list[dict[str, Any]]:
    of = _about(cell, stage.split) | stage.about
    outputs, failures = done.outputs(stage), done.failures(stage)
    if failures and not outputs and stage.split != TRAIN:
        why = next(iter(failures.values()))
        raise VisitFailedError(f"every visit of {cell.name} failed ({why}): `--fresh` begins the study anew")
    return [
        *(of | output.model_dump(mode="json") for output in outputs),
        *(of | {"user_id": stage.users[number - stage.start], FAILED: why} for number, why in failures.items()),
    ]


def _about(cell: Cell, split: SplitName) -> dict[str, Any]:
    """Return what the lines of a cell's visits say of it."""
    return {"variant": cell.variant, WITHOUT: cell.without, "split": split, "seed": cell.seed}


def spare_collector() -> None:
    """Keep the garbage collector from what was loaded, which stays: looking through it took a tenth of the time."""
    # What a former course left behind goes first.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


def _runner(cell: Cell, course: Phase, work: Work) -> AbstractAsyncContextManager[VisitRunner]:
    name = f"{cell}-{course.name}" if course.name else str(cell)
    if work.server:
        return server_runner(work.server, cell.variant, f"{work.token}-{name}")
    space = work.settings.context.space or work.settings.world
    checkpoints = work.folder / CELLS / str(cell) / CHECKPOINTS
    return local_runner(
        work.settings.world, cell.variant, space, checkpoints=checkpoints, memory=work.folder / "memory" / name
    )


class Visits:
    """Runs the visits of a course, many at once."""

    def __init__(self, cell: Cell, work: Work, engine: VisitRunner, done: VisitLog, course: Phase) -> None:
        self._cell = cell
        self._settings = work.settings
        self._context = without_part(variant_settings(cell.variant, work.settings.context), cell.without)
        self._engine = engine
        self._free = asyncio.Semaphore(work.concurrency)
        self._done = done
        self._course = course
        self._skip = work.skip_failed
        self._succeeded_since_failure = False
        self._spent: BudgetSpentError | None = None

    async def __call__(self, stage: Batch) -> None:
        """Make those visits of a stage that have not been made yet.

        A visit that fails is tried once more when the others have ended. If it fails again, the study goes on without,
        where the fault is its own, or others have succeeded since, or the user said so.

        Raises:
            VisitFailedError: Nothing has succeeded since: the endpoint seems to be away, so it is better to go on
                another time.
        """
        self._report(stage)
        self._succeeded_since_failure = False
        failed = await self._run(stage, self._done.missing(stage))
        again = await self._run(stage, failed)
        for number, error in again.items():
            if not (error.own or self._succeeded_since_failure or self._skip):
                raise error
            self._done.add(VisitResult(stage=stage.name, number=number, failed=str(error)))
        self._report(stage)

    def _report(self, stage: Batch) -> None:
        total = sum(len(one.users) for one in self._course.stages if one.name == stage.name)
        _report(self._cell, stage.name, self._done.count(stage.name), total)

    async def _run(self, stage: Batch, numbers: Iterable[int]) -> dict[int, VisitFailedError]:
        """Run visits by number, and return which failed."""
        learn, explore = "cohort" if stage.learns else "off", self._context.explore
        # Users who come back teach too, but nothing is tried out on them.
        changes = {"learn": learn, "explore": explore if stage.split == TRAIN else 0.0}
        context = self._context.model_copy(update={**changes, **self._course.changes})
        failed: dict[int, VisitFailedError] = {}

        async def one(number: int) -> None:
            visit = VisitInput(
                world=self._settings.world,
                user_id=stage.users[number - stage.start],
                seed=visit_seed(self._cell.seed, number),
                max_steps=self._settings.max_steps,
            )
            thread = thread_of(stage.name, number)
            async with self._free:
                if self._spent is not None:
                    return
                try:
                    output = await self._engine.visit(thread, visit, context)
                except VisitFailedError as error:
                    failed[number] = error
                    self._succeeded_since_failure = False
                    return
                except BudgetSpentError as error:
                    # Those under way go on until they ask again, so that no answer that was paid is lost.
                    self._spent = error
                    return
                self._succeeded_since_failure = True
                self._done.add(VisitResult(stage=stage.name, number=number, output=output))
                await self._engine.forget(thread)
            self._report(stage)

        try:
            async with asyncio.TaskGroup() as group:
                for number in numbers:
                    group.create_task(one(number))
        except ExceptionGroup as errors:
            # One tells what is wrong; the others were cancelled, or say the same.
            raise errors.exceptions[0] from None
        if self._spent is not None:
            raise self._spent
        return failed
