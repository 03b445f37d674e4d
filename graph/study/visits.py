"""Visits of a phase, many at once, and their lines in the results."""

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from graph.ablation import without_part
from graph.study.runners import VisitFailedError, VisitRunner
from graph.study.schedule import Batch, Phase, visit_seed
from graph.study.settings import FAILED, TRAIN, WITHOUT, Cell, StudySettings
from graph.study.visit_log import VisitLog, VisitResult, thread_of
from graph.variants import variant_settings
from nodes.llm.endpoint.budget import BudgetSpentError
from nodes.state import VisitInput
from sim.world.data import SplitName


class StudyProgress(Protocol):
    """Callback for the progress of a study."""

    def __call__(self, cell: Cell, batch: str, done: int, total: int) -> None:
        """Report the finished visits of a cell's batch, or the finished steps of reinforcement learning."""
        ...


class Visits:
    """Runner of the visits of a phase, many at once.

    Args:
        cell: Cell of the visits.
        settings: Settings of the study.
        runner: Runner of one visit.
        log: Log of the cell's finished visits.
        phase: Phase of the visits.
        concurrency: Visits at once.
        skip_failed: Whether to leave out failed visits that would otherwise stop the study.
        progress: Function called after each finished visit.
    """

    def __init__(
        self,
        cell: Cell,
        settings: StudySettings,
        runner: VisitRunner,
        log: VisitLog,
        phase: Phase,
        *,
        concurrency: int,
        skip_failed: bool,
        progress: StudyProgress,
    ) -> None:
        self._cell = cell
        self._settings = settings
        self._context = without_part(variant_settings(cell.variant, settings.context), cell.without)
        self._runner = runner
        self._free = asyncio.Semaphore(concurrency)
        self._log = log
        self._phase = phase
        self._skip = skip_failed
        self._progress = progress
        self._succeeded_since_failure = False
        self._spent: BudgetSpentError | None = None

    async def __call__(self, batch: Batch) -> None:
        """Run the unfinished visits of a batch.

        A failed visit is retried once after the others have ended. If it fails again, the study continues without it if
        the visit itself is at fault, if other visits have succeeded since, or if `skip_failed` is set.

        Raises:
            VisitFailedError: No visit has succeeded since. The endpoint is probably unavailable, so the study stops and
                can be resumed later.
        """
        self._report(batch)
        self._succeeded_since_failure = False
        failed = await self._run(batch, self._log.missing(batch))
        again = await self._run(batch, failed)
        for number, error in again.items():
            if not (error.own or self._succeeded_since_failure or self._skip):
                raise error
            self._log.add(VisitResult(stage=batch.name, number=number, failed=str(error)))
        self._report(batch)

    def _report(self, batch: Batch) -> None:
        total = sum(len(one.users) for one in self._phase.batches if one.name == batch.name)
        self._progress(self._cell, batch.name, self._log.count(batch.name), total)

    async def _run(self, batch: Batch, numbers: Iterable[int]) -> dict[int, VisitFailedError]:
        """Run visits by number, and return the failed ones."""
        learn, explore = "cohort" if batch.learns else "off", self._context.explore
        # Visits of returning users write memories, but only train visits explore.
        changes = {"learn": learn, "explore": explore if batch.split == TRAIN else 0.0}
        context = self._context.model_copy(update={**changes, **self._phase.changes})
        failed: dict[int, VisitFailedError] = {}

        async def one(number: int) -> None:
            visit = VisitInput(
                world=self._settings.world,
                user_id=batch.users[number - batch.start],
                seed=visit_seed(self._cell.seed, number),
                max_steps=self._settings.max_steps,
            )
            thread = thread_of(batch.name, number)
            async with self._free:
                if self._spent is not None:
                    return
                try:
                    output = await self._runner.visit(thread, visit, context)
                except VisitFailedError as error:
                    failed[number] = error
                    self._succeeded_since_failure = False
                    return
                except BudgetSpentError as error:
                    # Running visits continue until their next call, so that no answer that was paid for is lost.
                    self._spent = error
                    return
                self._succeeded_since_failure = True
                self._log.add(VisitResult(stage=batch.name, number=number, output=output))
                await self._runner.forget(thread)
            self._report(batch)

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


def batch_lines(cell: Cell, batch: Batch, log: VisitLog) -> list[dict[str, Any]]:
    """Return the lines of a batch's visits, the failed ones last.

    Raises:
        VisitFailedError: All visits failed, and they are not train visits.
    """
    of = visit_fields(cell, batch.split) | batch.about
    outputs, failures = log.outputs(batch), log.failures(batch)
    if failures and not outputs and batch.split != TRAIN:
        why = next(iter(failures.values()))
        raise VisitFailedError(f"every visit of {cell.name} failed ({why}): add `--fresh` to start the study again")
    return [
        *(of | output.model_dump(mode="json") for output in outputs),
        *(of | {"user_id": batch.users[number - batch.start], FAILED: why} for number, why in failures.items()),
    ]


def visit_fields(cell: Cell, split: SplitName) -> dict[str, Any]:
    """Return the fields that the lines of a cell's visits share."""
    return {"variant": cell.variant, WITHOUT: cell.without, "split": split, "seed": cell.seed}
