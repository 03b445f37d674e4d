"""Leave-risk model from memory: fitted to experiences, and refitted at the start of a visit if they changed."""

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
from memory.recall import RecallScope, below
from memory.records import Experience, escape, namespace
from nodes.tools.open_world import OpenWorld
from sim.leave import WINDOW
from sim.policies.leave_risk import LeaveRiskModel, PairFeatures, RoundOutcome, fit_leave_risk

# Records read at a time; the event loop runs between two pages.
EXPERIENCES_AT_ONCE = 500
# Most experiences for a fit, from some 500 visits; more would make it slower and hardly better.
MOST_EXPERIENCES = 20_000
# Most current visits whose model is cached.
VISITS_KEPT = 1_000
# Most memories whose model is cached, and most experiences of all of them, at some 0.5 kB each.
MEMORIES_KEPT = 1_000
SEEN_KEPT = 5 * MOST_EXPERIENCES
Prefix = tuple[str, ...]


class _Seen(NamedTuple):
    """Part of an experience that is used for a fit, with its owner; the rest, some kilobytes, is not cached."""

    visit: str
    user_id: str
    observation: RoundOutcome


class _Fitted(NamedTuple):
    """Experiences of one memory and the model fitted to them."""

    open_world: OpenWorld
    records: int
    """Number of records."""
    seen: tuple[_Seen, ...]
    outlook: LeaveRiskModel | None


@dataclass(eq=False)
class _StoreRisk:
    """Models fitted to one store."""

    fitted: "OrderedDict[Prefix, _Fitted]" = field(default_factory=OrderedDict)
    """Fits of the memories that were used last, latest last."""
    of_visits: "OrderedDict[tuple[tuple[Prefix, ...], str], LeaveRiskModel | None]" = field(default_factory=OrderedDict)
    """Model at the start of each visit, latest last."""
    locks: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]" = field(default_factory=WeakKeyDictionary)
    """One lock for each event loop: several loops may use a store, but a lock works in one loop only."""


_stores: WeakKeyDictionary[BaseStore, _StoreRisk] = WeakKeyDictionary()
_looking_up = threading.Lock()


async def leave_risk_from_memory(
    store: BaseStore, scope: RecallScope, opened: OpenWorld, *, begins: bool
) -> LeaveRiskModel | None:
    """Return the leave-risk model fitted to the experiences in a visit's scope; None without experiences.

    A visit keeps its first model. The model is refitted at the start of a visit if the number of experiences changed;
    a replaced experience is not noticed. Of a space with more experiences, the first `MOST_EXPERIENCES` by namespace
    and key are used.

    Args:
        store: Store of the memories.
        scope: Scope of recall of the visit.
        opened: World of the experiences.
        begins: Whether the visit starts now.
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
        # Visits that start together wait for one fit.
        async with lock:
            fitted = [await _up_to_date(learned, store, prefix, opened) for prefix in prefixes]
        # Hide experiences of this visit: it has some after a fork, or after a resume in another process.
        known = [
            one
            for space, of_space in zip(scope.shared or (scope.space,), fitted, strict=True)
            for one in of_space.seen
            if not scope.hides(one.visit) and (scope.own or one.user_id != scope.left_out(space))
        ]
        if scope.own and scope.shared and scope.space not in scope.shared:
            own_seen = await asyncio.to_thread(_seen, opened, below(own, await _read(store, own)))
            known += [one for one in own_seen if not scope.hides(one.visit)]
        # Most visits use all experiences of one space, and its model is fitted already.
        same = next((one for one in fitted if list(one.seen) == known), None)
        learned.of_visits[visit] = same.outlook if same else await asyncio.to_thread(_outlook, opened, known)
        while len(learned.of_visits) > VISITS_KEPT:
            learned.of_visits.popitem(last=False)
    return learned.of_visits[visit]


async def _up_to_date(learned: _StoreRisk, store: BaseStore, prefix: Prefix, opened: OpenWorld) -> _Fitted:
    known = learned.fitted.get(prefix)
    if known is None or known.open_world is not opened or await _changed(store, prefix, known.records):
        items = await _read(store, prefix)
        seen, outlook = await asyncio.to_thread(_fit, opened, below(prefix, items))
        known = _Fitted(opened, len(items), seen, outlook)
    with _looking_up:
        learned.fitted[prefix] = known
        learned.fitted.move_to_end(prefix)
        while len(learned.fitted) > MEMORIES_KEPT or sum(len(one.seen) for one in learned.fitted.values()) > SEEN_KEPT:
            learned.fitted.popitem(last=False)
    return known


async def _changed(store: BaseStore, prefix: Prefix, records: int) -> bool:
    """Return whether the number of records changed, up to `MOST_EXPERIENCES`."""
    around = await store.asearch(prefix, limit=2, offset=max(0, records - 1), refresh_ttl=False)
    return not around if records >= MOST_EXPERIENCES else len(around) != min(records, 1)


async def _read(store: BaseStore, prefix: Prefix) -> list[SearchItem]:
    items: list[SearchItem] = []
    while len(items) < MOST_EXPERIENCES:
        limit = min(EXPERIENCES_AT_ONCE, MOST_EXPERIENCES - len(items))
        # Do not refresh the TTL: reading every record is no recall, and nothing would ever expire.
        page = await store.asearch(prefix, limit=limit, offset=len(items), refresh_ttl=False)
        items += page
        if len(page) < EXPERIENCES_AT_ONCE:
            break
        await asyncio.sleep(0)
    return items


def leave_risk_at_prior(opened: OpenWorld) -> LeaveRiskModel:
    """Return the leave-risk model that has learned nothing."""
    return LeaveRiskModel.prior(_pairs(opened))


def _fit(opened: OpenWorld, items: Sequence[SearchItem]) -> tuple[tuple[_Seen, ...], LeaveRiskModel | None]:
    seen = _seen(opened, items)
    return seen, _outlook(opened, seen)


def _valid(items: Sequence[SearchItem]) -> Iterator[Experience]:
    for item in items:
        try:
            yield Experience.model_validate(item.value)
        except ValidationError:
            # Skip an invalid record, written by hand.
            continue


def _seen(opened: OpenWorld, items: Sequence[SearchItem]) -> tuple[_Seen, ...]:
    catalogue = opened.world.catalogue
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
        # Experiences of the original lack these fields, and records written by hand may hold any value.
        if one.predicted is not None
        and one.left is not None
        and 1 <= one.predicted <= 5
        and len(one.recent) <= WINDOW
        and all(item_id in catalogue for item_id in (one.item_id, *one.recent))
    )


def _outlook(opened: OpenWorld, seen: Sequence[_Seen]) -> LeaveRiskModel | None:
    return fit_leave_risk(_pairs(opened), [one.observation for one in seen])


def _pairs(opened: OpenWorld) -> PairFeatures:
    """Return the features of the world's pairs of items, computed once."""
    pairs: PairFeatures | None = opened.cache.get(PairFeatures)
    if pairs is None:
        pairs = opened.cache[PairFeatures] = PairFeatures(opened.world.catalogue, opened.world.logs)
    return pairs
