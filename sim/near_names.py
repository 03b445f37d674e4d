"""Nearest known name, for the refusal of an unknown one."""

from collections.abc import Iterable
from difflib import get_close_matches

# Most characters of an unknown name in a message.
MOST_SHOWN = 80


def unknown_name(name: object, known: Iterable[str], what: str) -> str:
    """Describe an unknown name, with the nearest known one as the remedy; without a near one, with all.

    Examples:
        >>> unknown_name("modle", ["model", "temperature"], "setting")
        "there is no setting 'modle': did you mean 'model'?"
        >>> unknown_name("x", ["rating", "skip"], "part of an answer")
        "there is no part of an answer 'x': choose among rating, skip"
    """
    known, shown = [*known], str(name)[:MOST_SHOWN]
    near = get_close_matches(shown, known, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"choose among {', '.join(known)}"
    return f"there is no {what} {shown!r}: {remedy}"
