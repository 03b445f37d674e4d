"""Amazon Reviews of books, editions 2018 and 2023: ratings or reviews, and metadata with categories."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim.data.collector import Collector
from sim.data.ratings import Ratings
from sim.data.source import Source, SourceFiles
from sim.data.streaming import Columns, Malformed, json_rows, locate, number, table_rows

_RATINGS = ("Books.jsonl", "Books_5.json", "Books.json", "Books.csv", "ratings_Books.csv")
_ITEMS = ("meta_Books.jsonl", "meta_Books.json")
# Reviews of 2023 identify a book by its parent, which is the same for all formats and editions.
_NAMES = {
    "user": ("user_id", "reviewerID"),
    "item": ("parent_asin", "asin"),
    "rating": ("rating", "overall"),
    "time": ("timestamp", "unixReviewTime"),
}
# Tables of 2018 lack a header.
_HEADLESS = ("asin", "user_id", "rating", "timestamp")


def amazon(given: SourceFiles, seed: int) -> Ratings:
    """Read ratings (CSV) or reviews (JSON lines), and the metadata of the books.

    The genre of an item is its category directly below `Books`; deeper categories are too many and too fine.

    Raises:
        BadInputError: A file is missing or cannot be used.
    """
    del seed
    ratings, items = locate(given, "amazon", _RATINGS, _ITEMS)
    collector = Collector()
    (_table if ".csv" in ratings.suffixes else _reviews)(ratings, given, collector)
    collector.each(items, json_rows(items, given.progress), _describe(collector))
    return collector.ratings()


def _table(path: Path, given: SourceFiles, collector: Collector) -> None:
    rows = table_rows(path, given.progress, delimiter=",")
    first = next(rows)
    headless = len(first) == len(_HEADLESS) and first[-1].strip().isdecimal()
    columns = Columns(path, _HEADLESS if headless else first)
    user, item, rating, time = (columns.place(*names) for names in _NAMES.values())

    def rate(row: list[str]) -> None:
        collector.rate(row[user], row[item], number(row[rating]), number(row[time]))

    if headless:
        rate(first)
    collector.each(path, rows, rate)


def _reviews(path: Path, given: SourceFiles, collector: Collector) -> None:
    def rate(record: dict[str, Any] | None) -> None:
        user, item, rating, time = (_first(record, names) for names in _NAMES.values())
        collector.rate(user, item, number(rating), number(time))

    collector.each(path, json_rows(path, given.progress), rate)


def _describe(collector: Collector) -> Callable[[dict[str, Any] | None], None]:
    def describe(record: dict[str, Any] | None) -> None:
        categories = _first(record, ("categories", "category"))
        if not isinstance(categories, list):
            raise Malformed
        collector.describe(_first(record, _NAMES["item"]), _first(record, ("title",)), categories[1:2])

    return describe


def _first(record: dict[str, Any] | None, names: tuple[str, ...]) -> Any:
    if record is not None:
        for name in names:
            if name in record:
                return record[name]
    raise Malformed


SOURCE = Source("amazon", amazon, takes=("path", "ratings", "items"))
