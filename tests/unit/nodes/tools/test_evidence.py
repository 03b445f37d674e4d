"""Evidence of a visit: bands, safe distance, whose rounds count, controls, and concurrent writers and readers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from graph.study.memory_controls import Control, controlled
from memory.access import Account, ScopedStore
from memory.recall import RecallScope, remember
from memory.records import Experience, Record, record
from memory.store import ChromaStore
from nodes.tools import evidence as module
from nodes.tools.evidence import Band, Evidence, bands_of, evidence_from_memory, prior_model
from nodes.tools.open_world import OpenWorld, open_world
from sim.policies.leave_risk import LeaveRiskModel, fit_leave_risk
from sim.policies.pair_evidence import RoundOutcome, Rounds
from tests.stores import chroma

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
async def store() -> AsyncIterator[ChromaStore]:
    async with chroma() as store:
        yield store


@pytest.fixture
async def opened() -> OpenWorld:
    return await open_world("tiny")


def experiences(
    opened: OpenWorld, count: int = 8, *, visit: str = "v", user: str = "1", first: int = 0
) -> list[Record]:
    """Return experiences in which users left after every fourth item."""
    items = list(opened.world.catalogue)
    made = []
    for number in range(first, first + count):
        item, before = items[number], items[number + 1]
        one = Experience(
            visit=visit, user_id=user, situation=before.label, plan="", item_id=item.id, title=item.title,
            genres=list(item.genres), recent=[before.id], predicted=4.0, distance=None, reward=4.0, advantage=1.0,
            left=number % 4 == 0,
        )  # fmt: skip
        made.append(record(one, number))
    return made


async def seen(store: Any, opened: OpenWorld, scope: RecallScope) -> list[int]:
    """Return the positions of the items of the rounds that a new visit may recall."""
    found = await evidence_from_memory(store, scope, opened, begins=True)
    return sorted(found.rounds.item.tolist())


def at_prior(opened: OpenWorld, bands: Sequence[Band]) -> Evidence:
    return Evidence(Rounds.of([]), prior_model(opened), tuple(bands))


def fitted(evidence: Evidence) -> LeaveRiskModel:
    assert evidence.model is not None
    return evidence.model


def test_bands_count_each_pair_once_with_the_leavings_that_fall_to_it(opened: OpenWorld) -> None:
    features = prior_model(opened).features
    near, far = np.argsort(opened.world.logs.distances(0))[[1, -1]].tolist()
    stayed = [RoundOutcome(far, (0,), 4.0, False)] * 5 + [RoundOutcome(0, (far,), 4.0, False)]
    model = fit_leave_risk(features, Rounds.of([*stayed, RoundOutcome(near, (0,), 4.0, True)]))
    bands = bands_of(model)
    assert [band.pairs for band in bands] == [1, 1]
    assert bands[0].left == pytest.approx(1, abs=0.01) and bands[1].left == 0
    for band, item in zip(bands, (near, far), strict=True):
        assert band.low - 1e-6 <= opened.world.logs.distances(0)[item] <= band.high
    assert bands_of(model.without_pairs()) == bands_of(LeaveRiskModel.prior(features)) == ()


@pytest.mark.parametrize(
    ("bands", "edge"),
    [
        ([], None),
        ([Band(0.4, 0.6, 100, 1.0)], 0.4),
        ([Band(0.4, 0.6, 100, 1.1)], None),
        ([Band(0.4, 0.6, 49, 0.0)], None),
        ([Band(0.2, 0.4, 99, 9.0), Band(0.4, 0.6, 30, 0.0), Band(0.6, 0.8, 20, 0.0)], 0.4),
        # Beyond a band in which visits ended nothing nearer is safe, and too few pairs beyond it say nothing.
        ([Band(0.2, 0.4, 99, 0.0), Band(0.4, 0.6, 30, 9.0), Band(0.6, 0.8, 50, 0.0)], 0.6),
        ([Band(0.2, 0.4, 99, 0.0), Band(0.4, 0.6, 30, 9.0), Band(0.6, 0.8, 49, 0.0)], None),
        # A near band of few pairs is not yet safe.
        ([Band(0.0, 0.2, 9, 0.0), Band(0.2, 0.4, 99, 0.0)], 0.2),
        ([Band(0.0, 0.2, 10, 0.0), Band(0.2, 0.4, 99, 0.0)], 0.0),
    ],
)
def test_a_distance_is_safe_if_hardly_any_pair_beyond_it_ended_a_visit(
    opened: OpenWorld, bands: list[Band], edge: float | None
) -> None:
    assert at_prior(opened, bands).safe_distance == edge


async def test_a_visit_sees_the_rounds_that_it_may_recall_and_no_others(store: ChromaStore, opened: OpenWorld) -> None:
    spaces = ["tiny", "private:tiny", "people:tiny", "account:bob:tiny", "private:account:bob:tiny", "account:eve:tiny"]
    for number, space in enumerate(spaces):
        for user in (1, 2):
            first = 10 * number + 2 * user
            await remember(store, space, experiences(opened, 1, user=str(user), first=first))

    def of(number: int, *users: int) -> set[int]:
        return {10 * number + 2 * user for user in users}

    bob = ("account:bob:tiny", "tiny")
    expected = [
        (RecallScope("tiny", "1", "x", ("tiny",)), of(0, 1, 2)),
        (RecallScope("tiny", "1", "x", ("tiny",), own=False), of(0, 2)),
        (RecallScope("tiny", "1", "x"), of(0, 1)),
        (RecallScope("private:tiny", "1", "x", ("tiny",)), of(0, 1, 2) | of(1, 1)),
        (RecallScope("private:tiny", "1", "x", ("tiny",), own=False), of(0, 1, 2)),
        (RecallScope("people:tiny", "2", "x", ("tiny",)), of(0, 1, 2) | of(2, 2)),
        (RecallScope("people:tiny", "3", "x", ("tiny",)), of(0, 1, 2)),
        (RecallScope("account:bob:tiny", "1", "x", bob), of(0, 1, 2) | of(3, 1, 2)),
        (RecallScope("private:account:bob:tiny", "2", "x", bob), of(0, 1, 2) | of(3, 1, 2) | of(4, 2)),
    ]
    for scope, items in expected:
        assert await seen(store, opened, scope) == sorted(items), scope
    account = ScopedStore(store, Account("bob"))
    assert await seen(account, opened, expected[-2][0]) == sorted(expected[-2][1])


async def test_a_visit_never_sees_its_own_rounds_nor_those_of_the_visit_that_it_copies(
    store: ChromaStore, opened: OpenWorld
) -> None:
    for number, visit in enumerate(("mine", "original", "other")):
        await remember(store, "tiny", experiences(opened, 1, visit=visit, first=number))
    assert await seen(store, opened, RecallScope("tiny", "1", "mine", ("tiny",))) == [1, 2]
    assert await seen(store, opened, RecallScope("tiny", "1", "mine", ("tiny",), copied_from="original")) == [2]


async def test_forgotten_and_replaced_records_count_no_more(store: ChromaStore, opened: OpenWorld) -> None:
    scope = RecallScope("tiny", "9", "x", ("tiny",))
    records = experiences(opened, 4)
    await remember(store, "tiny", records)
    # A replay writes the same records again.
    await remember(store, "tiny", records)
    assert await seen(store, opened, scope) == [0, 1, 2, 3]
    await store.adelete(("experiences", "tiny", "1"), records[0].key)
    assert await seen(store, opened, scope) == [1, 2, 3]
    changed = records[1].value.model_dump() | {"left": True}
    await store.aput(("experiences", "tiny", "1"), records[1].key, changed, index=False)
    found = await evidence_from_memory(store, scope, opened, begins=True)
    assert dict(zip(found.rounds.item.tolist(), found.rounds.left.tolist(), strict=True))[1] is True
    for one in records:
        await store.adelete(("experiences", "tiny", "1"), one.key)
    nothing = await evidence_from_memory(store, scope, opened, begins=True)
    assert not len(nothing.rounds) and nothing.model is None and nothing.pairs is None and nothing.bands == ()


@pytest.mark.parametrize("control", ["full", "empty", "prior", "shuffled", "inverted"])
async def test_a_control_of_the_memory_changes_the_evidence_as_the_records(
    store: ChromaStore, opened: OpenWorld, control: Control
) -> None:
    records = experiences(opened, 12)
    await remember(store, "tiny", controlled(records, control, seed=1))
    found = await evidence_from_memory(store, RecallScope("tiny", "9", "x", ("tiny",)), opened, begins=True)
    left = dict(zip(found.rounds.item.tolist(), found.rounds.left.tolist(), strict=True))
    truth = {number: number % 4 == 0 for number in range(12)}
    if control in ("empty", "prior"):
        assert left == {} and found.bands == ()
    elif control == "inverted":
        assert left == {number: not one for number, one in truth.items()}
    elif control == "shuffled":
        assert left.keys() == truth.keys() and left != truth and sum(left.values()) == sum(truth.values())
    else:
        assert left == truth and sum(band.pairs for band in found.bands) == 12


async def test_concurrent_writers_leave_the_model_that_one_writer_leaves(opened: OpenWorld) -> None:
    records = experiences(opened, 60)
    scope = RecallScope("tiny", "9", "x", ("tiny",))

    async def weights(batches: list[list[Record]], *, between: bool) -> tuple[list[float], int]:
        async with chroma() as store:
            jobs: list[Any] = [remember(store, "tiny", batch) for batch in batches]
            if between:
                jobs += [evidence_from_memory(store, scope, opened, begins=True) for _ in batches]
            await asyncio.gather(*jobs)
            found = await evidence_from_memory(store, scope, opened, begins=True)
            return fitted(found).weights.tolist(), len(found.rounds)

    alone = await weights([records], between=False)
    assert alone[1] == 60
    assert await weights([records[start::6] for start in (5, 3, 0, 4, 1, 2)], between=True) == alone


def test_two_event_loops_follow_one_store(opened: OpenWorld) -> None:
    batches = [experiences(opened, 5, visit=f"v{number}", first=5 * number) for number in range(8)]

    async def learn(store: ChromaStore, number: int) -> None:
        await remember(store, "tiny", batches[number])
        scope = RecallScope("tiny", "9", f"x{number}", ("tiny",))
        found = await evidence_from_memory(store, scope, opened, begins=True)
        assert {*range(5 * number, 5 * number + 5)} <= {*found.rounds.item.tolist()}
        assert await evidence_from_memory(store, scope, opened, begins=False) is found

    with chroma() as store, ThreadPoolExecutor(4) as pool:
        for run in [pool.submit(asyncio.run, learn(store, number)) for number in range(8)]:
            run.result(timeout=60)
        assert asyncio.run(seen(store, opened, RecallScope("tiny", "9", "last", ("tiny",)))) == list(range(40))


async def test_evidence_of_old_visits_is_dropped_and_read_again(
    store: ChromaStore, opened: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VISITS_KEPT", 2)
    await remember(store, "tiny", experiences(opened, 3))
    scopes = [RecallScope("tiny", "9", f"x{number}", ("tiny",)) for number in range(3)]
    found = [await evidence_from_memory(store, scope, opened, begins=True) for scope in scopes]
    again = await evidence_from_memory(store, scopes[0], opened, begins=False)
    assert again.rounds.same(found[0].rounds)


async def test_evidence_of_visits_takes_bounded_room_and_what_visits_share_counts_once(
    store: ChromaStore, opened: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a bound, each visit of a large memory that is written to all the time would keep all of its rounds."""
    monkeypatch.setattr(module, "VISIT_ROUNDS_KEPT", 9)
    scopes = [RecallScope("tiny", "9", f"x{number}", ("tiny",)) for number in range(6)]

    async def kept(scope: RecallScope) -> int:
        return len((await evidence_from_memory(store, scope, opened, begins=False)).rounds)

    await remember(store, "tiny", experiences(opened, 4))
    assert [await kept(scope) for scope in scopes[:4]] == [4] * 4
    await remember(store, "tiny", experiences(opened, 1, first=4))
    assert await kept(scopes[4]) == 5
    # Four visits share 4 rounds, the fifth has 5.
    assert [await kept(scope) for scope in scopes[:5]] == [4] * 4 + [5]
    await remember(store, "tiny", experiences(opened, 1, first=5))
    assert await kept(scopes[5]) == 6
    # The oldest are dropped, and so begin anew.
    assert [await kept(scope) for scope in scopes[:5]] == [6] * 5
