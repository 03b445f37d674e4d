"""Amazon Reviews of books, editions 2014, 2018 and 2023: ratings or reviews, and metadata with categories."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sim.data.collector import Collector
from sim.data.fields import Malformed, number
from sim.data.ratings import Ratings
from sim.data.source import Source, SourceFiles
from sim.data.streaming import Columns, JsonRow, json_rows, locate, table_rows

_RATINGS = (
    *("Books.jsonl", "Books_5.json", "Books.json", "Books.csv"),
    *("reviews_Books_5.json", "reviews_Books.json", "ratings_Books.csv"),
)
_ITEMS = ("meta_Books.jsonl", "meta_Books.json")
# Reviews of 2023 identify a book by its parent, which is the same for all formats and editions.
_NAMES = {
    "user": ("user_id", "reviewerID"),
    "item": ("parent_asin", "asin"),
    "rating": ("rating", "overall"),
    "time": ("timestamp", "unixReviewTime"),
}
# Tables of 2014 and 2018 lack a header, and differ in the order of their columns.
_HEADLESS = {
    2014: ("user_id", "asin", "rating", "timestamp"),
    2018: ("asin", "user_id", "rating", "timestamp"),
}
# A book's ASIN is its ISBN-10, or begins with B; a user's id begins with A.
_ASIN = re.compile(r"\d{9}[\dXx]|B[0-9A-Z]{9}")
_USER = re.compile(r"A[0-9A-Z]{8,}")


def amazon(given: SourceFiles, seed: int) -> Ratings:
    """Read ratings (CSV) or reviews (JSON lines), and the metadata of the books.

    The genre of an item is its category directly below `Books`; deeper categories are too many and too fine.

    Raises:
        BadInputError: A file is missing or cannot be used.
    """
    del seed
    ratings, items = locate(given, "amazon", _RATINGS, _ITEMS)
    collector = Collector(drop_zeros=given.drop_zeros, categories=given.categories, most=given.most)
    (_table if ".csv" in ratings.suffixes else _reviews)(ratings, given, collector)
    collector.each(items, json_rows(items, given.progress), _describe(collector))
    return collector.ratings()


def _table(path: Path, given: SourceFiles, collector: Collector) -> None:
    first = next(table_rows(path, given.progress, delimiters=","))
    headless = len(first) == 4 and first[-1].strip().isdecimal()
    rows = table_rows(path, given.progress, delimiters=",")
    columns = Columns(path, _HEADLESS[_edition(first, path)] if headless else next(rows))
    user, item, rating, time = (columns.place(*names) for names in _NAMES.values())

    def rate(row: Sequence[str]) -> None:
        collector.rate(row[user], row[item], number(row[rating], "rating"), number(row[time], "timestamp"))

    collector.each(path, rows, rate)


def _edition(first: Sequence[str], path: Path) -> int:
    """Return the edition of a table without a header, by the form of its first ids or else by its name."""
    for edition, (item, user) in ((2014, (first[1], first[0])), (2018, (first[0], first[1]))):
        if _ASIN.fullmatch(item) and _USER.fullmatch(user):
            return edition
    return 2014 if path.name.startswith("ratings_") else 2018


def _reviews(path: Path, given: SourceFiles, collector: Collector) -> None:
    def rate(record: JsonRow) -> None:
        user, item, rating, time = (_first(record, names) for names in _NAMES.values())
        collector.rate(user, item, number(rating, "rating"), number(time, "timestamp"))

    collector.each(path, json_rows(path, given.progress), rate)


def _describe(collector: Collector) -> Callable[[JsonRow], None]:
    def describe(record: JsonRow) -> None:
        categories = _first(record, ("categories", "category"))
        if not isinstance(categories, list):
            raise Malformed("no list in 'categories'", categories)
        # In 2014 an item has several paths of categories, later one path.
        paths = categories if all(isinstance(path, list) for path in categories) else [categories]
        about = (record or {}).get("description")
        about = " ".join(map(str, about)) if isinstance(about, list) else about
        genres = [path[1] for path in paths if len(path) > 1]
        collector.describe(_first(record, _NAMES["item"]), _first(record, ("title",)), genres, description=about)

    return describe


def _first(record: JsonRow, names: tuple[str, ...]) -> Any:
    if record is None:
        raise Malformed("no record")
    for name in names:
        if name in record:
            return record[name]
    raise Malformed(f"no field {names[0]!r}")


SOURCE = Source("amazon", amazon, takes=("path", "ratings", "items", "drop_zeros", "categories", "most"))
