"""The category tool: what this catalogue offers, and what the user has had lately."""

import random
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


def random_categories(categories: Iterable[str], count: int, seed: int, number: int) -> list[str]:
    """Return at most `count` categories, drawn by the seed of a visit and the number of its round."""
    names = sorted(categories)
    return random.Random(f"hints {seed} {number}").sample(names, min(count, len(names)))
