"""Rounds in memory: the experiences below one prefix of a store as arrays, which follow what is written and deleted."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from memory.changes import Changes, StoredChange
from memory.records import Experience
from memory.search.filters import Place
from sim.arrays import Mask
from sim.catalogue import Catalogue
from sim.leave import WINDOW
from sim.policies.pair_evidence import NOTHING, Rounds

_ROW = np.dtype(
    [
        ("item", np.int32),
        ("recent", np.int32, (WINDOW,)),
        ("predicted", np.float64),
        ("left", np.bool_),
        ("visit", np.int32),
        ("user", np.int32),
        # Number of the user's reward table.
        ("table", np.int32),
        # Seconds since 1970, infinite for ever; minus infinity marks a free row.
        ("until", np.float64),
    ]
)
_LEAST_ROWS = 256


class RememberedRounds:
    """Rounds of the experiences below a prefix.

    Args:
        catalogue: Items of the world.
        table_of: Returns the name of a user's reward table.

    Attributes:
        passed_over: Whether there were records that are no experiences of items of the catalogue.
    """

    def __init__(self, catalogue: Catalogue, table_of: Callable[[str], str]) -> None:
        self._catalogue = catalogue
        self._table_of = table_of
        self.passed_over = False
        self._forget()

    def _forget(self) -> None:
        self._held: NDArray[Any] = np.zeros(0, dtype=_ROW)
        self._rows: dict[Place, int] = {}
        self._free: list[int] = []
        # Ids of visits and users and names of tables, as numbers.
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of rounds, with expired ones that no sweep has deleted yet."""
        return len(self._rows)

    def apply(self, changes: Changes) -> None:
        """Take up what has changed in the store."""
        if changes.whole:
            self._forget()
        for place in changes.gone:
            self._remove(place)
        for change in changes.written:
            if not self._put(change):
                self.passed_over = True

    def rounds(self, hidden: Collection[str], left_out: str | None, table: str | None) -> Rounds:
        """Return the rounds that have not expired.

        Args:
            hidden: Ids of visits to leave out.
            left_out: Id of a user to leave out; None for nobody.
            table: Name of the reward table that the rounds are evidence for; None if they all tell the same of it.
        """
        held = self._held
        kept: Mask = held["until"] > datetime.now(UTC).timestamp()
        for visit in hidden:
            kept &= held["visit"] != self._numbers.get(visit, -1)
        if left_out is not None:
            kept &= held["user"] != self._numbers.get(left_out, -1)
        rows = held[kept]
        elsewhere = np.zeros(len(rows), np.bool_) if table is None else rows["table"] != self._numbers.get(table, -1)
        return Rounds(
            rows["item"].astype(np.intp),
            rows["recent"].astype(np.intp),
            rows["predicted"].copy(),
            rows["left"].copy(),
            elsewhere,
        )

    def _put(self, change: StoredChange) -> bool:
        """Add or replace a round, and return whether the record is a valid experience of this world."""
        self._remove(change.place)
        one = self._experience(change)
        if one is None:
            return False
        # Those of the original say neither; they are no fault, and teach nothing.
        if one.predicted is None or one.left is None:
            return True
        if not self._free:
            self._grow()
        at = self._rows[change.place] = self._free.pop()
        recent = [self._catalogue.position(item_id) for item_id in one.recent]
        self._held[at] = (
            self._catalogue.position(one.item_id),
            recent + [NOTHING] * (WINDOW - len(recent)),
            one.predicted,
            one.left,
            self._number(one.visit),
            self._number(one.user_id),
            self._number(self._table_of(one.user_id)),
            np.inf if change.until is None else change.until.timestamp(),
        )
        return True

    def _experience(self, change: StoredChange) -> Experience | None:
        try:
            one = Experience.model_validate(change.value)
        except ValidationError:
            return None
        # Records written by hand may hold any value.
        fits = len(one.recent) <= WINDOW and all(item_id in self._catalogue for item_id in (one.item_id, *one.recent))
        return one if fits else None

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _remove(self, place: Place) -> None:
        row = self._rows.pop(place, None)
        if row is not None:
            self._held["until"][row] = -np.inf
            self._free.append(row)

    def _grow(self) -> None:
        size = len(self._held)
        grown = np.zeros(max(_LEAST_ROWS, 2 * size), dtype=_ROW)
        grown[:size] = self._held
        grown["until"][size:] = -np.inf
        self._held = grown
        self._free = list(range(len(grown) - 1, size - 1, -1))
