"""Worker processes of a study, each running cells: one variant with one seed."""

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
from graph.variant_files import load_variants, loaded_files
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
# Seconds between two checks for worker reports.
PAUSE = 0.1


class Work(NamedTuple):
    """Data that the worker processes of a study receive."""

    settings: StudySettings
    folder: Path
    """Working folder of the study."""
    concurrency: int
    """Visits of a cell at once."""
    server: str
    """URL of the LangGraph server that runs the visits; empty for this process."""
    token: str
    """Token that separates the study's memories and threads on a server from those of other studies."""
    max_cost: float | None
    """Maximum cost of the study in dollars."""
    spent: float
    """Cost of the unfinished study before this start, in dollars."""
    skip_failed: bool
    """Whether to leave out failed visits that would otherwise stop the study."""


class StudyProgress(Protocol):
    """Callback for the progress of a study."""

    def __call__(self, cell: Cell, stage: str, done: int, total: int) -> None:
        """Report the finished visits of a cell's batch, or the finished steps of reinforcement learning."""
        ...


def run_cells(
    cells: Sequence[Cell], work: Work, processes: int, progress: StudyProgress
) -> Iterator[tuple[Cell, list[dict[str, Any]]]]:
    """Run cells in worker processes, and yield the visits of each cell when it ends."""
    # Fork would copy locks held by threads of Chroma and onnxruntime.
    spawn = multiprocessing.get_context("spawn")
    events = spawn.SimpleQueue()
    limited = work.max_cost is not None and not work.settings.context.scripted
    budget = Budget(work.max_cost or 0.0, spawn.Value("d", work.spent)) if limited else None
    files = tuple(map(str, loaded_files(work.settings.variants).values()))
    given = (events, home().absolute(), budget, files)
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
                    # The other workers reach the budget too, and stop after their current answers are saved.
                    spent = error
                else:
                    yield running[future], lines
            if spent is not None:
                raise spent
        except BaseException:
            # On an interrupt, stop at once instead of waiting for running visits.
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def _listening(events: Any, progress: StudyProgress) -> Iterator[None]:
    """Forward the workers' reports while the block runs."""
    ended = threading.Event()

    def listen() -> None:
        # Poll instead of waiting for a final report: a worker killed while it reports keeps the queue's lock.
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


# Data that a worker process received at its start: the queue for reports, as one entry.
_events: list[Any] = []


def _set_up_worker(events: Any, base: Path, budget: Budget | None, files: Sequence[str]) -> None:
    _events[:] = [events]
    os.environ["BILLP_HOME"] = str(base)
    # Before the first cell arrives, whose settings need the classes of its variant.
    load_variants(files)
    if budget is not None:
        shared_endpoint().budget = budget
    # Ctrl-C reaches the parent too, which ends its workers; a worker that loses its parent ends itself.
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
        # Some errors of endpoint clients cannot be pickled, so the parent receives the message only.
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
        # All visits may be finished while the records of the last ones are not yet written.
        ended = folder / f"{course.name or TRAIN}.ended"
        if not ended.exists() or any(done.missing(stage) for stage in course.stages):
            await _follow(course, cell, work, done)
            ended.touch()
        for stage in course.stages:
            lines += _stage_lines(cell, stage, done)
    return lines


async def _follow(course: Phase, cell: Cell, work: Work, done: VisitLog) -> None:
    """Run the unfinished visits of a phase, with the records of the finished ones written to the memory again."""
    async with _runner(cell, course, work) as engine:
        spare_collector()
        # After a resume, rebuild the memory from the visits alone: the old memory may be incomplete.
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
    """Return the fields that the lines of a cell's visits share."""
    return {"variant": cell.variant, WITHOUT: cell.without, "split": split, "seed": cell.seed}


def spare_collector() -> None:
    """Exclude loaded objects, which stay in use, from garbage collection: scanning them took a tenth of the time."""
    # First collect the objects left by an earlier phase.
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
    """Runner of the visits of a phase, many at once."""

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
        """Run the unfinished visits of a batch.

        A failed visit is retried once after the others have ended. If it fails again, the study continues without it if
        the visit itself is at fault, if other visits have succeeded since, or if `skip_failed` is set.

        Raises:
            VisitFailedError: No visit has succeeded since. The endpoint is probably unavailable, so the study stops and
                can be resumed later.
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
        """Run visits by number, and return the failed ones."""
        learn, explore = "cohort" if stage.learns else "off", self._context.explore
        # Visits of returning users write memories, but only train visits explore.
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
                    # Running visits continue until their next call, so that no answer that was paid for is lost.
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
            # One error describes the fault; the other tasks were cancelled or raise the same error.
            raise errors.exceptions[0] from None
        if self._spent is not None:
            raise self._spent
        return failed
