"""Categories for items that have none of their own, or too many: the most frequent of a column, or decades."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sim.catalogue import Item
from sim.errors import BadInputError

# Categories that are no column: decades come from years, and clusters from the logs as the world is built.
BY_DECADE, BY_CLUSTER = "decades", "clusters"
# The items' own genres, cut to the most frequent.
OWN_GENRES = "genres"
OTHER_CATEGORY = "Other"
MOST_CATEGORIES = 20


def by_decade(items: Sequence[Item]) -> list[Item]:
    """Return the items with the decade of their year as the only category; without a year, they have none.

    Raises:
        BadInputError: No item has a year.
    """
    if not any(item.year for item in items):
        raise BadInputError(f"no item has a year, so there are no decades; use --categories {BY_CLUSTER} or a column")
    return [replace(item, genres=(f"{item.year // 10 * 10}s",) if item.year else ()) for item in items]


def most_frequent(items: Sequence[Item], weights: Sequence[int], most: int) -> list[Item]:
    """Return the items with the categories that have most ratings; items with others alone get "Other".

    Args:
        items: Items with all their categories.
        weights: Number of ratings of each item.
        most: Number of categories to keep.
    """
    count: Counter[str] = Counter()
    for item, weight in zip(items, weights, strict=True):
        count.update(dict.fromkeys(item.genres, weight))
    # By name among equals, so that the order of the file does not matter.
    kept = {name for name, _ in sorted(count.items(), key=lambda one: (-one[1], one[0]))[:most]}
    return [
        replace(
            item,
            genres=tuple(name for name in item.genres if name in kept) or ((OTHER_CATEGORY,) if item.genres else ()),
        )
        for item in items
    ]
