"""Streaming readers: lines, JSON records and table rows of a data file in bounded memory, whatever the file holds."""

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

# A Steam user with thousands of games has a line of nearly 1 MB. A line more than twice as long is no record, and a
# small archive may expand to gigabytes of it.
LONGEST_LINE = 2 * 1024 * 1024
# If the first lines are all unusable, the file has another format, and reading on would only delay the message.
HOPELESS_AFTER = 1_000
LINES_A_REPORT = 20_000

ReadProgress = Callable[[str, int, int], None]


class Malformed(Exception):
    """Error for a single unusable record; the reader counts it and continues."""


def lines(path: Path, progress: ReadProgress, *, fallback: str | None = None) -> Iterator[str]:
    """Yield the lines of a text file, plain or gzipped, without line ends.

    Args:
        path: The file; the suffix `.gz` marks a gzipped file.
        progress: See `SourceFiles.progress`.
        fallback: Encoding of lines that are not UTF-8.

    Raises:
        BadInputError: The file is missing, empty, damaged or not text, or has a line of more than 2 MiB.
    """
    with _opened(path) as (raw, text):
        size, number = path.stat().st_size, 0
        while line := text.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise BadInputError(f"{path} line {number} is longer than 2 MiB, so it is not a record; check the file")
            if number % LINES_A_REPORT == 0:
                progress(path.name, raw.tell(), size)
            yield _decoded(line, path, number, fallback).rstrip("\r\n")
        if not number:
            raise BadInputError(f"{path} is empty; use the file as it was published")
        progress(path.name, size, size)


def json_rows(path: Path, progress: ReadProgress) -> Iterator[dict[str, Any] | None]:
    """Yield the records of a file with one JSON object or Python dictionary per line; None for a malformed line."""
    for line in lines(path, progress):
        yield _record(line)


def table_rows(
    path: Path, progress: ReadProgress, *, delimiter: str = "", quoted: bool = True, fallback: str | None = None
) -> Iterator[list[str]]:
    """Yield the rows of a file with delimited columns, including its header.

    Args:
        path: The file.
        progress: See `SourceFiles.progress`.
        delimiter: Separator of the columns; if empty, it is detected from the first line.
        quoted: Whether quotation marks enclose columns.
        fallback: Encoding of lines that are not UTF-8.

    Raises:
        BadInputError: As for `lines`, or a quotation mark is not closed.
    """
    text = lines(path, progress, fallback=fallback)
    first = next(text).removeprefix("\ufeff")
    delimiter = delimiter or max(",\t;", key=first.count)
    rest = itertools.chain([first], text)
    if not quoted:
        yield from (line.split(delimiter) for line in rest)
        return
    try:
        # The line ends are restored, because a quoted column may contain some.
        yield from csv.reader((line + "\n" for line in rest), delimiter=delimiter)
    except csv.Error as error:
        raise BadInputError(f"{path} is not a table: {error}; check its quotation marks") from error


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
        # A foreign file may contain control characters that a terminal would obey.
        has = ", ".join(name if name.isprintable() else repr(name) for name in self._places)[:200]
        raise BadInputError(f"{self._path} has no column {names[0]!r}, it has: {has}; name the right file and columns")

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


def number(text: Any) -> float:
    """Return a field of a record as a number.

    Raises:
        Malformed: The field is not a number.
    """
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise Malformed from error


@contextmanager
def unharmed(path: Path) -> Iterator[None]:
    """Convert read errors of a file to one-line messages.

    Raises:
        BadInputError: The file is missing, damaged, or cannot be opened.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInputError(f"{path} is damaged or incomplete ({error}); download it again") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}; choose another file") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedIOBase, BufferedIOBase]]:
    """Yield a file as stored, whose position gives the progress, and its decompressed content."""
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
    # Some published files are called JSON but contain Python dictionaries. Only literals are read, and no code is run.
    # For input nested too deeply, the parser raises MemoryError.
    for parse in (json.loads, literal_eval):
        try:
            record = parse(line)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return record if isinstance(record, dict) else None
    return None
