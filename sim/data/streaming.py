"""Streaming readers: JSON records and table rows of a data file in bounded memory, whatever the file holds."""

import csv
import json
from abc import abstractmethod
from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from sim.data.fields import Malformed
from sim.data.opening import LONGEST_LINE, ReadProgress, lines
from sim.data.source import SourceFiles
from sim.errors import BadInputError

# If the first lines are all unusable, the file has another format, and reading on would only delay the message.
HOPELESS_AFTER = 1_000
# GroupLens' two signs come first: a header with them has none of the others.
DELIMITERS = ("::", ",", "\t", ";", "|")
# Python refuses columns of more than 131,072 characters, which a description may have; the limit is the process's.
csv.field_size_limit(LONGEST_LINE)

RowT = TypeVar("RowT", covariant=True)
JsonRow = dict[str, Any] | None
TableRow = Sequence[Any]


class RowReader(Iterator[RowT], Generic[RowT]):
    """Reader of a file. Iteration raises `Malformed` for a line that holds no row, and then continues.

    Attributes:
        line: Number of the line on which the last row started; 0 before the first row.
        unit: Word for what `line` counts.
    """

    unit = "line"

    def __init__(self) -> None:
        self.line = 0
        self._rows = self._read()

    def __next__(self) -> RowT:
        row = next(self._rows)
        if isinstance(row, Malformed):
            raise row
        return row

    @abstractmethod
    def _read(self) -> Iterator[RowT | Malformed]:
        """Yield the rows, and a `Malformed` for each line that holds none; keep `line`."""


class _JsonRows(RowReader[JsonRow]):
    """Records of a file; see `json_rows`."""

    def __init__(self, path: Path, progress: ReadProgress) -> None:
        self._path, self._progress = path, progress
        super().__init__()

    def _read(self) -> Iterator[JsonRow]:
        for line in lines(self._path, self._progress):
            self.line += 1
            if line:
                yield _record(line)


def json_rows(path: Path, progress: ReadProgress) -> RowReader[JsonRow]:
    """Return the records of a file with one JSON object or Python dictionary per line; None for a line without one.

    Args:
        path: The file.
        progress: See `SourceFiles.progress`.

    Raises:
        BadInputError: In the iteration, as for `lines`.
    """
    return _JsonRows(path, progress)


PartT = TypeVar("PartT")


class _Parts(RowReader[PartT]):
    """Parts of records; see `parts_of`."""

    def __init__(self, records: RowReader[JsonRow], parts: Callable[[JsonRow], Iterable[PartT]]) -> None:
        self._records, self._parts = records, parts
        super().__init__()

    def _read(self) -> Iterator[PartT | Malformed]:
        for record in self._records:
            self.line = self._records.line
            try:
                yield from self._parts(record)
            except Malformed as fault:
                yield fault


def parts_of(records: RowReader[JsonRow], parts: Callable[[JsonRow], Iterable[PartT]]) -> RowReader[PartT]:
    """Return the parts of all records, such as the items of a user, each a row of its own with the record's line.

    Args:
        records: The records.
        parts: Returns the parts of one record; raises `Malformed` if it has none.
    """
    return _Parts(records, parts)


class _TableRows(RowReader[list[str]]):
    """Reader of a table; see `table_rows`."""

    def __init__(
        self, path: Path, text: Iterator[str], delimiters: Sequence[str], *, quoted: bool, ragged: bool
    ) -> None:
        self._path, self._lines, self._delimiters, self._delimiter = path, text, delimiters, ""
        self._quoted, self._ragged, self._width = quoted, ragged, 0
        super().__init__()

    def _read(self) -> Iterator[list[str] | Malformed]:
        number = 0
        for line in self._lines:
            number += 1
            self.line = number
            # Lines before the header may have blanks; a later one may be a row of empty columns between tabs.
            if not line or (not self._delimiter and not line.strip()):
                continue
            self._delimiter = self._delimiter or max(self._delimiters, key=line.count)
            if '"' not in line or not self._quoted:
                row = line.split(self._delimiter)
            elif self._delimiter in ("\t", "::"):
                row = self._of_line(line)
            else:
                row, more = self._quoted_row(line)
                number += more
            yield self._checked(row)
        if not self._delimiter:
            raise BadInputError(f"{self._path} has only blank lines; use a table with rows")

    def _checked(self, row: list[str]) -> list[str] | Malformed:
        width = self._width = self._width or len(row)
        if len(row) == width or self._ragged:
            return row
        # A delimiter at the end of a line begins no column.
        if len(row) > width and not any(row[width:]):
            return row[:width]
        return Malformed(f"columns: {len(row)} instead of {width}", self._delimiter.join(row))

    def _of_line(self, line: str) -> list[str]:
        """Return the row of a line in which marks may be letters: enclosing ones if that gives the right columns."""
        plain = line.split(self._delimiter)
        if len(self._delimiter) > 1:
            return plain
        try:
            return next(csv.reader([line], delimiter=self._delimiter, strict=True))
        except csv.Error:
            return plain

    def _quoted_row(self, line: str) -> tuple[list[str], int]:
        """Return the row that starts with a line, and the number of further lines that it takes.

        Raises:
            BadInputError: A quotation mark is not closed, or is followed by something other than a delimiter.
        """
        parts, size, more = [line], len(line), 0
        while True:
            text = "\n".join(parts)
            row, fault = self._parsed(text)
            if row is not None:
                return row, more
            if "unexpected end" not in fault:
                raise self._unclosed(f"a quotation mark stands inside a quoted column ({fault})")
            # Only a line with a quotation mark can close the column.
            for line in self._lines:
                parts.append(line)
                more, size = more + 1, size + len(line) + 1
                if size > LONGEST_LINE:
                    raise self._unclosed("a quotation mark is never closed")
                if '"' in line:
                    break
            else:
                raise self._unclosed("a quotation mark is never closed")

    def _parsed(self, text: str) -> tuple[list[str] | None, str]:
        """Return the row of a text, and the fault if there is none."""
        row, fault = _csv_row(text, self._delimiter)
        if '\\"' in text and (row is None or (self._width and len(row) != self._width)):
            escaped, _ = _csv_row(text, self._delimiter, escapechar="\\")
            if escaped is not None and (row is None or len(escaped) == self._width):
                return escaped, ""
        return row, fault

    def _unclosed(self, fault: str) -> BadInputError:
        return BadInputError(
            f"{self._path} line {self.line} is no row of a table: {fault}; close the quotation mark, or double it if "
            "it is a letter"
        )


