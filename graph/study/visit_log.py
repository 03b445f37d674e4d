"""Log of a cell's finished visits, one line per visit; a resumed study skips these visits."""

import logging
import os
from pathlib import Path

from pydantic import BaseModel, ValidationError

from graph.study.schedule import Batch
from memory.records import Record
from nodes.state import VisitOutput
from sim.atomic_files import write_atomic

_log = logging.getLogger(__name__)


class VisitResult(BaseModel):
    """Finished visit of a cell: its output, or the reason of its failure."""

    stage: str
    number: int
    output: VisitOutput | None = None
    failed: str = ""


class VisitLog:
    """Finished visits of a cell."""

    def __init__(self, file: Path) -> None:
        self._visits: dict[tuple[str, int], VisitResult] = {}
        whole, _, torn = (file.read_bytes() if file.exists() else b"").rpartition(b"\n")
        if torn:
            # The process ended in the middle of a line.
            os.truncate(file, len(whole) + 1 if whole else 0)
        lines = whole.split(b"\n") if whole else []
        kept = [line for number, line in enumerate(lines, 1) if self._read(line, f"line {number} of {file}")]
        if len(kept) < len(lines):
            write_atomic(file, b"".join(line + b"\n" for line in kept).decode())
        self._file = file

    def add(self, result: VisitResult) -> None:
        """Add a finished visit."""
        with self._file.open("ab") as file:
            file.write(result.model_dump_json().encode() + b"\n")
        self._note(result)

    def count(self, name: str) -> int:
        """Return the number of finished visits in the batches of one name."""
        return sum(of == name for of, _ in self._visits)

    def missing(self, batch: Batch) -> list[int]:
        """Return the numbers of the unfinished visits of a batch."""
        return [number for number in batch.numbers if (batch.name, number) not in self._visits]

    def outputs(self, batch: Batch) -> list[VisitOutput]:
        """Return the outputs of a batch's visits, in order; failed visits are left out."""
        found = (self._visits[batch.name, number].output for number in batch.numbers)
        return [output for output in found if output is not None]

    def failures(self, batch: Batch) -> dict[int, str]:
        """Return the reasons of failed visits, by number."""
        found = ((number, self._visits[batch.name, number]) for number in batch.numbers)
        return {number: one.failed for number, one in found if not one.output}

    def taught(self, name: str) -> list[Record]:
        """Return the records written by the batches of one name."""
        return [
            record
            for (of, _), one in self._visits.items()
            if of == name and one.output is not None
            for record in one.output.records
        ]

    @property
    def cost(self) -> float:
        """Cost of the visits in dollars."""
        return sum(one.output.usage.cost for one in self._visits.values() if one.output)

    @property
    def threads(self) -> set[str]:
        """Threads of the visits."""
        return {thread_of(name, number) for name, number in self._visits}

    def _read(self, line: bytes, which: str) -> bool:
        """Read a line, and return whether it is valid."""
        try:
            self._note(VisitResult.model_validate_json(line))
        except ValidationError:
            _log.warning("%s is damaged: its visit runs again", which)
            return False
        return True

    def _note(self, result: VisitResult) -> None:
        self._visits[result.stage, result.number] = result


def thread_of(name: str, number: int) -> str:
    """Return the thread name of a visit in its cell."""
    return f"{name}-{number}"
