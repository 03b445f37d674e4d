"""Complaints of servers: an error body of any shape as words, with what it says about status and waiting.

Servers put their reasons into `error`, `message`, `detail`, a list, plain text or a web page, one inside another. Only
this module knows these shapes.
"""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Bounds on what is read of a body, and on its nesting.
MOST_READ = 20_000
DEEPEST = 8
# Keys under which servers write a reason, in the order in which they are quoted.
REASONS = (
    "message", "msg", "error", "errors", "detail", "details", "error_message", "error_description", "description",
    "reason", "title", "metadata", "raw",
)  # fmt: skip
# Keys whose short values name the kind of a fault; a value is quoted unless the reason holds it.
FAULT_KINDS = ("code", "type", "status", "param")
STATUS_KEYS = ("code", "status_code", "status")
_TAG = re.compile(r"<(?:!doctype|html|head|body|title)\b", re.IGNORECASE)
# Bounded, because each of many tags without an end would be followed to the end of the text.
_HEADING = re.compile(r"<(title|h1)\b[^<>]*>(.{0,500}?)</\1", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"<[^<>]*>")
_SECONDS = re.compile(r"(\d+(?:\.\d*)?)s")
_FAILED = re.compile(r"[45]\d\d", re.ASCII)


@dataclass(frozen=True)
class Complaint:
    """Complaint of a server.

    Attributes:
        words: The reason in one line; "" if the body is empty.
        text: The whole body as readable text, for the search of a parameter's name.
        status: Status inside the body, from 400 to 599; None if missing.
        wait: Seconds to wait by the body; None if missing.
    """

    words: str
    text: str
    status: int | None = None
    wait: float | None = None


def complaint(body: object) -> Complaint:
    """Read an error body: JSON as text, bytes or parsed, a web page, or plain text."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    value = _parsed(body) if isinstance(body, str) else body
    if value is None:
        return Complaint("", "")
    if isinstance(value, str):
        value = value[:MOST_READ]
        words = _page(value) if _TAG.search(value) else value
        return Complaint(_line(words), value)
    text = json.dumps(value, ensure_ascii=False, default=str)[:MOST_READ]
    words = "; ".join(dict.fromkeys(_reasons(value)))
    return Complaint(_line(words or text), text, _status(value), _wait(value))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip() or None


def _line(text: str) -> str:
    return " ".join(text.split())


def _page(text: str) -> str:
    """Return the heading of a web page, quoted as such."""
    heading = _HEADING.search(text)
    shown = _line(html.unescape(_MARKUP.sub(" ", heading.group(2) if heading else text)))[:120]
    return f"a web page, {shown!r}" if shown else "a web page"


def _reasons(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the reasons in a body, from the outermost to the innermost."""
    if depth > DEEPEST:
        return
    if isinstance(value, str):
        value = value[:MOST_READ]
        inner = _parsed(value) if value.lstrip().startswith(("{", "[")) else value
        if isinstance(inner, str):
            yield _line(_page(inner) if _TAG.search(inner) else inner)
        else:
            yield from _reasons(inner, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            yield from _reasons(entry, depth + 1)
    elif isinstance(value, dict):
        found = [said for key in REASONS if value.get(key) for said in _reasons(value[key], depth + 1)]
        if isinstance(value.get("loc"), list) and found:
            found[0] = f"{'.'.join(str(part) for part in value['loc'] if part != 'body')}: {found[0]}"
        kinds = [str(value[key]) for key in FAULT_KINDS if isinstance(value.get(key), str | int) and value[key] != ""]
        if found:
            found[-1] += "".join(f" ({kind})" for kind in dict.fromkeys(kinds) if kind not in found[-1])
        yield from filter(None, found)


def _status(value: Any) -> int | None:
    for part in (value, value.get("error") if isinstance(value, dict) else None):
        for key in STATUS_KEYS:
            given = part.get(key) if isinstance(part, dict) else None
            if isinstance(given, int | str) and _FAILED.fullmatch(str(given)):
                return int(given)
    return None


def _wait(value: Any, depth: int = 0) -> float | None:
    """Return the seconds of Google's `retryDelay`, wherever it stands."""
    if depth > DEEPEST or not isinstance(value, dict | list):
        return None
    if isinstance(value, dict) and isinstance(value.get("retryDelay"), str):
        seconds = _SECONDS.fullmatch(value["retryDelay"])
        return float(seconds.group(1)) if seconds else None
    inner = value.values() if isinstance(value, dict) else value
    return next((found for part in inner if (found := _wait(part, depth + 1)) is not None), None)
