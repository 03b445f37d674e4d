"""Consoles, option types and checks of options that the commands share."""

import codecs
import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from sim.errors import BadInputError
from sim.plain_text import escaped_controls, without_controls


class PlainConsole(Console):
    """Console that shows no control character of a text: a title or a name cannot move the cursor or turn a line."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of what is shown, their text without control characters."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else without_controls(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


out = PlainConsole()
err = PlainConsole(stderr=True)
Made = TypeVar("Made")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
WorldOption = Annotated[str, typer.Option("--world", help="Name of the world; the default world if not given.")]
ModelOption = Annotated[str, typer.Option(help="Model for all roles: `rules`, `openai:NAME`, or `PROVIDER:NAME`.")]
RecordOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Append every exchange with a model to this file.")
]
ReplayOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Answer for the models from this file, and call none.")
]
ReplayMissingOption = Annotated[
    str,
    typer.Option(metavar="error|call", help="What to do with a question that --replay lacks; `call` asks and adds it."),
]
MaxStepsOption = Annotated[int, typer.Option(min=1, max=2_000, help="Maximum number of rounds of a visit.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Setting of the roles; a prompt can also be @FILE. Repeatable."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")]
STOPPED = 130
"""Exit code of a command that Ctrl-C or SIGTERM stopped."""
READABLE = "billp-readable"
"""Handler of characters that an encoding lacks."""
READABLE_ASCII = "billp_ascii"
"""ASCII under another name: Typer writes UTF-8 to a stream whose encoding is named ASCII."""
SUBSTITUTES = {"→": "->", "…": "...", "–": "-", "·": "*", "‘": "'", "’": "'", "“": '"', "”": '"'}


def show_any_text() -> None:
    """Let standard output and error write every text, with substitutes for the characters that their encodings lack.

    A closed stream is opened to nowhere.
    """
    # The next file that is opened would get the number of a closed stream, and output of libraries.
    sys.stdout, sys.stderr = (
        open(os.devnull, "w") if stream is None else stream for stream in (sys.stdout, sys.stderr)
    )
    codecs.register_error(READABLE, _readable)
    codecs.register(_readable_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=READABLE_ASCII if is_ascii else stream.encoding, errors=READABLE)


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Return substitutes for the characters of an error: `e` for `é`, `->` for `→`, `?` for those without any."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_substitute, text)), error.end


def _substitute(sign: str) -> str:
    plain = SUBSTITUTES.get(sign) or "".join(one for one in unicodedata.normalize("NFKD", sign) if one.isascii())
    return plain or ("" if unicodedata.combining(sign) else "?")


def _readable_ascii(name: str) -> codecs.CodecInfo | None:
    if name != READABLE_ASCII:
        return None
    known = codecs.lookup("ascii")
    return codecs.CodecInfo(
        known.encode,
        known.decode,
        streamreader=known.streamreader,
        streamwriter=known.streamwriter,
        incrementalencoder=known.incrementalencoder,
        incrementaldecoder=known.incrementaldecoder,
        name=READABLE_ASCII,
    )


def print_json(content: Any) -> None:
    """Print JSON for programs, with escapes if standard output cannot write its characters."""
    text = escaped_controls(json.dumps(content, ensure_ascii=False))
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(content)
    typer.echo(text)


def checked(make: Callable[[], Made]) -> Made:
    """Return the result of `make`, with invalid settings reported in one line.

    Raises:
        BadInputError: A setting is invalid.
    """
    try:
        return make()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BadInputError(f"{where}: {fault['msg']} (got {str(fault['input'])[:80]!r})") from error
