"""Tables of ratings and items: CSV, TSV or Parquet, with column names set by `--columns`."""

import difflib
import html
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim.data.categories import BY_CLUSTER, BY_DECADE, OWN_GENRES
from sim.data.collector import Collector
from sim.data.fields import GENRE_SEPARATORS, Malformed, genre_names, number, seconds, year_of
from sim.data.opening import ReadProgress
from sim.data.parquet import is_parquet, parquet_rows
from sim.data.ratings import Ratings
from sim.data.scale import Scale, parse_scale, wrong_scale
from sim.data.source import Source, SourceFiles
from sim.data.streaming import Columns, RowReader, TableRow, table_rows
from sim.errors import BadInputError, MissingOptionsError

# Default names of the columns; `id` is the column of the item in the table of items.
TABLE_COLUMNS = ("user", "item", "rating", "time", "id", "title", "genres", "year", "description")
RATING_COLUMNS: tuple[str, ...] = ("user", "item", "rating")
ITEM_COLUMNS: tuple[str, ...] = ("id", "title", "genres")
OPTIONAL_COLUMNS: dict[tuple[str, ...], tuple[str, ...]] = {
    RATING_COLUMNS: ("time",),
    ITEM_COLUMNS: ("year", "description"),
}
# Usual names of the columns, in small letters without signs; the most telling first.
SYNONYMS = {
    "user": ("userid", "user", "readerid", "reader", "customerid", "customer", "memberid", "uid", "username"),
    "item": ("itemid", "item", "movieid", "bookid", "productid", "gameid", "asin", "isbn", "iid", "movie", "book"),
    "rating": ("rating", "bookrating", "score", "stars", "overall", "points", "value", "grade"),
    "time": ("time", "timestamp", "date", "ratedat", "createdat"),
    "id": ("id", "itemid", "movieid", "bookid", "productid", "gameid", "asin", "isbn", "iid", "item"),
    "title": ("title", "name", "itemname", "movietitle", "booktitle", "label"),
    "genres": ("genres", "genre", "categories", "category", "tags", "subjects", "type"),
    "year": ("year", "releaseyear", "publicationyear", "yearofpublication", "released", "date"),
    "description": ("description", "summary", "overview", "plot", "blurb"),
}
# Ratings that are looked at before all are read, so that a wrong scale is told at once; likewise lists of genres.
_SAMPLE = 20_000


def table(given: SourceFiles, seed: int) -> Ratings:
    """Read a table of ratings and a table of items.

    Genres are separated by `|`, `;` or `,`, or are a list or map (in JSON, as Python writes it, or of Parquet).
    Times are numbers or ISO dates. Without a column of times, later rows count as later ratings.

    Raises:
        BadInputError: A file is missing or cannot be used, or a column is missing or unknown. The message has all
            faults of the columns and of the scale, with the options to add.
    """
    del seed
    for name in given.columns:
        if name not in TABLE_COLUMNS:
            raise BadInputError(f"--columns has no column {name!r}; choose among: {', '.join(TABLE_COLUMNS)}")
    if given.ratings is None or given.items is None:
        raise BadInputError("the source 'csv' needs --ratings FILE and --items FILE")
    tables = _Tables(given.ratings, given.items, given, parse_scale(given.scale))
    tables.check()
    collector = Collector(scale=tables.scale, drop_zeros=given.drop_zeros, categories=given.categories, most=given.most)
    _read_ratings(tables, collector)
    _read_items(tables, collector)
    return collector.ratings()


@dataclass
class _Tables:
    """The two tables, and the names of their columns."""

    ratings: Path
    items: Path
    given: SourceFiles
    scale: Scale
    wanted: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        columns = self.given.columns
        self.wanted = {name: columns.get(name, name) for name in TABLE_COLUMNS}
        if self.given.categories not in ("", BY_DECADE, BY_CLUSTER, OWN_GENRES):
            self.wanted["genres"] = self.given.categories
        if "id" not in columns:
            self.wanted["id"] = columns.get("item", "item")

    def needed(self, columns: Sequence[str]) -> list[str]:
        """Return the fields that a table must have, of those of its kind, with the optional ones that were named."""
        without = ("genres",) if self.given.categories in (BY_DECADE, BY_CLUSTER) else ()
        named = [name for name in OPTIONAL_COLUMNS[tuple(columns)] if name in self.given.columns]
        return [name for name in columns if name not in without] + named

    def check(self) -> None:
        """Check the columns of both files, and some of the ratings, before all rows are read.

        Raises:
            BadInputError: Columns are missing, or the ratings have another scale; the message names all of it, and the
                options to add.
        """
        faults: list[str] = []
        chosen: dict[str, str] = {}
        headers = {path: _header(path, _rows(path, _silent)) for path in (self.ratings, self.items)}
        items = headers[self.items]
        if (
            not {"id", "item"} & self.given.columns.keys()
            and items.maybe("item") is None
            and items.maybe("id") is not None
        ):
            self.wanted["id"] = "id"
        for path, kind in ((self.ratings, RATING_COLUMNS), (self.items, ITEM_COLUMNS)):
            faults += self._missing(headers[path], path, self.needed(kind), chosen)
        options = ["--columns", ",".join(f"{name}={column}" for name, column in chosen.items())] if faults else []
        scale = self._wrong_scale(headers[self.ratings], chosen.get("rating", self.wanted["rating"]))
        if scale:
            faults.append(scale.fault)
            options += scale.options
        if faults:
            condition, otherwise = (scale.condition, scale.otherwise) if scale else ("", ())
            raise MissingOptionsError("; ".join(faults), options, condition, otherwise)

    def _missing(self, header: Columns, path: Path, fields: Sequence[str], chosen: dict[str, str]) -> list[str]:
        """Return the fault of missing columns, if any, and add to `chosen` the columns to name."""
        missing = [name for name in fields if header.maybe(self.wanted[name]) is None]
        taken = {self.wanted[name] for name in fields if name not in missing}
        for name in fields:
            likely = self.wanted[name] if name not in missing else _likely(name, header.names, taken)
            taken.add(likely)
            if name in missing or name in self.given.columns:
                chosen[name] = likely
        if not missing:
            return []
        lacks = ("column " if len(missing) == 1 else "columns ") + ", ".join(repr(self.wanted[one]) for one in missing)
        notes = ""
        if "id" in missing and "item" in self.given.columns and "id" not in self.given.columns:
            notes += " (`item` names the column of both tables; `id` names another one of the items)"
        if "genres" in missing and chosen["genres"] == "COLUMN":
            del chosen["genres"]
            notes += f" (without genres, add --categories with a column, {BY_DECADE} or {BY_CLUSTER})"
        return [f"{path} has no {lacks}, it has: {header.shown()}{notes}"]

    def _wrong_scale(self, header: Columns, column: str) -> MissingOptionsError | None:
        """Return the fault of the first ratings' scale; None if they lie on the scale."""
        place = header.maybe(column)
        if place is None or self.scale.kind == "thumbs":
            return None
        values: list[float] = []
        for cell in _first_cells(self.ratings, column):
            with suppress(Malformed):
                values.append(number(cell, column, read_as=Counter()))
        values = [value for value in values if not (value == 0 and self.given.drop_zeros)]
        return wrong_scale(np.array(values), self.scale, f"the first {len(values):,} ratings") if values else None


