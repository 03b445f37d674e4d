"""Scales of ratings: how the values of a source become ratings from 0.5 to 5."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sim.data.fields import Malformed, number
from sim.data.ratings import HIGHEST_RATING, LOWEST_RATING
from sim.errors import BadInputError, MissingOptionsError

ScaleKind = Literal["stars", "range", "thumbs", "plays"]
SHARES = 5
THUMB_UP, THUMB_DOWN = 5.0, 1.0
# Ratings of another scale become 1 to 5, like the rewards of a world.
_LOWEST, _HIGHEST = 1.0, 5.0
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)-(-?\d+(?:\.\d+)?)")
_UP = frozenset("1 1.0 up true t yes y like liked thumbs_up thumbsup + positive recommended".split())
_DOWN = frozenset("-1 -1.0 down false f no n dislike disliked thumbs_down thumbsdown - negative".split())
_ZERO = frozenset(("0", "0.0"))
# With -1 for dislikes, a 0 is something else.
_NO_RATING = "with --drop-zeros if 0 means that there is no rating"


@dataclass(frozen=True)
class Scale:
    """Scale of a source's values.

    Attributes:
        kind: "stars" are ratings from 0.5 to 5 as they are; "range" has its own bounds; "thumbs" are likes (1) and
            dislikes (-1 or 0); "plays" are plays or hours, which become the quintile among the values of their item.
        low: Lowest value.
        high: Highest value.
    """

    kind: ScaleKind = "stars"
    low: float = LOWEST_RATING
    high: float = HIGHEST_RATING

    def __str__(self) -> str:
        return self.kind if self.kind in ("thumbs", "plays") else f"{self.low:g}-{self.high:g}"

    def read(self, value: object, column: str, read_as: Counter[str]) -> float:
        """Return a field as a value of the scale, which `Scale.ratings` converts.

        Raises:
            Malformed: The field is no value of any scale.
        """
        if self.kind == "thumbs":
            word = str(value).strip().casefold().replace(" ", "_")
            # A 0 stays one, since it is a dislike in some data sets and no rating in others.
            for words, found in ((_UP, 1), (_ZERO, 0), (_DOWN, -1)):
                if word in words:
                    return found
            raise Malformed(f"neither up nor down in {column!r}", value)
        return number(value, column, read_as)

    def ratings(self, values: NDArray[np.float64], items: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return values of the scale as ratings, shape (n,).

        Args:
            values: Values of the scale, shape (n,).
            items: Item of each value, shape (n,).
        """
        if self.kind == "plays":
            return shares_to_ratings(values, items)
        if self.kind == "thumbs":
            return np.where(values > 0, THUMB_UP, THUMB_DOWN)
        if self.kind == "range":
            return _LOWEST + (_HIGHEST - _LOWEST) * (values - self.low) / (self.high - self.low)
        return values


STARS = Scale()
PLAYS = Scale("plays", 0.0, float(np.finfo(np.float64).max))


def parse_scale(text: str) -> Scale:
    """Return the scale that a text names: `1-10`, `0-100`, `thumbs` or `plays`; ratings from 0.5 to 5 if empty.

    Raises:
        BadInputError: The text names no scale.
    """
    if not text:
        return STARS
    if text in ("thumbs", "plays"):
        return PLAYS if text == "plays" else Scale("thumbs", -1, 1)
    found = _RANGE.fullmatch(text)
    if not found or not float(found[1]) < float(found[2]):
        raise BadInputError(f"--scale {text[:40]!r} is no scale; write LOW-HIGH such as 1-10, or thumbs, or plays")
    low, high = float(found[1]), float(found[2])
    return STARS if (low, high) == (LOWEST_RATING, HIGHEST_RATING) else Scale("range", low, high)


def wrong_scale(values: NDArray[np.float64], scale: Scale, whose: str) -> MissingOptionsError | None:
    """Return the fault of values outside a scale, with the options for their own scale; None if all lie on it.

    Args:
        values: The values, shape (n,), at least one.
        scale: The scale.
        whose: Words for the values, such as "the first 100 ratings".
    """
    outside = values[(values < scale.low) | (values > scale.high)]
    if not len(outside):
        return None
    low, high = float(values.min()), float(values.max())
    fault = (
        f"the rating {outside[0]:g} is outside {scale}, as are {len(outside):,} of {whose}, which run from {low:g} to "
        f"{high:g}"
    )
    return MissingOptionsError(fault, *_likely_scale(low, high, set(np.unique(values).tolist())))


def _likely_scale(low: float, high: float, distinct: set[float]) -> tuple[list[str], str, list[str]]:
    """Return the options for the scale that values plainly have, a condition, and the options if it does not hold.

    Args:
        low: Lowest value.
        high: Highest value.
        distinct: Some of the values that occur, with the lowest and the highest.
    """
    if low >= -1 and high <= 1 and all(value in (-1, 0, 1) for value in distinct):
        return ["--scale", "thumbs"], _NO_RATING if {-1, 0} <= distinct else "", []
    if low < 0:
        return [f"--scale={low:g}-{high:g}"], "if these are its bounds", []
    top = next((top for top in (5, 6, 7, 10, 20, 100) if high <= top), None)
    if top is None:
        return ["--scale", "plays"], "if these are plays, hours or minutes; else correct the ratings in the source", []
    # One value far above all others is a mistake rather than a scale.
    others = sorted(distinct)[:-1]
    note = f"or correct the rating {high:g} in the source" if others and others[-1] <= HIGHEST_RATING < high / 2 else ""
    if low > 0:
        return ["--scale", f"{0 if low < 1 else 1}-{top}"], note, []
    stars = [] if top == HIGHEST_RATING else ["--scale", f"1-{top}"]
    return ["--drop-zeros", *stars], "if 0 means that there is no rating", ["--scale", f"0-{top}"]


def shares_to_ratings(values: NDArray[np.float64], items: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return each value's quintile (1 to 5) among its item's values, shape (n,).

    Equal values get the middle of their ranks. An item with one value, or with equal values only, therefore gives 3.
    """
    order = np.lexsort((values, items))
    by_item, by_value = items[order], values[order]
    first = np.searchsorted(by_item, by_item)
    size = np.searchsorted(by_item, by_item, side="right") - first
    # Runs of equal values of one item: their first rows in the sorted order.
    begins = np.flatnonzero(np.r_[True, (by_item[1:] != by_item[:-1]) | (by_value[1:] != by_value[:-1])])
    run = np.repeat(np.arange(len(begins)), np.diff(np.r_[begins, len(order)]))
    middle = (begins[run] + np.r_[begins[1:], len(order)][run]) / 2 - first
    ratings = np.empty(len(values))
    ratings[order] = 1 + np.minimum(np.floor(SHARES * middle / size), SHARES - 1)
    return ratings
