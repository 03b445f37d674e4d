"""The outlook as a tool: fitted to the experiences in memory, and anew when they have grown."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from langgraph.store.base import BaseStore, SearchItem
from pydantic import ValidationError

from memory.recall import Asker
from memory.records import Experience, escape, namespace
from nodes.worlds import Place
from sim.outlook import Observation, Outlook, Pairs, fit_outlook

# Records read between two looks at the event loop.
PAGE = 500
# Experiences that an outlook is fitted to at most, some 500 visits; more would make it slower, and hardly better.
MOST = 20_000
Prefix = tuple[str, ...]


class _Fitted(NamedTuple):
    """What a memory's experiences came to."""

    records: int
    """Number of records."""
    experiences: tuple[Experience, ...]
    outlook: Outlook | None


_fitted: WeakKeyDictionary[BaseStore, dict[Prefix, _Fitted]] = WeakKeyDictionary()
_fitting: WeakKeyDictionary[BaseStore, asyncio.Lock] = WeakKeyDictionary()


async def learned_outlook(store: BaseStore, asker: Asker, place: Place, *, look_again: bool) -> Outlook | None:
    """Return the outlook that the experiences teach which `asker` may recall; None where there are none.

    Args:
        store: The memory.
        asker: On whose behalf; the asking visit's own experiences are left out.
        place: The world that the experiences are from.
        look_again: Whether to look for new experiences. Otherwise the last outlook that was fitted in this process will
            do, so that a visit keeps the one that it began with while no other one begins.
    """
    if asker.shared is None:
        prefix: Prefix = namespace("experiences", asker.space, asker.user_id)
    else:
        prefix = ("experiences", escape(asker.shared))
    # Visits that begin together wait for one of them.
    async with _fitting.setdefault(store, asyncio.Lock()):
        known = _fitted.setdefault(store, {})
        if prefix not in known or (look_again and await _changed(store, prefix, known[prefix].records)):
            known[prefix] = await _fit(store, prefix, place)
        fitted = known[prefix]
    others = [one for one in fitted.experiences if one.visit != asker.visit]
    if len(others) == len(fitted.experiences):
        return fitted.outlook
    # A visit that was gone back in, or is played again.
    return await asyncio.to_thread(_outlook, place, others)


async def _changed(store: BaseStore, prefix: Prefix, count: int) -> bool:
    """Return whether there are more or fewer records than before."""
    around = await store.asearch(prefix, limit=2, offset=max(0, count - 1))
    return len(around) != min(count, 1)


async def _fit(store: BaseStore, prefix: Prefix, place: Place) -> _Fitted:
    items: list[SearchItem] = []
    while len(items) < MOST:
        page = await store.asearch(prefix, limit=PAGE, offset=len(items))
        items += page
        if len(page) < PAGE:
            break
        await asyncio.sleep(0)
    experiences = tuple(_valid(items))
    return _Fitted(len(items), experiences, await asyncio.to_thread(_outlook, place, experiences))


def _valid(items: Iterable[SearchItem]) -> Iterable[Experience]:
    for item in items:
        try:
            yield Experience.model_validate(item.value)
        except ValidationError:
            # Put there by hand.
            continue


def _outlook(place: Place, experiences: Sequence[Experience]) -> Outlook | None:
    catalogue = place.world.catalogue
    observations = [
        Observation(
            catalogue.position(one.item_id),
            tuple(catalogue.position(item_id) for item_id in one.recent),
            one.predicted,
            one.left,
        )
        for one in experiences
        if all(item_id in catalogue for item_id in (one.item_id, *one.recent))
    ]
    return fit_outlook(pairs_of(place), observations)


def pairs_of(place: Place) -> Pairs:
    """Return what is seen of the world's pairs of items, worked out once."""
    if Pairs not in place.cache:
        place.cache[Pairs] = Pairs(place.world.catalogue, place.world.logs)
    pairs: Pairs = place.cache[Pairs]
    return pairs
