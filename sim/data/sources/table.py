"""Tables of ratings and items: CSV, TSV or Parquet, with column names set by `--columns`."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sim.data.collector import Collector
from sim.data.ratings import Ratings
from sim.data.source import Source, SourceFiles
from sim.data.streaming import Columns, Malformed, ReadProgress, number, table_rows, unharmed
from sim.errors import BadInputError

# Default names of the columns; `id` is the column of the item in the table of items.
TABLE_COLUMNS = ("user", "item", "rating", "time", "id", "title", "genres")
PARQUET = (".parquet", ".pq")
_ROWS_AT_ONCE = 50_000

TableRow = Sequence[Any]


def table(given: SourceFiles, seed: int) -> Ratings:
    """Read a table of ratings and a table of items.

    Genres are separated by `|`, or are a list (in JSON, or of Parquet). Times are numbers or ISO dates. Without a
    column of times, later rows count as later ratings.

    Raises:
        BadInputError: A file is missing or cannot be used, or a column is missing or unknown.
    """
    del seed
    for name in given.columns:
        if name not in TABLE_COLUMNS:
            raise BadInputError(f"--columns has no column {name!r}; choose among: {', '.join(TABLE_COLUMNS)}")
    if given.ratings is None or given.items is None:
        raise BadInputError("the source 'csv' needs --ratings FILE and --items FILE")
    collector = Collector()
    _read_ratings(given.ratings, given, collector)
    _read_items(given.items, given, collector)
    return collector.ratings()


def _read_ratings(path: Path, given: SourceFiles, collector: Collector) -> None:
    rows = _rows(path, given.progress)
    columns = Columns(path, [str(name) for name in next(rows)])
    user, item, rating = (columns.place(given.columns.get(name, name)) for name in ("user", "item", "rating"))
    time = columns.place(given.columns["time"]) if "time" in given.columns else columns.maybe("time", "timestamp")

    def rate(row: TableRow) -> None:
        collector.rate(row[user], row[item], number(row[rating]), 0 if time is None else _time(row[time]))

    collector.each(path, rows, rate)


def _read_items(path: Path, given: SourceFiles, collector: Collector) -> None:
    rows = _rows(path, given.progress)
    columns = Columns(path, [str(name) for name in next(rows)])
    item = columns.place(given.columns.get("id") or given.columns.get("item", "item"))
    title, genres = (columns.place(given.columns.get(name, name)) for name in ("title", "genres"))
    collector.each(path, rows, lambda row: collector.describe(row[item], row[title], _genres(row[genres])))


def _rows(path: Path, progress: ReadProgress) -> Iterator[TableRow]:
    return _parquet(path, progress) if path.suffix in PARQUET else table_rows(path, progress)


def _parquet(path: Path, progress: ReadProgress) -> Iterator[TableRow]:
    """Yield the header and the rows of a Parquet file, with one batch in memory at a time."""
    try:
        # pyarrow is an optional extra, because it is larger than the rest of the core together.
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise BadInputError(f"{path.name} needs the package pyarrow; run: pip install 'billp[parquet]'") from error
    with unharmed(path):
        try:
            with ParquetFile(path) as file:
                yield file.schema_arrow.names
                done, total = 0, file.metadata.num_rows
                if not total:
                    raise BadInputError(f"{path} is empty; use a table with rows")
                for batch in file.iter_batches(_ROWS_AT_ONCE):
                    yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
                    done += len(batch)
                    progress(path.name, done, total)
        except ArrowException as error:
            raise BadInputError(f"{path} is damaged or not a Parquet file ({error}); download it again") from error


def _time(value: Any) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    try:
        return number(value)
    except Malformed:
        try:
            return datetime.fromisoformat(str(value)).timestamp()
        except (ValueError, OverflowError) as error:
            raise Malformed from error


def _genres(value: Any) -> list[str]:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise Malformed from error
    if isinstance(value, str):
        return value.split("|")
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed
    return [str(name) for name in value]


SOURCE = Source("csv", table, takes=("ratings", "items", "columns"))
