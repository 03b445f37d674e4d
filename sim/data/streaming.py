"""Read the lines of data files as they stream by: bounded memory, whatever the file holds."""

import csv
import gzip
import itertools
import json
import zlib
from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from sim.data.source import SourceFiles
from sim.errors import BadInputError

# A Steam user with thousands of games takes a line of nearly 1 MB. A line of more than twice that is no record, and
# might be gigabytes out of a small archive.
LONGEST_LINE = 2 * 1024 * 1024
# A file whose first lines are all unusable is of another format: reading on would only take longer to say so.
HOPELESS_AFTER = 1_000
_LINES_A_REPORT = 20_000

ReadProgress = Callable[[str, int, int], None]


class Malformed(Exception):
    """Raised where one record cannot be used; the reader counts it and goes on."""


def lines(path: Path, progress: ReadProgress, *, fallback: str | None = None) -> Iterator[str]:
    """Yield the lines of a text file, which may be gzipped, without their ends.

    Args:
        path: The file; `.gz` at its end says that it is gzipped.
        progress: See `SourceFiles.progress`.
        fallback: Encoding of lines that are not UTF-8.

    Raises:
        BadInputError: It is missing, empty, damaged, not text, or has a line of more than 2 MiB.
    """
    with _opened(path) as (raw, text):
        size, number = path.stat().st_size, 0
        while line := text.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise BadInputError(f"{path} line {number} is longer than 2 MiB, so it is no record; check the file")
            if number % _LINES_A_REPORT == 0:
                progress(path.name, raw.tell(), size)
            yield _decoded(line, path, number, fallback).rstrip("\r\n")
        if not number:
            raise BadInputError(f"{path} is empty; take the file as it was published")
        progress(path.name, size, size)


def json_rows(path: Path, progress: ReadProgress) -> Iterator[dict[str, Any] | None]:
    """Yield the records of a file with one JSON object or Python dictionary a line, and None for a malformed line."""
    for line in lines(path, progress):
        yield _record(line)


def table_rows(
    path: Path, progress: ReadProgress, *, delimiter: str = "", quoted: bool = True, fallback: str | None = None
) -> Iterator[list[str]]:
    """Yield the rows of a file with delimited columns, its header included.

    Args:
        path: The file.
        progress: See `SourceFiles.progress`.
        delimiter: What stands between columns; if empty, the first line tells.
        quoted: Whether quotation marks enclose columns.
        fallback: Encoding of lines that are not UTF-8.

    Raises:
        BadInputError: As `lines`, or a quotation mark is not closed.
    """
    text = lines(path, progress, fallback=fallback)
    first = next(text).removeprefix("\ufeff")
    delimiter = delimiter or max(",\t;", key=first.count)
    rest = itertools.chain([first], text)
    if not quoted:
        yield from (line.split(delimiter) for line in rest)
        return
    try:
        # The ends are given back, for a quoted column may hold some.
        yield from csv.reader((line + "\n" for line in rest), delimiter=delimiter)
    except csv.Error as error:
        raise BadInputError(f"{path} is no table: {error}; check its quotation marks") from error


class Columns:
    """Finds columns by name in the header of a table.

    Args:
        path: The table's file, for messages.
        header: Names of its columns.
    """

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self._path = path
        self._places = {name.strip(): place for place, name in enumerate(header)}

    def place(self, *names: str) -> int:
        """Return where the first of these columns is that the table has.

        Raises:
            BadInputError: It has none of them.
        """
        for name in names:
            if name in self._places:
                return self._places[name]
        # A file of another kind may bring what a terminal would obey.
        has = ", ".join(name if name.isprintable() else repr(name) for name in self._places)[:200]
        raise BadInputError(f"{self._path} has no column {names[0]!r}, it has: {has}; name the right file and columns")

    def maybe(self, *names: str) -> int | None:
        """Return where the first of these columns is that the table has, or None."""
        return next((self._places[name] for name in names if name in self._places), None)


def locate(given: SourceFiles, source: str, ratings: Sequence[str], items: Sequence[str]) -> tuple[Path, Path]:
    """Return the files of ratings and of items: those that are given, or the first that the given folder holds.

    Args:
        given: A folder, or two files.
        source: Name of the source, for messages.
        ratings: Names that the file of ratings may have, `.gz` aside.
        items: Names that the file of items may have, `.gz` aside.

    Raises:
        BadInputError: There is no such file, or neither is given.
    """
    if given.ratings and given.items and not given.path:
        return given.ratings, given.items
    if not given.path or given.ratings or given.items:
        raise BadInputError(f"the source {source!r} needs --path DIR, or --ratings FILE and --items FILE")
    return find_file(given.path, ratings), find_file(given.path, items)


def find_file(folder: Path, names: Iterable[str]) -> Path:
    """Return the first of these files that a folder holds, gzipped or not.

    Raises:
        BadInputError: It holds none of them.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise BadInputError(f"{folder} holds none of these files: {', '.join(names)}; give the folder with --path")


def number(text: Any) -> float:
    """Return a number of a record.

    Raises:
        Malformed: It is none.
    """
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise Malformed from error


@contextmanager
def unharmed(path: Path) -> Iterator[None]:
    """Put the faults of a file that cannot be read into one line.

    Raises:
        BadInputError: It is missing, cannot be opened, or is damaged.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInputError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}; name a file that is there") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedIOBase, BufferedIOBase]]:
    """Yield a file as it is stored, which tells how much of it is read, and what is in it."""
    with unharmed(path), path.open("rb") as raw:
        if path.suffix == ".gz":
            with gzip.open(raw) as text:
                yield raw, text
        else:
            yield raw, raw


def _decoded(line: bytes, path: Path, number: int, fallback: str | None) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if fallback:
            return line.decode(fallback)
        raise BadInputError(
            f"{path} line {number} is not UTF-8 text; convert the file, such as with: iconv -f latin1 -t utf-8"
        ) from error


def _record(line: str) -> dict[str, Any] | None:
    # Some published files are called JSON but hold what Python prints; only literals of it are read, nothing is run.
    # The parser refuses what is nested too deep by MemoryError.
    for parse in (json.loads, literal_eval):
        try:
            record = parse(line)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return record if isinstance(record, dict) else None
    return None
