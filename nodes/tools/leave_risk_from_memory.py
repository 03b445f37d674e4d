"""The outlook as a tool: fitted to the experiences in memory, and anew when a visit begins and there are others."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

from langgraph.store.base import BaseStore, SearchItem
from pydantic import ValidationError

from memory.access import whole_store
from memory.recall import RecallScope
from memory.records import Experience, escape, namespace
from nodes.tools.open_world import OpenWorld
from sim.leave import WINDOW
from sim.policies.leave_risk import LeaveRiskModel, PairFeatures, RoundOutcome, fit_leave_risk

# Records read between two looks at the event loop.
PAGE = 500
# Experiences that an outlook is fitted to at most, of some 500 visits; more would make it slower, and hardly better.
MOST = 20_000
# Visits under way whose outlook is kept.
VISITS_KEPT = 1_000
# Memories whose outlook is kept, and experiences of them all, which take some 0.5 kB each.
MEMORIES_KEPT = 1_000
SEEN_KEPT = 5 * MOST
Prefix = tuple[str, ...]


class _Seen(NamedTuple):
    """What an outlook is fitted to of an experience, and whose it is; the rest of it, some kilobytes, is not kept."""

    visit: str
    user_id: str
    observation: RoundOutcome


class _Fitted(NamedTuple):
    """What a memory's experiences came to."""

    place: OpenWorld
    records: int
    """Number of records."""
    seen: tuple[_Seen, ...]
    outlook: LeaveRiskModel | None


@dataclass(eq=False)
class _StoreRisk:
    """What was learned from one store."""

    fitted: "OrderedDict[Prefix, _Fitted]" = field(default_factory=OrderedDict)
    """What the memories came to that were asked for last, the latest last."""
    of_visits: "OrderedDict[tuple[tuple[Prefix, ...], str], LeaveRiskModel | None]" = field(default_factory=OrderedDict)
    """The outlook that each visit began with, the latest last."""
    locks: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]" = field(default_factory=WeakKeyDictionary)
    """A store may be used from several event loops, and a lock cannot: each loop fits on its own."""


_stores: WeakKeyDictionary[BaseStore, _StoreRisk] = WeakKeyDictionary()
_looking_up = threading.Lock()


async def leave_risk_from_memory(
    store: BaseStore, scope: RecallScope, place: OpenWorld, *, begins: bool
) -> LeaveRiskModel | None:
    """Return the outlook that the experiences in a visit's scope teach; None where there are none.

    A visit keeps the outlook that it began with. It is fitted anew for one that begins when the number of experiences
    has changed; one that was replaced by another is not noticed. Of more than `MOST` in a space, the first by namespace
    and key count.

    Args:
        store: The memory.
        scope: What the visit may recall.
        place: The world that the experiences are from.
        begins: Whether the visit begins.
    """
    if not scope.own and not scope.shared:
        return None
    own = namespace("experiences", scope.space, scope.user_id)
    prefixes: tuple[Prefix, ...] = tuple(("experiences", escape(space)) for space in scope.shared) or (own,)
    with _looking_up:
        learned = _stores.setdefault(whole_store(store), _StoreRisk())
        lock = learned.locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    visit = (prefixes, scope.visit)
    if begins or visit not in learned.of_visits:
        # Visits that begin together wait for one of them.
        async with lock:
            fitted = [await _up_to_date(learned, store, prefix, place) for prefix in prefixes]
        # A visit has experiences of its own where it was gone back in, or goes on in another process.
        known = [
            one
            for space, of_space in zip(scope.shared or (scope.space,), fitted, strict=True)
            for one in of_space.seen
            if not scope.hides(one.visit) and (scope.own or one.user_id != scope.left_out(space))
        ]
        if scope.own and scope.shared and scope.space not in scope.shared:
            own_seen = await asyncio.to_thread(_seen, place, await _read(store, own))
            known += [one for one in own_seen if not scope.hides(one.visit)]
        # Most visits learn from one space, all of it: its outlook is there.
        same = next((one for one in fitted if list(one.seen) == known), None)
        learned.of_visits[visit] = same.outlook if same else await asyncio.to_thread(_outlook, place, known)
        while len(learned.of_visits) > VISITS_KEPT:
            learned.of_visits.popitem(last=False)
    return learned.of_visits[visit]


async def _up_to_date(learned: _StoreRisk, store: BaseStore, prefix: Prefix, place: OpenWorld) -> _Fitted:
    known = learned.fitted.get(prefix)
    if known is None or known.place is not place or await _changed(store, prefix, known.records):
        items = await _read(store, prefix)
        seen, outlook = await asyncio.to_thread(_fit, place, items)
        known = _Fitted(place, len(items), seen, outlook)
    with _looking_up:
        learned.fitted[prefix] = known
        learned.fitted.move_to_end(prefix)
        while len(learned.fitted) > MEMORIES_KEPT or sum(len(one.seen) for one in learned.fitted.values()) > SEEN_KEPT:
            learned.fitted.popitem(last=False)
    return known


async def _changed(store: BaseStore, prefix: Prefix, records: int) -> bool:
    """Return whether there are more or fewer records than before, as far as they count."""
    around = await store.asearch(prefix, limit=2, offset=max(0, records - 1), refresh_ttl=False)
    return not around if records >= MOST else len(around) != min(records, 1)


async def _read(store: BaseStore, prefix: Prefix) -> list[SearchItem]:
    items: list[SearchItem] = []
    while len(items) < MOST:
        limit = min(PAGE, MOST - len(items))
        # Nothing would ever expire if looking at all of it counted as recalling it.
        page = await store.asearch(prefix, limit=limit, offset=len(items), refresh_ttl=False)
        items += page
        if len(page) < PAGE:
            break
        await asyncio.sleep(0)
    return items


def _fit(place: OpenWorld, items: Sequence[SearchItem]) -> tuple[tuple[_Seen, ...], LeaveRiskModel | None]:
    seen = _seen(place, items)
    return seen, _outlook(place, seen)


def _valid(items: Sequence[SearchItem]) -> Iterator[Experience]:
    for item in items:
        try:
            yield Experience.model_validate(item.value)
        except ValidationError:
            # Put there by hand.
            continue


def _seen(place: OpenWorld, items: Sequence[SearchItem]) -> tuple[_Seen, ...]:
    catalogue = place.world.catalogue
    return tuple(
        _Seen(
            one.visit,
            one.user_id,
            RoundOutcome(
                catalogue.position(one.item_id),
                tuple(catalogue.position(item_id) for item_id in one.recent),
                one.predicted,
                one.left,
            ),
        )
        for one in _valid(items)
        # Memories of the original do not say; what somebody wrote by hand may hold anything.
        if one.predicted is not None
        and one.left is not None
        and 1 <= one.predicted <= 5
        and len(one.recent) <= WINDOW
        and all(item_id in catalogue for item_id in (one.item_id, *one.recent))
    )


def _outlook(place: OpenWorld, seen: Sequence[_Seen]) -> LeaveRiskModel | None:
    return fit_leave_risk(_pairs(place), [one.observation for one in seen])


def _pairs(place: OpenWorld) -> PairFeatures:
    """Return what is seen of the world's pairs of items."""
    pairs: PairFeatures | None = place.cache.get(PairFeatures)
    if pairs is None:
        pairs = place.cache[PairFeatures] = PairFeatures(place.world.catalogue, place.world.logs)
    return pairs
