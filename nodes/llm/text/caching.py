"""Cache for functions of a text, bounded in bytes: a number of entries bounds nothing where a text may be long."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Concatenate, ParamSpec, TypeVar

LONGEST_CACHED = 400
"""Characters of a text that is cached; hardly a title, plan or line of a prompt is longer."""
CACHED_TEXTS = 10_000
"""Texts that each function remembers: with results of the same length, 34 MB where every character takes 4 bytes, and
some 5 MB where titles are as long as those of films."""
Rest = ParamSpec("Rest")
Result = TypeVar("Result")
Function = Callable[Concatenate[str, Rest], Result]


def cached_for_short_texts(function: Function[Rest, Result]) -> Function[Rest, Result]:
    """Return a function that remembers what it made of short texts, and makes anew what becomes of long ones."""
    remembered = lru_cache(maxsize=CACHED_TEXTS)(function)

    @wraps(function)
    def made(text: str, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Result:
        asked = remembered if len(text) <= LONGEST_CACHED else function
        return asked(text, *args, **kwargs)

    return made
