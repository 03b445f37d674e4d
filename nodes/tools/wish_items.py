"""Items of the catalogue that meet a person's wishes, and what the catalogue has no item for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nodes.llm.text.understood import Era, Understood
from nodes.tools.descriptions import described_by, worded
from nodes.tools.open_world import VALUES_KEPT, OpenWorld
from nodes.tools.wish_text import era_text, named_titles, spelt
from sim.arrays import Doubles, Floats, Mask, Positions
from sim.catalogue import Catalogue, Item

# Items near the titles that a person names, and items whose text is near their words.
NEAREST, ALIKE = 24, 48
# Least items that meet a wish of an earlier line, so that a short list does not hang on it.
FEW_LEFT = 4


# Bytes for the orders of all items that are kept in a world, of each of two kinds.
ORDERS_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Demand:
    """One thing that a person asks for, as a mask of the catalogue."""

    name: str
    met: Mask
    """Items that meet it, shape (n_items,)."""
    least: int = 1
    """Least items that must be left for it to count."""


@dataclass(frozen=True)
class Drawn:
    """Items that a shortlist for a person is drawn from."""

    allowed: Mask
    unmet: list[str]
    """What the catalogue has no item for, in plain words."""
    query: str
    """Text to search by."""


async def drawn(opened: OpenWorld, offered: Mask, wishes: Sequence[Understood]) -> Drawn:
    """Return the items that meet the wishes; what comes first in `wishes` counts more.

    Each demand narrows the items if any are left. One that leaves none is named in `unmet`.

    Args:
        opened: The open world.
        offered: Items that may be recommended.
        wishes: Wishes, the strongest first.
    """
    allowed, unmet = offered, []
    for one in wishes:
        unmet += [f"{name}: the catalogue has none" for name in one.missing]
        unmet += [f"{name!r}: the catalogue has no such title" for name in one.unknown]
        for demand in _demands(opened, one):
            narrowed = allowed & demand.met
            if narrowed.sum() >= demand.least:
                allowed = narrowed
            elif demand.least == 1:
                reason = "all that there are have been shown, or do not go with the rest"
                unmet.append(f"{demand.name}: {reason if demand.met.any() else 'the catalogue has none'}")
    for one in wishes:
        if one.like:
            allowed = await _nearest(opened, allowed, one.like)
        elif one.words and not (one.titles or one.want or one.eras):
            allowed = await _alike(opened, allowed, one)
    return Drawn(allowed, list(dict.fromkeys(unmet)), " ".join(word for one in wishes for word in one.words))


def _demands(opened: OpenWorld, wishes: Understood) -> list[Demand]:
    """Return the demands of wishes in the order in which they narrow the catalogue."""
    catalogue = opened.world.catalogue
    none = np.zeros(len(catalogue), dtype=np.bool_)
    demands = []
    if wishes.titles:
        named = none.copy()
        named[_positions(catalogue, wishes.titles)] = True
        demands.append(Demand(" or ".join(named_titles(catalogue, wishes.titles)), named))
    for groups in wishes.avoid:
        demands.append(Demand(f"no {spelt(groups)}", ~_has(catalogue, groups)))
    for phrase in wishes.not_words:
        demands.append(Demand(f"nothing with '{phrase}'", ~worded(opened, phrase)))
    away = none.copy()
    away[_positions(catalogue, [*wishes.unlike, *wishes.like])] = True
    if away.any():
        demands.append(Demand("other titles than those named", ~away))
    if wishes.want:
        any_of = np.logical_or.reduce([_has(catalogue, groups) for groups in wishes.want])
        demands.append(Demand(" or ".join(map(spelt, wishes.want)), any_of))
    years = catalogue.years
    with np.errstate(invalid="ignore"):
        if wishes.bounds != Era():
            demands.append(Demand(era_text(wishes.bounds), _within(years, wishes.bounds)))
        if wishes.eras:
            any_era = np.logical_or.reduce([_within(years, era) for era in wishes.eras])
            demands.append(Demand(" or ".join(map(era_text, wishes.eras)), any_era))
        for era in wishes.not_eras:
            demands.append(Demand(f"not {era_text(era)}", ~_within(years, era)))
    for groups in reversed(wishes.before):
        demands.append(Demand(spelt(groups), _has(catalogue, groups), least=FEW_LEFT))
    return demands


def _within(years: Doubles, era: Era) -> Mask:
    low = -np.inf if era.since is None else era.since
    high = np.inf if era.until is None else era.until
    return np.asarray((years >= low) & (years <= high), dtype=np.bool_)


def _has(catalogue: Catalogue, groups: Sequence[Sequence[str]]) -> Mask:
    """Return the items that have a category of each group."""
    met = np.ones(len(catalogue), dtype=np.bool_)
    for group in groups:
        met &= catalogue.with_genre(group)
    return met


def _positions(catalogue: Catalogue, ids: Sequence[str]) -> Positions:
    return catalogue.positions(one for one in ids if one in catalogue)


async def _nearest(opened: OpenWorld, allowed: Mask, ids: Sequence[str]) -> Mask:
    """Return the allowed items nearest to any of the named ones, by the logs, the embedding and the categories."""
    catalogue = opened.world.catalogue
    scores = [await nearness(opened, one) for one in ids if one in catalogue]
    if not scores:
        return allowed
    return _first(np.min(scores, axis=0), allowed, NEAREST)


async def nearness(opened: OpenWorld, item_id: str) -> Doubles:
    """Return how far every item is from one, as a mean of three ranks (0 nearest, 1 farthest), shape (n_items,)."""
    kept = opened.kept(Item, _orders_kept(opened.world.catalogue))
    found: Doubles | None = kept.get(item_id)
    if found is None:
        catalogue = opened.world.catalogue
        position, size = catalogue.position(item_id), len(catalogue)
        hits = catalogue.positions(await opened.index.nearest(catalogue[position].label, size))
        by_text = np.ones(size)
        by_text[hits] = np.arange(len(hits)) / size
        by_logs = _ranks(opened.world.logs.distances(position))
        by_category = _ranks(catalogue.genre_distances(position))
        found = kept[item_id] = np.asarray((by_logs + by_text + by_category) / 3)
    return found


def _ranks(distances: Floats) -> Doubles:
    """Return the share of items that are nearer than each item, shape (n_items,)."""
    return np.searchsorted(np.sort(distances), distances) / len(distances)


async def _alike(opened: OpenWorld, allowed: Mask, wishes: Understood) -> Mask:
    """Return the allowed items whose descriptions hold most of the words; of equals, those whose label is nearest."""
    catalogue, words = opened.world.catalogue, tuple(wishes.words)
    # Several roles of a round ask for the same.
    kept = opened.kept(Drawn, _orders_kept(catalogue))
    order: Doubles | None = kept.get(words)
    if order is None:
        hits = catalogue.positions(await opened.index.nearest(" ".join(words), len(catalogue)))
        order = np.full(len(catalogue), np.inf)
        order[hits] = np.arange(len(hits))
        # In a thread: the descriptions are read once, and there may be many.
        order -= len(catalogue) * await asyncio.to_thread(described_by, opened, words)
        kept[words] = order
    return _first(order, allowed, ALIKE)


def _orders_kept(catalogue: Catalogue) -> int:
    """Return how many orders of all items are kept, each of 8 bytes an item."""
    return max(1, min(VALUES_KEPT, ORDERS_BYTES // (8 * len(catalogue))))


def _first(order: Doubles, allowed: Mask, count: int) -> Mask:
    chosen = np.flatnonzero(allowed)
    kept = np.zeros(len(allowed), dtype=np.bool_)
    kept[chosen[np.argsort(order[chosen], kind="stable")[:count]]] = True
    return kept
