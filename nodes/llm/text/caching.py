"""Cache for functions of a text, bounded in bytes: a number of entries alone bounds nothing if texts may be long."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Concatenate, ParamSpec, TypeVar

LONGEST_CACHED = 400
"""Most characters of a cached text; titles, plans and lines of a prompt are hardly ever longer."""
CACHED_TEXTS = 10_000
"""Most texts cached for each function: with results of the same length, 34 MB if every character takes 4 bytes, and
some 5 MB for titles as long as those of films."""
Rest = ParamSpec("Rest")
Result = TypeVar("Result")
Function = Callable[Concatenate[str, Rest], Result]


def cached_for_short_texts(function: Function[Rest, Result]) -> Function[Rest, Result]:
    """Cache the results of a function for short texts, and compute those for long texts each time."""
    remembered = lru_cache(maxsize=CACHED_TEXTS)(function)

    @wraps(function)
    def made(text: str, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Result:
        asked = remembered if len(text) <= LONGEST_CACHED else function
        return asked(text, *args, **kwargs)

    return made
