"""Reward table with given rewards and distances, as opposed to fitted ones."""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike

from sim.arrays import Numbers, Positions
from sim.errors import BadInputError


def numbered(residents: Positions, n_users: int) -> Positions:
    """Return the row in `residents` of each user of the world, or -1, shape (n_users,)."""
    rows = np.full(n_users, -1, dtype=np.intp)
    rows[residents] = np.arange(len(residents))
    return rows


@dataclass(frozen=True, eq=False)
class GivenTable:
    """Table of given rewards and distances. Both arrays may be memory-mapped and are read row by row.

    Attributes:
        rewards: Rewards of users for items, shape (any, n_items).
        rows: Row in `rewards` of each user of the world; -1 for users who do not live on this table, shape (n_users,).
        pairs: Distance of each item (row) to each item (column), shape (n_items, n_items).
        tau: Distance below which items count as similar.
    """

    rewards: Numbers
    rows: Positions
    pairs: Numbers
    tau: float

    def ratings(self, user_row: int) -> Numbers:
        """Return the rewards of one user for every item, shape (n_items,).

        Raises:
            BadInputError: The user does not live on this table.
        """
        row = self.rows[user_row]
        if row < 0:
            raise BadInputError("this reward table does not contain the user; use the split of the user")
        return np.array(self.rewards[row])

    def fold_in(self, positions: ArrayLike, ratings: ArrayLike) -> NoReturn:
        """Refuse to predict: given rewards cover only the users of the table.

        Raises:
            BadInputError: Always.
        """
        raise BadInputError("this world has rewards for its own users only; choose one of them")

    def distances(self, position: int) -> Numbers:
        """Return the distances of one item to every item, shape (n_items,)."""
        return np.array(self.pairs[position])

    def distance(self, a: int, b: int) -> float:
        """Return the distance of the items at two positions."""
        return float(self.pairs[a, b])
