"""Text without the characters that control terminals and the direction of text."""

import html
import re

# Escape codes of terminals, controls of one or two bytes, overrides and marks of direction, and broken Unicode. Joiners
# stay, since Persian and Indian scripts write with them.
_ESCAPE_CODES = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\-_])?")
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]+"
)


def without_controls(text: str) -> str:
    """Return a text with a space for each escape code and each run of control characters; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub(" ", _ESCAPE_CODES.sub(" ", text))


def one_line(text: str) -> str:
    """Return a text on one line, without control characters."""
    return " ".join(without_controls(text).split())


def field_text(text: str) -> str:
    """Return the text of a source's field on one line, without HTML entities and control characters."""
    return one_line(html.unescape(text))


def escaped_controls(text: str) -> str:
    r"""Return a JSON text with `\u202e` and the like for the control characters in it."""
    return _CONTROLS.sub(lambda found: "".join(f"\\u{ord(sign):04x}" for sign in found[0]), text)