def _likely(field: str, names: Sequence[str], taken: Collection[str]) -> str:
    """Return the column that probably holds a field; `COLUMN` if none does."""
    known = {re.sub(r"[\W_]", "", name.casefold()): name for name in names if name not in taken}
    found = next((known[word] for word in SYNONYMS[field] if word in known), "")
    near = difflib.get_close_matches(field, known, n=1, cutoff=0.7)
    return found or (known[near[0]] if near else "COLUMN")


def _read_ratings(tables: _Tables, collector: Collector) -> None:
    rows = _rows(tables.ratings, tables.given.progress)
    columns, wanted = _header(tables.ratings, rows), tables.wanted
    user, item, rating = (columns.place(wanted[name]) for name in RATING_COLUMNS)
    named = "time" in tables.given.columns
    time = columns.place(wanted["time"]) if named else columns.maybe("time", "timestamp")
    of_time = "" if time is None else columns.names[time]
    read, of_rating, read_as = tables.scale.read, wanted["rating"], collector.read_as

    def rate(row: TableRow) -> None:
        when = 0 if time is None else seconds(row[time], of_time, read_as)
        collector.rate(row[user], row[item], read(row[rating], of_rating, read_as), when)

    collector.each(tables.ratings, rows, rate)


def _read_items(tables: _Tables, collector: Collector) -> None:
    genres = tables.wanted["genres"] if "genres" in tables.needed(ITEM_COLUMNS) else ""
    # Names of people hold commas: "King, Stephen".
    separators = GENRE_SEPARATORS if tables.given.categories in ("", OWN_GENRES) else GENRE_SEPARATORS[:-1]
    separator = _separator(tables.items, genres, separators) if genres else "|"
    rows = _rows(tables.items, tables.given.progress)
    columns = _header(tables.items, rows)
    item, title = (columns.place(tables.wanted[name]) for name in ITEM_COLUMNS[:2])
    of_genres = columns.place(genres) if genres else None
    year, about = (columns.maybe(tables.wanted[name]) for name in OPTIONAL_COLUMNS[ITEM_COLUMNS])

    def describe(row: TableRow) -> None:
        names = [] if of_genres is None else genre_names(row[of_genres], separator, genres)
        made = None if year is None else year_of(row[year])
        collector.describe(row[item], row[title], names, made, None if about is None else row[about])
        if separator != "|" and len(names) > 1:
            collector.read_as[f"lists of genres separated by {separator!r}"] += 1

    collector.each(tables.items, rows, describe)


def _separator(path: Path, column: str, separators: Sequence[str]) -> str:
    """Return what separates the genres of a column: the separator that most of its first texts have.

    A text counts for the first of the separators that it has, and so does the column if texts are equally many.
    """
    count = dict.fromkeys(separators, 0)
    for cell in _first_cells(path, column):
        if isinstance(cell, str) and cell.strip()[:1] not in ("[", "{"):
            text = html.unescape(cell)
            if found := next((separator for separator in separators if separator in text), ""):
                count[found] += 1
    return max(separators, key=count.__getitem__)


def _first_cells(path: Path, column: str) -> Iterator[Any]:
    """Yield the cells of a column in the first `_SAMPLE` rows."""
    rows = _rows(path, _silent)
    place = _header(path, rows).place(column)
    for _ in range(_SAMPLE):
        try:
            yield next(rows)[place]
        except StopIteration:
            return
        except Malformed:
            continue


def _rows(path: Path, progress: ReadProgress) -> RowReader[Sequence[Any]]:
    return parquet_rows(path, progress) if is_parquet(path) else table_rows(path, progress)


def _header(path: Path, rows: RowReader[Sequence[Any]]) -> Columns:
    return Columns(path, [str(name) for name in next(rows)])


def _silent(name: str, done: int, total: int) -> None:
    """Show no progress: rows are looked at before they are read."""


SOURCE = Source("csv", table, takes=("ratings", "items", "columns", "scale", "drop_zeros", "categories", "most"))
