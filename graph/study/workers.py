"""Worker processes of a study, each running cells: one variant with one seed."""

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from graph.checkpoints import CHECKPOINTS
from graph.study.baselines import BASELINES, has_prior, policy_of, prior_policy
from graph.study.memory_controls import PRIOR, Control, controlled
from graph.study.runners import VisitRunner, check_world, local_runner, server_runner
from graph.study.schedule import Phase, phases, visitors
from graph.study.settings import MEMORY, TRAIN, Cell, StudySettings
from graph.study.visit_log import VisitLog
from graph.study.visits import StudyProgress, Visits, batch_lines, visit_fields
from graph.variant_files import load_variants, loaded_files
from graph.variants import VARIANTS
from memory.chroma.errors import StoreError
from memory.home import home
from nodes.llm.endpoint.budget import Budget, BudgetSpentError, share_budget
from nodes.llm.recording import asking_in
from nodes.llm.tracing import bound_traces
from nodes.state import VisitOutput
from nodes.tools.open_world import load_world
from sim.errors import BillpError
from sim.policies.base import OraclePolicy, Policy
from sim.policies.leave_risk_policy import LeaveRiskLearner
from sim.policies.rollout import VisitRecord, play
from sim.world import World

CELLS, VISITS = "cells", "visits.jsonl"
# Modules that the fork server imports for the workers.
PRELOADED = (__name__,)
# Seconds between two checks for worker reports.
PAUSE = 0.1


class Work(NamedTuple):
    """Data that the worker processes of a study receive."""

    settings: StudySettings
    checksum: str
    """Checksum of the world that the study started with."""
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


def run_cells(
    cells: Sequence[Cell], work: Work, processes: int, progress: StudyProgress
) -> Iterator[tuple[Cell, list[dict[str, Any]]]]:
    """Run cells in worker processes, and yield the visits of each cell when it ends."""
    # Fork would copy locks held by threads of Chroma and onnxruntime. The fork server has no such threads, and imports
    # modules once for all workers.
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload([*PRELOADED])
    events = forkserver.SimpleQueue()
    limited = work.max_cost is not None and not work.settings.context.scripted
    budget = Budget(work.max_cost or 0.0, forkserver.Value("d", work.spent)) if limited else None
    files = tuple(map(str, loaded_files(work.settings.variants).values()))
    losses = forkserver.Value("i", 0)
    given = (events, dict(os.environ) | {"BILLP_HOME": str(home().absolute())}, budget, files, losses)
    pool = ProcessPoolExecutor(processes, forkserver, initializer=_set_up_worker, initargs=given)
    with _listening(events, progress):
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
    # The results are ready. Workers that still send traces end by themselves; the exit of this process waits for them.
    pool.shutdown(wait=False)


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


