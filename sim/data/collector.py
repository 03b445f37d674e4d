"""Collector: builds ratings from the rows of a source, in little memory, and counts the unusable rows."""

import html
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.catalogue import Catalogue, Item, make_item
from sim.data.ratings import HIGHEST_RATING, LOWEST_RATING, Ratings
from sim.data.streaming import HOPELESS_AFTER, Malformed
from sim.errors import BadInputError

# A column with more genres than this holds something else; the memory of the fit grows with items times genres.
MOST_GENRES = 500
SHARES = 5
_LATEST = 2.0**62
# Ids of digits are sorted by value; if one is longer than this, all ids are sorted as text.
_LONGEST_NUMBER = 18

RawRow = TypeVar("RawRow")


class Collector:
    """Collector of ratings, then of the rated items.

    Args:
        hours: Whether the values are hours of play, which `ratings` converts to ratings.
    """

    def __init__(self, *, hours: bool = False) -> None:
        self._hours = hours
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._rows = (array("q"), array("q"))
        self._values = array("d")
        self._times = array("q")
        self._described: dict[str, Item] = {}
        self.left_out: Counter[str] = Counter()

    def each(self, path: Path, rows: Iterable[RawRow], use: Callable[[RawRow], None]) -> None:
        """Apply `use` to every row of a file, and count the malformed rows.

        Raises:
            BadInputError: The first 1,000 rows are all malformed, no row is usable, or a row holds a number out of
                range.
        """
        good = bad = 0
        for row in rows:
            try:
                use(row)
                good += 1
            except (Malformed, LookupError, TypeError):
                bad += 1
                if not good and bad >= HOPELESS_AFTER:
                    break
        if not good:
            raise BadInputError(f"{path} has no usable line ({bad} tried); check that it is the right file")
        if bad:
            self.left_out[f"malformed lines of {path.name}"] += bad

    def rate(self, user: object, item: object, value: float, time: float) -> None:
        """Add a rating, or hours of play.

        Raises:
            Malformed: The user or the item has no valid id, or the time is invalid.
            BadInputError: The value is out of range, which means that the file uses another scale.
        """
        user_id, item_id = id_text(user), id_text(item)
        if not abs(time) < _LATEST:
            raise Malformed
        if self._hours:
            if not 0 <= value < math.inf:
                raise BadInputError(
                    f"{value:g} is not a number of hours of play (item {item_id[:40]!r}); correct the source"
                )
            if value == 0:
                self.left_out["items never played"] += 1
                return
        elif not LOWEST_RATING <= value <= HIGHEST_RATING:
            raise BadInputError(
                f"the rating {value:g} of item {item_id[:40]!r} is outside {LOWEST_RATING:g}-{HIGHEST_RATING:g}; "
                "rescale or remove it in the source"
            )
        self._rows[0].append(self._users.setdefault(user_id, len(self._users)))
        self._rows[1].append(self._items.setdefault(item_id, len(self._items)))
        self._values.append(value)
        self._times.append(int(time))

    def describe(self, item: object, title: object, genres: Iterable[object]) -> None:
        """Add the title and genres of an item; items without ratings are skipped.

        Raises:
            Malformed: The id or the title is invalid.
        """
        item_id = id_text(item)
        if not isinstance(title, str) or not title.strip():
            raise Malformed
        if item_id not in self._items:
            return
        if item_id in self._described:
            self.left_out["items described twice"] += 1
            return
        names = dict.fromkeys(" ".join(html.unescape(str(genre)).split()) for genre in genres)
        kept = [name for name in names if name]
        self._described[item_id] = make_item(item_id, " ".join(html.unescape(title).split()), kept)

    def ratings(self) -> Ratings:
        """Return the ratings of the described items; if a user rated an item several times, the last rating.

        Users and items are sorted by id, so that the order of rows matters only for the last rating.

        Raises:
            BadInputError: No rated item is described, no item has a genre, or there are too many genres.
        """
        users, items = (np.frombuffer(rows, dtype=np.int64) if rows else np.empty(0, np.int64) for rows in self._rows)
        if not len(users):
            raise BadInputError("there is no rating in the source; check that it is the right file")
        known = np.array([item_id in self._described for item_id in self._items])[items]
        if not known.any():
            raise BadInputError("no rated item is among the items described; check that both files belong together")
        self._count("ratings of items that are not described", ~known)
        times = np.frombuffer(self._times, dtype=np.int64)
        kept = _last_of_each(np.flatnonzero(known), users, items, times)
        self.left_out["ratings given twice"] += int(known.sum()) - len(kept)
        user_ids, user_rows = _sorted_by_id(list(self._users), users[kept])
        item_ids, item_rows = _sorted_by_id(list(self._items), items[kept])
        catalogue = Catalogue(self._described[item_id] for item_id in item_ids)
        if not 0 < len(catalogue.genres) <= MOST_GENRES:
            raise BadInputError(
                f"the items have {len(catalogue.genres)} genres in all, where 1 to {MOST_GENRES} are needed; check the "
                "column of genres and what separates them (`|`)"
            )
        values = np.frombuffer(self._values)[kept]
        return Ratings(
            users=user_rows,
            items=item_rows,
            values=shares_to_ratings(values, item_rows) if self._hours else values,
            timestamps=times[kept],
            user_ids=tuple(user_ids),
            catalogue=catalogue,
            left_out={reason: count for reason, count in self.left_out.items() if count},
        )

    def _count(self, reason: str, rows: NDArray[np.bool_]) -> None:
        self.left_out[reason] += int(rows.sum())


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


def id_text(value: object) -> str:
    """Return an id as text.

    Raises:
        Malformed: The value is no valid id.
    """
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text:
        raise Malformed
    return text


def _last_of_each(
    rows: NDArray[np.intp], users: NDArray[np.int64], items: NDArray[np.int64], times: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Return the latest row of each user and item, in order; for equal times, the row that comes later."""
    order = rows[np.lexsort((rows, times[rows], items[rows], users[rows]))]
    last = np.r_[(users[order][1:] != users[order][:-1]) | (items[order][1:] != items[order][:-1]), True]
    return np.sort(order[last])


def _sorted_by_id(ids: Sequence[str], rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.intp]]:
    """Return the ids that occur, sorted (numbers by value), and the rows as indices into them."""
    used = np.unique(rows)
    names = [ids[row] for row in used]
    by_number = all(name.isdecimal() and len(name) <= _LONGEST_NUMBER for name in names)
    order = sorted(range(len(names)), key=lambda place: (int(names[place]) if by_number else 0, names[place]))
    places = np.empty(len(ids), dtype=np.intp)
    places[used[order]] = np.arange(len(order))
    return [names[place] for place in order], places[rows]
