"""Collector: builds ratings from the rows of a source, in little memory, and counts the unusable rows."""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.catalogue import EARLIEST_YEAR, LATEST_YEAR, Catalogue, Item, make_item
from sim.data.categories import BY_CLUSTER, BY_DECADE, MOST_CATEGORIES, by_decade, most_frequent
from sim.data.fields import Malformed, genre_names, id_text, is_missing, title_text
from sim.data.ratings import Ratings
from sim.data.scale import STARS, Scale, wrong_scale
from sim.data.streaming import HOPELESS_AFTER
from sim.errors import BadInputError, MissingOptionsError
from sim.plain_text import field_text

# A column with more genres than this holds something else; the memory of the fit grows with items times genres.
MOST_GENRES = 500
# Year in brackets at the end of a title, as GroupLens has it.
_YEAR_IN_TITLE = re.compile(r"\(((?:18|19|20)\d\d)\)\W*$")
_LATEST = 2.0**62
_LONGEST_DESCRIPTION = 2_000
# Reasons why a file has no usable line that its message gives.
_REASONS_SHOWN = 3
_LONGEST_VALUE = 60
# Ids of digits are sorted by value; if one is longer than this, all ids are sorted as text.
_LONGEST_NUMBER = 18

RawRow = TypeVar("RawRow")


@dataclass
class _Fault:
    """Number of rows with one fault, and the first of them."""

    count: int
    place: str
    value: object

    def example(self) -> str:
        """Return the place of the first row, with its value if there is one."""
        return self.place if self.value is None else f"{self.place}: {_shown(self.value)}"


