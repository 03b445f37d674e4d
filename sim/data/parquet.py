"""Reader of Parquet files: one file, or a folder of parts as Spark writes them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sim.data.fields import Malformed
from sim.data.opening import PARQUET, ReadProgress, first_bytes, unharmed
from sim.data.streaming import RowReader
from sim.errors import BadInputError

_SUFFIXES = (".parquet", ".pq")
_ROWS_AT_ONCE = 50_000


def is_parquet(path: Path) -> bool:
    """Return whether a path is a Parquet file, by its first bytes or its name, or a folder.

    Raises:
        BadInputError: The file cannot be read.
    """
    return path.is_dir() or path.suffix.lower() in _SUFFIXES or first_bytes(path).startswith(PARQUET)


def parquet_rows(path: Path, progress: ReadProgress) -> RowReader[Sequence[Any]]:
    """Return the names of the columns, then the rows, with one batch in memory at a time.

    Times and dates come as texts of the form `2015-03-31 12:00:00`, in UTC, so that any precision and any year is read.

    Args:
        path: A file, or a folder of files.
        progress: See `SourceFiles.progress`; called with numbers of bytes.

    Raises:
        BadInputError: In the iteration: pyarrow is missing, or a file is empty, damaged or not Parquet.
    """
    return _ParquetRows(path, progress)


class _ParquetRows(RowReader[Sequence[Any]]):
    unit = "row"

    def __init__(self, path: Path, progress: ReadProgress) -> None:
        self._path, self._progress = path, progress
        super().__init__()

    def _read(self) -> Iterator[Sequence[Any] | Malformed]:
        try:
            # pyarrow is an optional extra, because it is larger than the rest of the core together.
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError as error:
            raise BadInputError(
                f"{self._path.name} needs the package pyarrow; run: pip install 'billp[parquet]'"
            ) from error
        part, done, before = self._path, 0, 0
        names: list[str] = []
        try:
            parts = _parts(self._path)
            # By their sizes: numbers of rows would need each part to be opened before the first row.
            sizes = [_size(part) for part in parts]
            for part, size in zip(parts, sizes, strict=True):
                with unharmed(part), ParquetFile(part) as file:
                    of_part = _names(file, part)
                    if not names:
                        names = of_part
                        yield names
                    if not set(names) <= set(of_part):
                        raise BadInputError(f"{part} lacks columns of the other parts; it needs: {', '.join(names)}")
                    first = done
                    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=names):
                        columns = [_values(batch.column(name)) for name in names]
                        for self.line, row in enumerate(zip(*columns, strict=True), done + 1):
                            yield row
                        done += len(batch)
                        read = size * (done - first) // max(1, file.metadata.num_rows)
                        self._progress(self._path.name, before + read, sum(sizes))
                before += size
            if not done:
                raise BadInputError(f"{self._path} is empty; use a table with rows")
        except ArrowException as error:
            why = str(error).splitlines()[0] if str(error) else "no reason given"
            raise BadInputError(f"{part} is damaged or not a Parquet file ({why}); download it again") from error


def _parts(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # Hidden files and those with an underscore are notes of the program that wrote the folder.
    parts = sorted(
        part
        for part in path.rglob("*")
        if part.is_file() and part.suffix.lower() in _SUFFIXES and part.name[0] not in "._"
    )
    if not parts:
        raise BadInputError(f"{path} is a folder without Parquet files, so it cannot be read as a table; name a file")
    return parts


def _size(part: Path) -> int:
    with unharmed(part):
        return part.stat().st_size


def _names(file: Any, part: Path) -> list[str]:
    names: list[str] = file.schema_arrow.names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInputError(f"{part} has several columns named {twice!r}; rename or drop all but one")
    return names


def _values(column: Any) -> list[Any]:
    """Return the values of a column, with times as texts and binary texts decoded."""
    import pyarrow as pa

    types = pa.types
    binary = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind):
        # Without its zone a time is in UTC; values with more digits than microseconds would need pandas.
        column = column.cast(pa.timestamp(kind.unit)).cast(pa.string())
    elif pa.types.is_date(kind) or any(is_kind(kind) for is_kind in binary):
        column = column.cast(pa.string())
    found: list[Any] = column.to_pylist()
    return found
