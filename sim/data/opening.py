"""Opening of data files: plain, gzipped or UTF-16 text, told by their first bytes, read by lines in bounded memory."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from typing_extensions import Buffer

from sim.errors import BadInputError

# A Steam user with thousands of games has a line of nearly 1 MB. A line more than twice as long is no record, and a
# small archive may expand to gigabytes of it.
LONGEST_LINE = 2 * 1024 * 1024
LINES_A_REPORT = 20_000
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
_UTF_8_MARK = b"\xef\xbb\xbf"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_OTHER_KINDS = {
    b"PK\x03\x04": "a ZIP archive or a spreadsheet; unpack it, or save it as CSV",
    b"BZh": "a bzip2 archive; unpack it with: bunzip2",
    b"\xfd7zXZ": "an xz archive; unpack it with: unxz",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive; unpack it with: unzstd",
}

ReadProgress = Callable[[str, int, int], None]


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of a file, which tell its kind.

    Raises:
        BadInputError: The file cannot be read.
    """
    with unharmed(path), path.open("rb") as file:
        return file.read(8)


def lines(path: Path, progress: ReadProgress, *, fallback: str | None = None) -> Iterator[str]:
    """Yield the lines of a text file without line ends: UTF-8 or UTF-16 with a byte-order mark, plain or gzipped.

    Args:
        path: The file; its first bytes tell whether it is gzipped, whatever its name.
        progress: See `SourceFiles.progress`.
        fallback: Encoding of lines that are not UTF-8.

    Raises:
        BadInputError: The file is missing, empty, damaged or not text, or has a line of more than 2 MiB.
    """
    with _opened(path) as (raw, content):
        size, number = path.stat().st_size, 0
        while line := content.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise BadInputError(f"{path} line {number} is longer than 2 MiB, so it is not a record; check the file")
            if number % LINES_A_REPORT == 0:
                progress(path.name, raw.tell(), size)
            yield _decoded(line, path, number, fallback).rstrip("\r\n")
        if not number:
            raise BadInputError(f"{path} is empty; use the file as it was published")
        progress(path.name, size, size)


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
    except UnicodeError as error:
        raise BadInputError(f"{path} is damaged or no UTF-16 text; save it as UTF-8") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}; choose another file") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple["BufferedReader[Any]", "BufferedReader[Any]"]]:
    """Yield a file as stored, whose position gives the progress, and its content as UTF-8 or in its own encoding."""
    with unharmed(path), path.open("rb") as raw:
        start = raw.peek(8)
        # A file that is named as an archive and is none was cut or renamed: gzip says so.
        packed = start.startswith(GZIP) or (path.suffix == ".gz" and bool(start))
        content: BufferedReader[Any] = BufferedReader(gzip.open(raw)) if packed else raw
        start = content.peek(8)
        for mark, kind in _OTHER_KINDS.items():
            if start.startswith(mark):
                raise BadInputError(f"{path} is {kind}")
        if start.startswith(_UTF_16_MARKS):
            yield raw, BufferedReader(_Utf8(content))
        else:
            if start.startswith(_UTF_8_MARK):
                content.read(len(_UTF_8_MARK))
            yield raw, content


class _Utf8(io.RawIOBase):
    """UTF-16 text as UTF-8 bytes."""

    def __init__(self, content: "BufferedReader[Any]") -> None:
        self._text = io.TextIOWrapper(content, encoding="utf-16", newline="")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        if not self._rest:
            self._rest = self._text.read(max(1, len(view) // 4)).encode()
        part, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(part)] = part
        return len(part)


def _decoded(line: bytes, path: Path, number: int, fallback: str | None) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        if fallback:
            return line.decode(fallback)
        raise BadInputError(
            f"{path} line {number} is not UTF-8 text; convert the file, such as with: iconv -f latin1 -t utf-8"
        ) from error
