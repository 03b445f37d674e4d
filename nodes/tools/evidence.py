"""Evidence: what the experiences that a visit may recall tell about staying and leaving.

A visit keeps the evidence of its start. Rounds are read from a store once, and then followed; the leave-risk model is
fitted anew at the start of a visit if the rounds have changed.
"""

import asyncio
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from langgraph.store.base import BaseStore
from scipy.sparse import triu

from memory.access import whole_store
from memory.changes import Changes, Mark, read_changes
from memory.recall import RecallScope, warn_once
from memory.records import escape, namespace
from nodes.tools.open_world import OpenWorld
from nodes.tools.remembered_rounds import RememberedRounds
from sim.arrays import Floats, Positions
from sim.policies.leave_risk import PEOPLE_PRIOR, WEIGHT_PRIOR, LeaveRiskModel, fit_leave_risk
from sim.policies.pair_evidence import PairEvidence, Rounds
from sim.policies.pair_features import PairFeatures

# Most current visits whose evidence is kept, and most rounds of all of it, at some 0.2 kB each with their pairs.
VISITS_KEPT = 1_000
VISIT_ROUNDS_KEPT = 3_000_000
# Most memories that are followed, and most rounds of all of them, at some 0.2 kB each.
MEMORIES_KEPT = 1_000
ROUNDS_KEPT = 500_000
# Ends of the bands of distances.
_ENDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 2.0)
# Pairs beyond a distance from which on it may count as safe, and the largest share of a band that ended visits.
ENOUGH_PAIRS, BAND_PAIRS = 50, 10
SAFE_LEAVINGS = 0.01
Prefix = tuple[str, ...]


class Band(NamedTuple):
    """Pairs of items with a distance between two bounds, one of which followed the other within four rounds."""

    low: float
    high: float
    pairs: int
    """Different pairs."""
    left: float
    """Leavings that fall to them. A leaving is shared among the pairs of its round and dislike of the item."""


@dataclass(frozen=True)
class Evidence:
    """Rounds that a visit may recall, the leave-risk model fitted to them, and their pairs by distance."""

    rounds: Rounds
    model: LeaveRiskModel | None
    """None without rounds: most visits without memory never need the features of the model."""
    bands: tuple[Band, ...] = ()
    """Nearest band first, without empty ones."""

    @property
    def pairs(self) -> PairEvidence | None:
        """Evidence of pairs; None for nothing."""
        return self.model.evidence if self.model else None

    @cached_property
    def safe_distance(self) -> float | None:
        """Least edge of a band from which on at most `SAFE_LEAVINGS` of the pairs of any band ended a visit.

        None if there is no such edge with `ENOUGH_PAIRS` pairs above it, `BAND_PAIRS` of them in its own band.
        """
        for number, band in enumerate(self.bands):
            farther = self.bands[number:]
            enough = band.pairs >= BAND_PAIRS and sum(one.pairs for one in farther) >= ENOUGH_PAIRS
            if enough and all(one.left <= SAFE_LEAVINGS * one.pairs for one in farther):
                return band.low
        return None


NO_EVIDENCE = Evidence(Rounds.of([]), None)
"""Evidence of nobody's experiences."""


def bands_of(model: LeaveRiskModel) -> tuple[Band, ...]:
    """Return the pairs of a model's evidence by distance.

    Each pair counts once, however often users took it, because only pairs that go well are taken again.
    """
    if model.evidence is None:
        return ()
    known = triu(model.evidence.stayed + model.evidence.left).tocoo()
    left = np.asarray(model.evidence.left[known.row, known.col]).ravel()
    number = _band_numbers(model.features.distances(known.row, known.col))
    pairs, leavings = (np.bincount(number, weights, len(_ENDS) - 1) for weights in (None, left))
    return tuple(
        Band(low, high, int(count), float(ended))
        for low, high, count, ended in zip(_ENDS[:-1], _ENDS[1:], pairs, leavings, strict=True)
        if count
    )


def _band_numbers(distances: Floats) -> Positions:
    # An edge belongs to the farther band, also where rounding falls short of it.
    return np.searchsorted(_ENDS[1:-1], distances + 2e-7, side="right")


