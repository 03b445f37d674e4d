"""Pairs of items in experiences: with which others an item was shown within four rounds, and how these rounds ended."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from graph.web.worlds import MOST_FOUND, opened_world
from memory.chroma.layout import StoredRecord
from memory.records import MAX_NAME, MAX_TITLE, Experience, unescape
from sim.errors import BadInputError
from sim.leave import WINDOW
from sim.world import World

MOST_PAIRS = 500


class PairsQuery(BaseModel):
    """Experiences in the store, and an item of them by its id or by a part of its title."""

    prefix: list[str] = Field(min_length=2, max_length=10)
    title: str = Field("", max_length=MAX_TITLE)
    item_id: str = Field("", max_length=MAX_NAME)


class _Shown(NamedTuple):
    """Round whose outcome is known."""

    item: str
    others: frozenset[str]
    """Items before it, at most four."""
    left: bool


def found_pairs(records: Iterable[StoredRecord], query: PairsQuery) -> dict[str, Any]:
    """Return the items that a query means, and the pairs of the item if it is one alone.

    The order of the two items does not matter. A round whose user left counts whole for each of its pairs, unlike in
    `sim.policies.pair_evidence`, which shares the leaving among them. Records that are no experiences, or say nothing
    of an end, are left out.
    """
    titles: dict[str, str] = {}
    rounds: list[_Shown] = []
    for record in records:
        try:
            one = Experience.model_validate(record.value)
        except ValidationError:
            continue
        if one.item_id and one.left is not None:
            titles[one.item_id] = one.title
            rounds.append(_Shown(one.item_id, frozenset(one.recent[-WINDOW:]), one.left))
    world = _world_of_space(query.prefix[1])
    if world is not None:
        shown = {name for one in rounds for name in (one.item, *one.others)}
        titles |= {name: world.catalogue.item(name).title for name in shown if name in world.catalogue}
    if query.item_id:
        meant = [query.item_id] if query.item_id in titles else []
    else:
        wanted = query.title.casefold()
        meant = sorted((name for name, title in titles.items() if wanted in title.casefold()), key=titles.__getitem__)
    items = [{"item_id": name, "title": titles[name]} for name in meant[:MOST_FOUND]]
    if len(meant) != 1:
        return {"items": items, "pairs": None, "more": 0}
    pairs = _pairs(meant[0], rounds, titles, world)
    return {"items": items, "pairs": pairs[:MOST_PAIRS], "more": max(len(pairs) - MOST_PAIRS, 0)}


def _pairs(item: str, rounds: Sequence[_Shown], titles: dict[str, str], world: World | None) -> list[dict[str, Any]]:
    counts: Counter[tuple[str, bool]] = Counter()
    for one in rounds:
        if one.item == item:
            counts.update((other, one.left) for other in one.others)
        elif item in one.others:
            counts[one.item, one.left] += 1
    pairs = [
        {
            "item_id": other,
            "title": titles.get(other, other),
            "stayed": counts[other, False],
            "ended": counts[other, True],
            "distance": _distance(world, item, other),
        }
        for other in {other for other, _ in counts}
    ]
    return sorted(pairs, key=lambda one: (-one["ended"], -one["stayed"], one["title"]))


def _distance(world: World | None, item: str, other: str) -> float | None:
    """Return the distance of two items by the logs model; None if the world does not know both."""
    if world is None or item not in world.catalogue or other not in world.catalogue:
        return None
    return float(world.logs.distance(item, other))


def _world_of_space(label: str) -> World | None:
    """Return the world of a space: `WORLD`, `people:WORLD` or `account:NAME:WORLD`; None if it is not built here."""
    try:
        return opened_world(unescape(label).rsplit(":", 1)[-1])
    except BadInputError:
        return None
