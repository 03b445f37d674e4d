"""Cache of texts: bounded in bytes for every input."""

import tracemalloc
from collections.abc import Callable

import pytest

from nodes.llm.prompting import as_data
from nodes.llm.text.caching import LONGEST_CACHED, cached_for_short_texts
from nodes.llm.text.tokens import count_tokens
from nodes.prompt_facts import shown


def test_short_texts_are_remembered_and_long_ones_are_not() -> None:
    made = []

    @cached_for_short_texts
    def length(text: str, times: int = 1) -> int:
        made.append(text)
        return len(text) * times

    for text in ("a" * LONGEST_CACHED, "b" * (LONGEST_CACHED + 1)):
        assert length(text) == length(text) == len(text)
        assert length(text, 2) == 2 * len(text)
    assert [text[0] for text in made] == ["a", "a", "b", "b", "b"]


@pytest.mark.parametrize("function", [shown, as_data, count_tokens], ids=lambda function: function.__name__)
def test_no_long_text_is_kept(function: Callable[[str], object]) -> None:
    """An edited state may bring long texts; an earlier cache kept up to 50,000 of them."""
    function("warm up")
    tracemalloc.start()
    try:
        for number in range(30):
            function(f"{number} " + "word " * 20_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200_000
