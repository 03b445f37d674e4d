"""A table whose rewards and distances are given, not fitted."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike

from sim.arrays import Numbers, Positions
from sim.errors import BadInputError


def numbered(residents: Positions, n_users: int) -> Positions:
    """Return, for each of the world's users, their place among `residents`, or -1, shape (n_users,)."""
    rows = np.full(n_users, -1, dtype=np.intp)
    rows[residents] = np.arange(len(residents))
    return rows


@dataclass(frozen=True, eq=False)
class GivenTable:
    """Hold given rewards and distances; both may be memory-mapped, and are read by the row.

    Attributes:
        rewards: What users give items, shape (any, n_items).
        rows: Row in `rewards` of every user of the world, -1 for users who do not live on this table, shape (n_users,).
        pairs: Distance of each item (row) to each item (column), shape (n_items, n_items).
        tau: The distance below which items count as similar.
    """

    rewards: Numbers
    rows: Positions
    pairs: Numbers
    tau: float

    def ratings(self, user_row: int) -> Numbers:
        """Return what one user gives every item, shape (n_items,).

        Raises:
            BadInputError: The user does not live on this table.
        """
        row = self.rows[user_row]
        if row < 0:
            raise BadInputError("this table of rewards was given without that user; take the split the user belongs to")
        return np.array(self.rewards[row])

    def fold_in(self, positions: ArrayLike, ratings: ArrayLike) -> NoReturn:
        """Refuse: given rewards say nothing of people who are not among them.

        Raises:
            BadInputError: Always.
        """
        raise BadInputError("the rewards of this world are given for its own users alone; name one of them as the user")

    def distances(self, position: int) -> Numbers:
        """Return the distances of one item to every item, shape (n_items,)."""
        return np.array(self.pairs[position])

    def distance(self, a: int, b: int) -> float:
        """Return the distance of the item at `a` to that at `b`."""
        return float(self.pairs[a, b])
