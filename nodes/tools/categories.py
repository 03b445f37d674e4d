"""The category tool: what this catalogue offers, and what the user has had lately."""

from collections import Counter
from collections.abc import Iterable, Sequence

from sim.catalogue import Item


def count_categories(items: Iterable[Item]) -> dict[str, int]:
    """Return the categories of `items`, with the number of items, most first.

    A category is named as the loaded catalogue writes it, and only where it has an item.
    """
    counts = Counter(genre for item in items for genre in item.genres)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def recent_categories(items: Sequence[Item], window: int) -> list[str]:
    """Return the categories of the last `window` items, each once, in order of name."""
    return sorted({genre for item in items[-window:] for genre in item.genres})