def table_rows(
    path: Path,
    progress: ReadProgress,
    *,
    delimiters: Sequence[str] = DELIMITERS,
    quoted: bool = True,
    fallback: str | None = None,
    ragged: bool = False,
) -> RowReader[list[str]]:
    """Return the rows of a file with delimited columns, its header first; each has as many columns as the header.

    Quotation marks enclose columns, with doubled or escaped (backslash) marks inside. In a table of tabs a mark that
    encloses no column is a letter, since many programs write such tables without quotation marks.

    Args:
        path: The file.
        progress: See `SourceFiles.progress`.
        delimiters: Possible separators of the columns; the most frequent one in the header is taken.
        quoted: Whether quotation marks enclose columns.
        fallback: Encoding of lines that are not UTF-8.
        ragged: Whether rows may have other numbers of columns than the first.

    Raises:
        BadInputError: In the iteration, as for `lines`, or if a quotation mark is not closed or all lines are blank.
    """
    text = lines(path, progress, fallback=fallback)
    return _TableRows(path, text, delimiters, quoted=quoted, ragged=ragged)


def _csv_row(text: str, delimiter: str, **dialect: Any) -> tuple[list[str] | None, str]:
    try:
        # Lines keep their ends, which a quoted column may contain.
        found = list(
            csv.reader([part + "\n" for part in text.split("\n")], delimiter=delimiter, strict=True, **dialect)
        )
    except csv.Error as error:
        return None, str(error)
    return (found[0], "") if len(found) == 1 else (None, "several rows")


class Columns:
    """Columns of a table, found by name in its header.

    Args:
        path: File of the table, for messages.
        header: Names of its columns.
    """

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self._path = path
        self._places = {name.strip(): place for place, name in enumerate(header)}

    def place(self, *names: str) -> int:
        """Return the index of the first of these columns that the table has.

        Raises:
            BadInputError: The table has none of them.
        """
        for name in names:
            if name in self._places:
                return self._places[name]
        raise BadInputError(
            f"{self._path} has no column {names[0]!r}, it has: {self.shown()}; name the right file and columns"
        )

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self._places)

    def shown(self) -> str:
        """Return the names of the columns for a message."""
        # A foreign file may contain control characters that a terminal would obey.
        return ", ".join(name if name.isprintable() else repr(name) for name in self._places)[:200]

    def maybe(self, *names: str) -> int | None:
        """Return the index of the first of these columns that the table has, or None."""
        return next((self._places[name] for name in names if name in self._places), None)


def locate(given: SourceFiles, source: str, ratings: Sequence[str], items: Sequence[str]) -> tuple[Path, Path]:
    """Return the files of ratings and of items: the given files, or the first match of each in the given folder.

    Args:
        given: A folder, or two files.
        source: Name of the source, for messages.
        ratings: Possible names of the file of ratings, without `.gz`.
        items: Possible names of the file of items, without `.gz`.

    Raises:
        BadInputError: The folder has no such file, or the options are incomplete or contradict each other.
    """
    if given.ratings and given.items and not given.path:
        return given.ratings, given.items
    if not given.path or given.ratings or given.items:
        raise BadInputError(f"the source {source!r} needs --path DIR, or --ratings FILE and --items FILE")
    return find_file(given.path, ratings), find_file(given.path, items)


def find_file(folder: Path, names: Iterable[str]) -> Path:
    """Return the first of these files in a folder, plain or gzipped.

    Raises:
        BadInputError: The folder has none of them.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise BadInputError(f"{folder} contains none of these files: {', '.join(names)}; give the folder with --path")


def _record(line: str) -> dict[str, Any] | None:
    # Some published files are called JSON but contain Python dictionaries. Only literals are read, and no code is run.
    # For input nested too deeply, the parser raises MemoryError.
    for parse in (json.loads, literal_eval):
        try:
            record = parse(line)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return record if isinstance(record, dict) else None
    return None
