"""Values of callers in error messages."""

from typing import Any

_LONGEST = 80
"""Characters of a value that a message shows."""


def shown(value: Any) -> str:
    """Return a value on one line, cut to 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # An integer with more digits than Python prints.
        text = f"a {type(value).__name__} of too many digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