def _set_up_worker(
    events: Any, environment: dict[str, str], budget: Budget | None, files: Sequence[str], losses: Any
) -> None:
    _events[:] = [events]
    # The fork server keeps the environment that it was started with, in which earlier studies ran too.
    os.environ.clear()
    os.environ.update(environment)
    # All workers share one warning.
    bound_traces(lambda: _first(losses))
    # Before the first cell arrives, whose settings need the classes of its variant.
    load_variants(files)
    share_budget(budget)
    # Ctrl-C reaches the parent too, which ends its workers; a worker that loses its parent ends itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _first(losses: Any) -> bool:
    """Count a loss of traces, and return whether it is the first one of all workers."""
    with losses.get_lock():
        losses.value += 1
        return bool(losses.value == 1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _report(cell: Cell, batch: str, done: int, total: int) -> None:
    for events in _events:
        events.put((cell, batch, done, total))


def _run_cell(cell: Cell, work: Work) -> list[dict[str, Any]]:
    try:
        if cell.variant in BASELINES:
            return _run_baseline(cell, work)
        return asyncio.run(run_agent(cell, work))
    except (BillpError, StoreError, OSError):
        raise
    except Exception as error:
        # Some errors of endpoint clients cannot be pickled, so the parent receives the message only.
        raise BillpError(f"{cell.name}, seed {cell.seed}: {type(error).__name__}: {error}") from None


def _world_of(work: Work) -> World:
    world = load_world(work.settings.world)
    check_world(work.settings.world, work.checksum)
    return world


def _run_baseline(cell: Cell, work: Work) -> list[dict[str, Any]]:
    settings = work.settings
    world = _world_of(work)
    policy = policy_of(cell, world, settings, work.folder, lambda done, total: _report(cell, "train", done, total))
    policies: dict[str, tuple[Control, Policy | OraclePolicy | LeaveRiskLearner]] = {
        settings.test_split: ("full", policy)
    }
    if PRIOR in settings.memory and has_prior(cell.variant):
        policies[PRIOR] = (PRIOR, prior_policy(world, settings.max_steps))
    lines = []
    for batch, (memory, played) in policies.items():
        _report(cell, batch, 0, settings.test)
        for done, visit in enumerate(_test_visits(played, world, settings, cell.seed), 1):
            output = VisitOutput.model_validate(visit)
            lines.append(visit_fields(cell, settings.test_split) | {MEMORY: memory} | output.model_dump(mode="json"))
            _report(cell, batch, done, settings.test)
    return lines


def _test_visits(
    policy: Policy | OraclePolicy | LeaveRiskLearner, world: World, settings: StudySettings, seed: int
) -> Iterator[VisitRecord]:
    """Play the test visits of a baseline; with `learn_at_test`, a learner is fitted again before each cohort."""
    split = settings.test_split
    users = visitors(world, split, settings.test, 0)
    size = settings.cohort if settings.learn_at_test else len(users)
    for start in range(0, len(users), size):
        fitted = policy.fitted(split) if isinstance(policy, LeaveRiskLearner) else policy
        for user_id in users[start : start + size]:
            visit = play(fitted, world, split, user_id, seed=seed, max_steps=settings.max_steps)
            if isinstance(policy, LeaveRiskLearner):
                policy.observe(visit)
            yield visit


async def run_agent(cell: Cell, work: Work) -> list[dict[str, Any]]:
    """Run the unfinished visits of an agent's cell, and return the lines of all its visits."""
    folder = work.folder / CELLS / str(cell)
    folder.mkdir(parents=True, exist_ok=True)
    log = VisitLog(folder / VISITS)
    lines = []
    world = _world_of(work)
    for phase in phases(world, work.settings, cell.seed, VARIANTS[cell.variant].remembers):
        # All visits may be finished while the records of the last ones are not yet written.
        ended = folder / f"{phase.name or TRAIN}.ended"
        if not ended.exists() or any(log.missing(batch) for batch in phase.batches):
            with asking_in(f"{cell}/{phase.name or TRAIN}"):
                await _run_phase(phase, cell, work, log)
            ended.touch()
        for batch in phase.batches:
            lines += batch_lines(cell, batch, log)
    return lines


async def _run_phase(phase: Phase, cell: Cell, work: Work, log: VisitLog) -> None:
    """Run the unfinished visits of a phase, with the records of the finished ones written to the memory again."""
    async with _runner(cell, phase, work) as runner:
        spare_collector()
        # After a resume, rebuild the memory from the visits alone: the old memory may be incomplete.
        if phase.control:
            await runner.remember(controlled(log.taught(TRAIN), phase.control, cell.seed))
        visits = Visits(
            cell,
            work.settings,
            runner,
            log,
            phase,
            concurrency=work.concurrency,
            skip_failed=work.skip_failed,
            progress=_report,
        )
        for batch in phase.batches:
            await visits(batch)
            if batch.learns:
                records = (one for output in log.outputs(batch) for one in output.records)
                private = bool(phase.changes.get("private"))
                await runner.remember(controlled(records, phase.control or "full", cell.seed), private=private)


def spare_collector() -> None:
    """Exclude loaded objects, which stay in use, from garbage collection: scanning them took a tenth of the time."""
    # First collect the objects left by an earlier phase.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


def _runner(cell: Cell, phase: Phase, work: Work) -> AbstractAsyncContextManager[VisitRunner]:
    name = f"{cell}-{phase.name}" if phase.name else str(cell)
    if work.server:
        return server_runner(work.server, cell.variant, f"{work.token}-{name}")
    space = work.settings.context.space or work.settings.world
    checkpoints = work.folder / CELLS / str(cell) / CHECKPOINTS
    return local_runner(
        work.settings.world,
        work.checksum,
        cell.variant,
        space,
        checkpoints=checkpoints,
        memory=work.folder / "memory" / name,
    )
