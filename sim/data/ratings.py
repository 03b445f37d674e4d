"""Ratings of items by users: the common format of all sources."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim.catalogue import Catalogue
from sim.errors import BadInputError

LOWEST_RATING, HIGHEST_RATING = 0.5, 5.0


@dataclass(frozen=True, eq=False)
class Ratings:
    """Explicit ratings in four parallel arrays, one entry per rating.

    Attributes:
        users: Row of the rating user in `user_ids`, shape (n,).
        items: Position of the rated item in `catalogue`, shape (n,).
        values: Rating from 0.5 to 5, shape (n,).
        timestamps: Time of the rating, in whole seconds or any other unit that orders, shape (n,).
        user_ids: Ids of the users, unique.
        catalogue: The rated items.
        left_out: Numbers of rows of the source that gave no rating, by reason.
        source: Name of the source; None if unknown.
        read_as: Numbers of values that were read as what they plainly mean, by meaning.

    Raises:
        BadInputError: The arrays differ in length, a row is out of range, a rating is not a number from 0.5 to 5, a
            user rates an item twice, or user ids are not unique.
    """

    users: NDArray[np.intp]
    items: NDArray[np.intp]
    values: NDArray[np.float64]
    timestamps: NDArray[np.int64]
    user_ids: tuple[str, ...]
    catalogue: Catalogue
    left_out: Mapping[str, int] = field(default_factory=dict)
    source: str | None = None
    read_as: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = len(self.values)
        if not size:
            raise BadInputError("there are no ratings; check the source they are read from")
        if not len(self.users) == len(self.items) == len(self.timestamps) == size:
            raise BadInputError("users, items, values and timestamps of ratings must have one entry per rating")
        if len(set(self.user_ids)) != len(self.user_ids):
            raise BadInputError("a user id occurs twice; give every user an id of their own")
        for name, rows, bound in (
            ("user", self.users, len(self.user_ids)),
            ("item", self.items, len(self.catalogue)),
        ):
            if rows.min() < 0 or rows.max() >= bound:
                raise BadInputError(
                    f"a rating names {name} row {rows.min()} to {rows.max()}, but there are only {bound}"
                )
        # NaN compares false to everything, so this form refuses NaN too.
        wrong = ~((self.values >= LOWEST_RATING) & (self.values <= HIGHEST_RATING))
        if wrong.any():
            raise BadInputError(
                f"{int(wrong.sum())} ratings lie outside {LOWEST_RATING}-{HIGHEST_RATING} (the first is "
                f"{self.values[wrong][0]}); rescale or drop them in the source"
            )
        pairs = self.users.astype(np.int64) * len(self.catalogue) + self.items
        if len(np.unique(pairs)) != size:
            raise BadInputError("a user rates the same item twice; keep one rating per user and item")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dropped(self) -> int:
        """Number of rows of the source that gave no rating."""
        return sum(self.left_out.values())