class Collector:
    """Collector of ratings, then of the rated items.

    Args:
        scale: Scale of the values, which `ratings` converts to ratings from 0.5 to 5.
        drop_zeros: Whether a value of 0 means that there is no rating.
        categories: Categories of the items: their genres if empty, "decades", "clusters" (none yet), or the name of the
            column that `describe` gets as genres.
        most: Number of the most frequent categories to keep if they come from a column.

    Attributes:
        left_out: Numbers of rows that gave no rating, by reason.
        read_as: Numbers of values that were read as what they plainly mean, by meaning.
    """

    def __init__(
        self, *, scale: Scale = STARS, drop_zeros: bool = False, categories: str = "", most: int = MOST_CATEGORIES
    ) -> None:
        self._scale, self._drop_zeros = scale, drop_zeros
        self._categories, self._most = categories, most
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._rows = (array("i"), array("i"))
        self._values = array("d")
        self._times = array("q")
        self._described: dict[str, Item] = {}
        self._an_item = ""
        self.left_out: Counter[str] = Counter()
        self.read_as: Counter[str] = Counter()

    def each(self, path: Path, rows: Iterable[RawRow], use: Callable[[RawRow], None]) -> None:
        """Apply `use` to every row of a file, and count the malformed rows by reason, with the first of each.

        Args:
            path: The file.
            rows: Its rows; Readers know their lines, other rows are counted from 1.
            use: Takes a row; raises `Malformed` if it cannot.

        Raises:
            BadInputError: The first 1,000 rows are all malformed, or no row is usable.
        """
        good = bad = 0
        faults: dict[str, _Fault] = {}
        iterator = iter(rows)
        while True:
            try:
                row = next(iterator)
            except StopIteration:
                break
            except Malformed as error:
                why = error
            else:
                try:
                    use(row)
                    good += 1
                    continue
                except Malformed as error:
                    why = error
                except (LookupError, TypeError) as error:
                    why = Malformed(f"no field {error}" if isinstance(error, KeyError) else "a field of another form")
            bad += 1
            line = getattr(iterator, "line", good + bad)
            place = f"{getattr(iterator, 'unit', 'row')} {line:,}"
            faults.setdefault(why.reason, _Fault(0, place, why.value)).count += 1
            if not good and bad >= HOPELESS_AFTER:
                break
        if not good:
            reasons = [f"{reason} ({fault.example()})" for reason, fault in faults.items()][:_REASONS_SHOWN]
            told = f": {'; '.join(reasons)}" if reasons else ""
            raise BadInputError(f"{path} has no usable line ({bad} tried){told}; check that it is the right file")
        for reason, fault in faults.items():
            self.left_out[f"lines of {path.name}: {reason} (first: {fault.example()})"] += fault.count

    def rate(self, user: object, item: object, value: float, time: float) -> None:
        """Add a rating, or a value of the collector's scale.

        Raises:
            Malformed: The user or the item has no valid id, or the value or the time is invalid.
        """
        user_id, item_id = id_text(user, "user", self.read_as), id_text(item, "item", self.read_as)
        if not abs(time) < _LATEST:
            raise Malformed("a time out of range", time)
        if value == 0 and (self._drop_zeros or self._scale.kind == "plays"):
            self.left_out["items never played" if self._scale.kind == "plays" else "ratings of 0, which are none"] += 1
            return
        if not abs(value) < _LATEST:
            raise Malformed("a rating that is no number", value)
        self._rows[0].append(self._users.setdefault(user_id, len(self._users)))
        self._rows[1].append(self._items.setdefault(item_id, len(self._items)))
        self._values.append(value)
        self._times.append(int(time))

    def describe(
        self,
        item: object,
        title: object,
        genres: Any,
        year: float | None = None,
        description: object = None,
    ) -> None:
        """Add the title and genres of an item; items without ratings are skipped.

        A year becomes part of the title if several items share the title. Without `year`, the item gets the year in
        brackets at the end of its title. Of a description, the first 2,000 characters are kept.

        Raises:
            Malformed: The id, the title or the genres are invalid.
        """
        item_id = id_text(item, "item", self.read_as)
        name, kept = title_text(title), dict.fromkeys(genre_names(genres))
        self._an_item = self._an_item or item_id
        if item_id not in self._items:
            return
        if item_id in self._described:
            self.left_out["items described twice"] += 1
            return
        if year is None and (found := _YEAR_IN_TITLE.search(name)):
            year = int(found[1])
        known = year is not None and EARLIEST_YEAR <= year <= LATEST_YEAR
        text = "" if is_missing(description) else field_text(str(description))[:_LONGEST_DESCRIPTION]
        self._described[item_id] = make_item(
            item_id, name, list(kept), int(year) if year is not None and known else None, text or None
        )

    def ratings(self) -> Ratings:
        """Return the ratings of the described items; if a user rated an item several times, the last rating.

        Users and items are sorted by id, so that the order of rows matters only for the last rating.

        Raises:
            BadInputError: A value is outside the scale, no rated item is described, no item has a genre, or there are
                too many genres. All of these faults are in one message.
        """
        users, items = (np.frombuffer(rows, dtype=np.int32) if rows else np.empty(0, np.int32) for rows in self._rows)
        if not len(users):
            raise BadInputError("there is no rating in the source; check that it is the right file")
        known = np.array([item_id in self._described for item_id in self._items])[items]
        self._check(known)
        self.left_out["ratings of items that are not described"] += int((~known).sum())
        times = np.frombuffer(self._times, dtype=np.int64)
        kept = _last_of_each(np.flatnonzero(known), users, items, times)
        self.left_out["ratings given twice"] += int(known.sum()) - len(kept)
        user_ids, user_rows = _sorted_by_id(list(self._users), users[kept])
        item_ids, item_rows = _sorted_by_id(list(self._items), items[kept])
        described = [self._described[item_id] for item_id in item_ids]
        values = np.frombuffer(self._values)[kept]
        if self._scale.kind in ("range", "thumbs"):
            self.read_as[f"ratings of the scale {self._scale}"] = len(values)
        return Ratings(
            users=user_rows,
            items=item_rows,
            values=self._scale.ratings(values, item_rows),
            timestamps=times[kept],
            user_ids=tuple(user_ids),
            catalogue=Catalogue(self._told_apart(self._categorised(described, np.bincount(item_rows)))),
            left_out={reason: count for reason, count in self.left_out.items() if count},
            read_as=dict(self.read_as),
        )

    def _check(self, known: NDArray[np.bool_]) -> None:
        """Check the scale, the ids and the genres.

        Raises:
            BadInputError: Some are wrong; one message has all of it.
        """
        values = np.frombuffer(self._values)
        scale = wrong_scale(values, self._scale, f"all {len(values):,} ratings")
        others = [fault for fault in (self._apart(known), self._wrong_genres()) if fault]
        if scale:
            raise MissingOptionsError(
                "; ".join([scale.fault, *others]), scale.options, scale.condition, scale.otherwise
            )
        if others:
            raise BadInputError("; ".join(others))

    def _apart(self, known: NDArray[np.bool_]) -> str:
        if known.any():
            return ""
        rated = next(iter(self._items))
        other = f", the items {_shown(self._an_item)}" if self._an_item else ""
        return (
            f"no rated item is among the items described: the ratings have {_shown(rated)}{other}; check that both "
            "files belong together, and the columns of their ids"
        )

    def _wrong_genres(self) -> str:
        if self._categories or not self._described:
            return ""
        count = len({genre for item in self._described.values() for genre in item.genres})
        if 0 < count <= MOST_GENRES:
            return ""
        instead = "the column of genres and --most 20 for the most frequent" if count else "a column"
        return (
            f"the items have {count} genres in all, where 1 to {MOST_GENRES} are needed; check the column of genres "
            f"and what separates them (`|`), or add --categories with {instead}, {BY_DECADE}, or {BY_CLUSTER}"
        )

    def _categorised(self, items: list[Item], weights: NDArray[np.intp]) -> list[Item]:
        """Return the items with their final categories."""
        if self._categories == BY_DECADE:
            return by_decade(items)
        if self._categories == BY_CLUSTER:
            return [replace(item, genres=()) for item in items]
        return most_frequent(items, weights.tolist(), self._most) if self._categories else items

    def _told_apart(self, items: Sequence[Item]) -> Iterator[Item]:
        """Yield the items, those that share a title with the year behind it, if it is known."""
        count = Counter(item.title for item in items)
        for item in items:
            shared = count[item.title] > 1 and item.year is not None and not _YEAR_IN_TITLE.search(item.title)
            yield replace(item, title=f"{item.title} ({item.year})") if shared else item


def _shown(value: object) -> str:
    """Return a value for a message, cut, and with escapes for what a terminal would obey."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _last_of_each(
    rows: NDArray[np.intp], users: NDArray[np.int32], items: NDArray[np.int32], times: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Return the latest row of each user and item, in order; for equal times, the row that comes later."""
    pairs = users[rows].astype(np.int64) * (int(items.max()) + 1) + items[rows]
    # The sort is stable, so that of equal times the later row comes last.
    order = np.lexsort((times[rows], pairs))
    last = np.r_[pairs[order][1:] != pairs[order][:-1], True]
    return np.sort(rows[order[last]])


def _sorted_by_id(ids: Sequence[str], rows: NDArray[np.int32]) -> tuple[list[str], NDArray[np.intp]]:
    """Return the ids that occur, sorted (numbers by value), and the rows as indices into them."""
    used = np.unique(rows)
    names = [ids[row] for row in used]
    by_number = all(name.isdecimal() and len(name) <= _LONGEST_NUMBER for name in names)
    order = sorted(range(len(names)), key=lambda place: (int(names[place]) if by_number else 0, names[place]))
    places = np.empty(len(ids), dtype=np.intp)
    places[used[order]] = np.arange(len(order))
    return [names[place] for place in order], places[rows]
