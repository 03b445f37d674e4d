"""The visits of a cell that have ended, kept so that a study that was stopped goes on behind them."""

import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from graph.protocol import Split
from nodes.state import VisitOutput


class Ended(BaseModel):
    """A visit of a cell that has ended: what came of it, or why it could not go on."""

    split: Split
    number: int
    output: VisitOutput | None = None
    failed: str = ""


class Done:
    """The visits of a cell that have ended, each a line of a file: a study that was stopped goes on behind them."""

    def __init__(self, file: Path) -> None:
        self._visits: dict[tuple[Split, int], Ended] = {}
        whole, _, torn = (file.read_bytes() if file.exists() else b"").rpartition(b"\n")
        if torn:
            # The process was ended amid a line.
            os.truncate(file, len(whole) + 1 if whole else 0)
        for line in whole.splitlines():
            self._note(Ended.model_validate_json(line))
        self._file = file

    def __len__(self) -> int:
        return len(self._visits)

    def __contains__(self, visit: tuple[Split, int]) -> bool:
        return visit in self._visits

    def add(self, ended: Ended) -> None:
        """Add a visit that has ended."""
        with self._file.open("ab") as file:
            file.write(ended.model_dump_json().encode() + b"\n")
        self._note(ended)

    def count(self, split: Split) -> int:
        """Return how many visits of a split have ended."""
        return sum(of == split for of, _ in self._visits)

    def outputs(self, split: Split, numbers: Iterable[int]) -> list[VisitOutput]:
        """Return what came of visits, in their order; those that failed are left out."""
        found = (self._visits[split, number].output for number in numbers)
        return [output for output in found if output is not None]

    def failures(self, split: Split) -> dict[int, str]:
        """Return why visits failed, by their numbers."""
        return {
            number: one.failed for (of, number), one in sorted(self._visits.items()) if of == split and not one.output
        }

    @property
    def cost(self) -> float:
        """Return the dollars that the visits cost."""
        return sum(one.output.usage.cost for one in self._visits.values() if one.output)

    @property
    def threads(self) -> set[str]:
        """Return the threads of the visits."""
        return {thread_of(split, number) for split, number in self._visits}

    def _note(self, ended: Ended) -> None:
        self._visits[ended.split, ended.number] = ended


def thread_of(split: Split, number: int) -> str:
    """Return the name of a visit's thread in its cell."""
    return f"{split}-{number}"
