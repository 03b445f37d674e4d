"""Taste in lessons: the sentences that say which categories are liked, and nothing of distance, order or leaving."""

import re
from collections.abc import Iterable

from nodes.llm.text.wish_grammar import read_wishes

_SENTENCE = re.compile(r"(?<=[.;!?])\s+|\n+")
# "Leave out Drama" is taste, "users leave after Drama" is not.
_NO_TASTE = re.compile(
    r"\b(?:distan\w*|similar\w*|alike|leav\w*(?!\s+out)|left|stay\w*|quit\w*|exit\w*|end(?:s|ed|ing)?|risk\w*|saf(?:e|er|est|ely|ety)|"
    r"repeat\w*|again|recent\w*|last|consecutive\w*|in a row|back[- ]to[- ]back|alternat\w*|vary|varied|variety|"
    r"rotates?|rotated|rotating|rotations?|switch\w*|mix\w*|divers\w*|spac(?:ed|ing)|spread\w*|apart|far|farther|farthest|near\w*|close\w*|rounds?)\b|\d\.\d",
    re.IGNORECASE,
)


def about_taste(lesson: str, categories: Iterable[str]) -> str:
    """Return the sentences of a lesson that are about taste alone; empty if it has none.

    Args:
        lesson: Text of the lesson.
        categories: Categories of the catalogue; taste names one of them.

    Examples:
        >>> about_taste("Keep a distance of at least 0.6 from the last four items. Leave out Crime.", ["Crime"])
        'Leave out Crime.'
    """
    known = tuple(categories)
    kept = [one.strip() for one in _SENTENCE.split(lesson) if not _NO_TASTE.search(one)]
    return " ".join(one for one in kept if _names_one(one, known))


def _names_one(sentence: str, categories: tuple[str, ...]) -> bool:
    wishes = read_wishes(sentence, categories)
    return bool(wishes.want or wishes.avoid)