@dataclass(eq=False)
class _Followed:
    """Rounds below one prefix, with the evidence that was last fitted to them."""

    rounds: RememberedRounds
    mark: Mark | None = None
    fits: dict[str | None, Evidence] = field(default_factory=dict)
    """Evidence last fitted to rounds of this prefix alone, by reward table; None for people."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def apply(self, since: Mark | None, changes: Changes) -> bool:
        """Take up changes, and return whether they follow the last ones; another event loop may have been faster."""
        with self.lock:
            if self.mark is not since:
                return False
            self.rounds.apply(changes)
            self.mark = changes.mark
            return True


@dataclass(eq=False)
class _StoreEvidence:
    """Evidence of one store."""

    followed: "OrderedDict[tuple[OpenWorld, Prefix], _Followed]" = field(default_factory=OrderedDict)
    """Memories that were used last, latest last."""
    of_visits: "OrderedDict[tuple[tuple[_Part, ...], str], Evidence]" = field(default_factory=OrderedDict)
    """Evidence at the start of each visit, latest last."""
    locks: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]" = field(default_factory=WeakKeyDictionary)
    """One lock for each event loop: several loops may use a store, but a lock works in one loop only."""

    def keep(self, visit: "tuple[tuple[_Part, ...], str]", evidence: Evidence) -> None:
        """Keep the evidence of a visit, and drop that of the oldest visits beyond the bounds."""
        self.of_visits[visit] = evidence
        self.of_visits.move_to_end(visit)
        # Many visits begin with the same evidence, which takes room once.
        used = Counter(map(id, self.of_visits.values()))
        rounds = sum(len(one.rounds) / used[id(one)] for one in self.of_visits.values())
        while len(self.of_visits) > VISITS_KEPT or (rounds > VISIT_ROUNDS_KEPT and len(self.of_visits) > 1):
            dropped = self.of_visits.popitem(last=False)[1]
            used[id(dropped)] -= 1
            rounds -= 0 if used[id(dropped)] else len(dropped.rounds)


class _Part(NamedTuple):
    """Part of a memory that a visit may recall."""

    prefix: Prefix
    left_out: str | None
    """Id of a user whose rounds are left out."""


_stores: WeakKeyDictionary[BaseStore, _StoreEvidence] = WeakKeyDictionary()
_looking_up = threading.Lock()


async def evidence_from_memory(
    store: BaseStore, scope: RecallScope, opened: OpenWorld, *, begins: bool, of_people: bool = False
) -> Evidence:
    """Return the evidence of the experiences in a visit's scope.

    Args:
        store: Store of the memories.
        scope: Scope of recall of the visit.
        opened: World of the experiences.
        begins: Whether the visit starts now; later it keeps its first evidence.
        of_people: Whether people, not simulated users, stayed and left; always the same for one scope.
    """
    parts = _parts(scope)
    visit, whole = (parts, scope.visit), whole_store(store)
    with _looking_up:
        known = _stores.get(whole) or _stores.setdefault(whole, _StoreEvidence())
        kept = None if begins else known.of_visits.get(visit)
        if kept is not None:
            return kept
        lock = known.locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    # Visits that start together wait for one fit.
    async with lock:
        followed = [await _up_to_date(known, store, part.prefix, opened) for part in parts]
        # Hide experiences of this visit: it has some after a fork, or after a resume in another process.
        hidden = tuple(filter(None, (scope.visit, scope.copied_from)))
        of_whom = None if of_people else opened.world.table_of(scope.user_id)
        found = await asyncio.to_thread(_evidence, opened, parts, followed, hidden, of_whom)
    with _looking_up:
        known.keep(visit, found)
    return found


def prior_model(opened: OpenWorld) -> LeaveRiskModel:
    """Return the leave-risk model that has learned nothing."""
    return LeaveRiskModel.prior(_features(opened))


def _parts(scope: RecallScope) -> tuple[_Part, ...]:
    shared = tuple(
        _Part(("experiences", escape(space)), None if scope.own else scope.left_out(space)) for space in scope.shared
    )
    if scope.own and scope.space not in scope.shared:
        return (*shared, _Part(namespace("experiences", scope.space, scope.user_id), None))
    return shared


async def _up_to_date(known: _StoreEvidence, store: BaseStore, prefix: Prefix, opened: OpenWorld) -> _Followed:
    with _looking_up:
        fresh = _Followed(RememberedRounds(opened.world.catalogue, opened.world.table_of))
        followed = known.followed.setdefault((opened, prefix), fresh)
    taken_up = False
    while not taken_up:
        since = followed.mark
        changes = await read_changes(store, prefix, since)
        taken_up = await asyncio.to_thread(followed.apply, since, changes)
    if followed.rounds.passed_over:
        warn_once(store, prefix)
    with _looking_up:
        known.followed[opened, prefix] = followed
        known.followed.move_to_end((opened, prefix))
        while len(known.followed) > 1 and (
            len(known.followed) > MEMORIES_KEPT or sum(len(one.rounds) for one in known.followed.values()) > ROUNDS_KEPT
        ):
            known.followed.popitem(last=False)
    return followed


def _evidence(
    opened: OpenWorld,
    parts: Sequence[_Part],
    followed: Sequence[_Followed],
    hidden: Sequence[str],
    table: str | None,
) -> Evidence:
    """Return the evidence for users of a reward table, or for people if there is none."""
    rounds = []
    for part, one in zip(parts, followed, strict=True):
        with one.lock:
            rounds.append(one.rounds.rounds(hidden, part.left_out, table))
    seen = Rounds.joined([Rounds.of([]), *rounds])
    for one in followed:
        fit = one.fits.get(table)
        if fit is not None and fit.rounds.same(seen):
            return fit
    if not len(seen):
        return NO_EVIDENCE
    model = fit_leave_risk(_features(opened), seen, PEOPLE_PRIOR if table is None else WEIGHT_PRIOR)
    found = Evidence(seen, model, bands_of(model))
    if len(followed) == 1:
        # Most visits use all experiences of one space: the next one need not fit the model again.
        followed[0].fits[table] = found
    return found


def _features(opened: OpenWorld) -> PairFeatures:
    """Return the features of the world's pairs of items, computed once."""
    features: PairFeatures | None = opened.cache.get(PairFeatures)
    if features is None:
        features = opened.cache[PairFeatures] = PairFeatures(opened.world.catalogue, opened.world.logs)
    return features
