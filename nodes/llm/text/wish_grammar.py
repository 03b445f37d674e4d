"""Grammar of wishes in a plan, a lesson or a person's words: categories to recommend or to avoid, and distances."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_AVOID = {"avoid", "leave", "without", "no", "not", "never", "skip", "less", "fewer", "drop"}
_WANT = {"recommend", "mix", "more", "prefer", "show", "add", "include", "but", "want", "like", "likes", "with"}
_DISTANCE = re.compile(r"\bat (least|most) (\d+(?:\.\d+)?)\b")


@dataclass(frozen=True)
class Wishes:
    """Wishes of a text."""

    want: tuple[str, ...] = ()
    """Categories to recommend, in the order of the text."""
    avoid: tuple[str, ...] = ()
    """Categories to avoid."""
    least: float | None = None
    """Least distance to the last items."""
    most: float | None = None
    """Greatest distance to the last items."""


def read_wishes(text: str, categories: Iterable[str]) -> Wishes:
    """Return the wishes in `text`.

    A category counts if it stands as whole words. It is avoided after a word such as "avoid", "leave" or "no", up to
    the end of the sentence, a semicolon, or a word such as "recommend", "mix" or "but". A distance is written "at least
    0.70" or "at most 0.70". Of contradicting wishes the last one counts.
    """
    names = {name.casefold(): name for name in categories}
    verdict: dict[str, bool] = {}
    avoiding = False
    for found in _pattern(tuple(names)).finditer(text.casefold()):
        token = found[0]
        if token in names:
            verdict.pop(names[token], None)
            verdict[names[token]] = not avoiding
        elif token in _AVOID:
            avoiding = True
        else:
            avoiding = False
    bounds = {side: float(number) for side, number in _DISTANCE.findall(text.casefold())}
    return Wishes(
        want=tuple(name for name, wanted in verdict.items() if wanted),
        avoid=tuple(name for name, wanted in verdict.items() if not wanted),
        least=bounds.get("least"),
        most=bounds.get("most"),
    )


@lru_cache(maxsize=256)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    # Longest first, so that "Science Fiction" wins over "Fiction".
    words = sorted({*names, *_AVOID, *_WANT}, key=lambda word: (-len(word), word))
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)|[.;!?\n](?=\s|$)")
