"""Category tool: categories of the loaded catalogue."""

import random
from collections import Counter
from collections.abc import Iterable

from sim.catalogue import Item


def count_categories(items: Iterable[Item]) -> dict[str, int]:
    """Return the categories of `items` with their number of items, most first.

    Names are spelled as in the loaded catalogue, and every category has at least one item.
    """
    counts = Counter(genre for item in items for genre in item.genres)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def random_categories(categories: Iterable[str], count: int, seed: int, number: int) -> list[str]:
    """Draw at most `count` categories at random, seeded by the visit's seed and the number of the round."""
    names = sorted(categories)
    return random.Random(f"hints {seed} {number}").sample(names, min(count, len(names)))
