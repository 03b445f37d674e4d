"""Outlook in a visit: candidates for the Actor, memories for the fit, and the time of a refit."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graph.episode import build_variant
from memory.embeddings import shared_embeddings
from memory.recall import RecallScope, remember
from memory.records import Experience, Record, record
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm.prompting import read_facts
from nodes.state import VisitInput, VisitOutput
from nodes.tools import leave_risk_from_memory as tool
from nodes.tools.leave_risk_from_memory import leave_risk_from_memory
from nodes.tools.open_world import OpenWorld, open_world
from sim.data.sources import load_ratings
from sim.policies.leave_risk import LeaveRiskModel, PairFeatures, RoundOutcome, fit_leave_risk
from sim.world import World

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
async def store() -> AsyncIterator[ChromaStore]:
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        yield store


async def opened() -> OpenWorld:
    return await open_world("tiny")


async def experiences(count: int, *, visit: str = "other", user: str = "0", first: int = 0) -> list[Record]:
    """Return experiences in which the user left after every item close to a recent one by the logs model."""
    world = (await opened()).world
    rng = np.random.default_rng(first)
    made = []
    for number in range(first, first + count):
        now, *before = (world.catalogue[int(one)] for one in rng.choice(len(world.catalogue), 3, replace=False))
        nearest = min(world.logs.distance(now.id, one.id) for one in before)
        experience = Experience(
            visit=visit, user_id=user, situation=before[-1].label, plan="", item_id=now.id, title=now.title,
            genres=list(now.genres), recent=[one.id for one in before], predicted=4.0, distance=nearest, reward=4.0,
            advantage=0.0, left=nearest < 0.5,
        )  # fmt: skip
        made.append(record(experience, number))
    return made


async def run(store: ChromaStore | None, context: Context, **given: Any) -> tuple[VisitOutput, list[dict[str, Any]]]:
    graph: Any = build_variant("billp_outlook").compile(store=store)
    visit = VisitInput(world="tiny", max_steps=6, **given)
    seen = [one async for one in graph.astream(visit, context=context, stream_mode=["updates", "values"])]
    updates = [part for mode, part in seen if mode == "updates"]
    return VisitOutput.model_validate(seen[-1][1]), updates


OFF = Context(learn="off")


async def test_the_actor_is_told_the_risk_and_takes_what_is_foreseen(store: ChromaStore) -> None:
    await remember(store, "tiny", await experiences(120))
    output, updates = await run(store, OFF)
    foreseen = [one["outlook"]["foreseen"] for one in updates if "outlook" in one]
    told = [read_facts(one["actor"]["exchange"]["actor"].prompt)["candidates"] for one in updates if "actor" in one]
    assert [[one.risk for one in shown] for shown in foreseen] == [[one["risk"] for one in shown] for shown in told]
    # The first round has no risk; later rounds avoid near items, because near items ended visits.
    assert not any(one.risk for one in foreseen[0])
    for step, shown in zip(output.steps[1:], foreseen[1:], strict=True):
        assert step.risk == next(one.risk for one in shown if one.item_id == step.item_id)
        assert step.distance is not None and step.distance > 0.5
    judged = [read_facts(one["critic"]["exchange"]["critic"].prompt)["now"] for one in updates if "critic" in one]
    assert [one["risk"] for one in judged] == [step.risk for step in output.steps]


async def test_without_experiences_or_switched_off_the_actor_makes_its_own_shortlist(store: ChromaStore) -> None:
    empty, _ = await run(store, OFF)
    nothing, _ = await run(None, OFF)
    await remember(store, "tiny", await experiences(60))
    off, updates = await run(store, OFF.model_copy(update={"outlook": False}))
    for output in (empty, nothing, off):
        assert all(step.risk is None for step in output.steps)
    prompts = [one["actor"]["exchange"]["actor"].prompt for one in updates if "actor" in one]
    assert prompts and not any("risk" in candidate for one in prompts for candidate in read_facts(one)["candidates"])


async def test_it_is_learned_anew_only_when_the_memory_has_changed(
    store: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []

    def counted(pairs: PairFeatures, seen: list[RoundOutcome]) -> LeaveRiskModel | None:
        fits.append(len(seen))
        return fit_leave_risk(pairs, seen)

    monkeypatch.setattr(tool, "fit_leave_risk", counted)
    records = await experiences(40)
    await remember(store, "tiny", records)
    for user in ("", "", ""):
        await run(store, OFF, user_id=user)
    assert fits == [40]
    await remember(store, "tiny", await experiences(10, first=40))
    await run(store, OFF)
    assert fits == [40, 50]
    await store.adelete(("experiences", "tiny", "0"), records[0].key)
    await run(store, OFF)
    assert fits == [40, 50, 49]


async def test_a_visit_learns_nothing_from_itself_and_nothing_unshared(store: ChromaStore) -> None:
    world = await opened()
    await remember(store, "tiny", await experiences(30, visit="mine", user="1"))
    others = await experiences(30, visit="theirs", user="2", first=100)
    mine = RecallScope("tiny", "1", "mine", ("tiny",))
    assert await leave_risk_from_memory(store, mine, world, begins=True) is None
    await remember(store, "tiny", others)
    found = await leave_risk_from_memory(store, mine, world, begins=True)
    alone = ChromaStore(embeddings=shared_embeddings())
    async with alone:
        await remember(alone, "tiny", others)
        expected = await leave_risk_from_memory(alone, mine, world, begins=True)
    assert found is not None and expected is not None and found.weights.tolist() == expected.weights.tolist()
    own = RecallScope("tiny", "3", "x", ())
    assert await leave_risk_from_memory(store, own, world, begins=True) is None


async def test_private_experiences_teach_their_user_alone_and_own_ones_can_be_left_out(store: ChromaStore) -> None:
    world = await opened()
    shared, mine = await experiences(30, visit="theirs", user="2"), await experiences(30, user="1", first=100)
    await remember(store, "tiny", shared)
    await remember(store, "private:tiny", mine)

    async def weights(scope: RecallScope) -> list[float]:
        found = await leave_risk_from_memory(store, scope, world, begins=True)
        assert found is not None
        return [float(one) for one in found.weights]

    of_others = await weights(RecallScope("tiny", "1", "a", ("tiny",)))
    assert await weights(RecallScope("private:tiny", "1", "b", ("tiny",))) != of_others
    assert await weights(RecallScope("private:tiny", "1", "c", ("tiny",), own=False)) == of_others
    assert await weights(RecallScope("private:tiny", "7", "d", ("tiny",))) == of_others
    await remember(store, "tiny", mine)
    assert await weights(RecallScope("tiny", "1", "e", ("tiny",), own=False)) == of_others
    assert await weights(RecallScope("tiny", "1", "f", ("tiny",))) != of_others
    assert await leave_risk_from_memory(store, RecallScope("tiny", "1", "g", (), own=False), world, begins=True) is None


async def test_an_entry_put_there_by_hand_is_passed_over(store: ChromaStore) -> None:
    await store.aput(("experiences", "tiny", "0"), "by hand", {"text": "hello"})
    assert (
        await leave_risk_from_memory(store, RecallScope("tiny", "1", "x", ("tiny",)), await opened(), begins=True)
        is None
    )


async def test_some_train_visits_try_items_at_random_and_no_other_visit_does(store: ChromaStore) -> None:
    async def shown(learn: str, explore: float) -> list[list[str]]:
        context = Context.model_validate({"learn": learn, "explore": explore})
        _, updates = await run(store, context, seed=5)
        return [[one.item_id for one in part["outlook"]["foreseen"]] for part in updates if "outlook" in part]

    # Without any experience, all training visits try random items.
    assert len(await shown("cohort", 1e-9)) and not any(await shown("off", 1.0)) and not any(await shown("cohort", 0.0))
    await remember(store, "tiny", await experiences(120))
    at_random = await shown("cohort", 1.0)
    assert at_random == await shown("cohort", 1.0)
    assert at_random[0] != (await shown("cohort", 0.0))[0]
    assert await shown("off", 1.0) == await shown("off", 0.0)


def count_fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of experiences of each fit."""
    fits: list[int] = []

    def counted(pairs: PairFeatures, seen: list[RoundOutcome]) -> LeaveRiskModel | None:
        fits.append(len(seen))
        return fit_leave_risk(pairs, seen)

    monkeypatch.setattr(tool, "fit_leave_risk", counted)
    return fits


async def test_a_visit_keeps_what_it_began_with_while_others_begin_and_write(
    store: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await remember(store, "tiny", await experiences(40))
    fits = count_fits(monkeypatch)
    world, mine, theirs = (
        await opened(),
        RecallScope("tiny", "1", "mine", ("tiny",)),
        RecallScope("tiny", "2", "theirs", ("tiny",)),
    )
    began = await leave_risk_from_memory(store, mine, world, begins=True)
    await remember(store, "tiny", await experiences(5, visit="mine", user="1", first=40))
    other = await leave_risk_from_memory(store, theirs, world, begins=True)
    for _ in range(3):
        assert await leave_risk_from_memory(store, mine, world, begins=False) is began
        assert await leave_risk_from_memory(store, theirs, world, begins=False) is other
    assert began is not other and fits == [40, 45]


async def test_what_is_kept_of_many_memories_is_bounded(store: ChromaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound, a caller with many spaces would fill the server's memory with their fits."""
    fits = count_fits(monkeypatch)
    monkeypatch.setattr(tool, "SEEN_KEPT", 60)
    world = await opened()
    for number in range(5):
        await remember(store, f"space{number}", await experiences(25, first=100 * number))

    async def weights(number: int) -> list[float]:
        scope = RecallScope(f"space{number}", "1", f"visit{number}", (f"space{number}",))
        found = await leave_risk_from_memory(store, scope, world, begins=True)
        assert found is not None
        return [float(one) for one in found.weights]

    first = [await weights(number) for number in range(5)]
    assert len(fits) == 5
    # The fits of the last two are kept.
    assert [await weights(number) for number in (3, 4)] == first[3:] and len(fits) == 5
    assert [await weights(number) for number in (0, 1, 2)] == first[:3] and len(fits) == 8


def test_it_is_learned_in_any_thread_and_event_loop() -> None:
    async def learn(store: ChromaStore) -> list[float]:
        found = await leave_risk_from_memory(
            store, RecallScope("tiny", "1", "x", ("tiny",)), await opened(), begins=True
        )
        assert found is not None
        return [float(one) for one in found.weights]

    with ChromaStore(embeddings=shared_embeddings()) as store, ThreadPoolExecutor(4) as pool:
        asyncio.run(remember(store, "tiny", asyncio.run(experiences(40))))
        runs = [pool.submit(asyncio.run, learn(store)) for _ in range(4)]
        found = [run.result(timeout=60) for run in runs]
    assert all(one == found[0] for one in found)


async def test_two_worlds_under_one_space_have_an_outlook_each(store: ChromaStore, home: Path) -> None:
    small = World.build("small", load_ratings("tiny", 1))
    small.save(home / "worlds" / "small")
    await remember(store, "shared", await experiences(40))
    scope = RecallScope("shared", "1", "x", ("shared",))
    for world in (await opened(), await open_world("small"), await opened()):
        found = await leave_risk_from_memory(store, scope, world, begins=True)
        expected = fit_leave_risk(
            PairFeatures(world.world.catalogue, world.world.logs), [RoundOutcome(1, (0,), 4.0, True)]
        )
        assert found is not None and expected is not None
        assert np.array_equal(found.pairs.with_item(0), expected.pairs.with_item(0))


async def test_experiences_that_do_not_say_whether_the_user_left_teach_no_risk(store: ChromaStore) -> None:
    known = await experiences(40)
    unknown = [
        one.model_copy(update={"key": f"{one.key}-", "value": one.value.model_copy(update=changes)})
        for one in known
        for changes in ({"left": None}, {"predicted": None})
    ]
    await remember(store, "tiny", unknown[:1])
    output, _ = await run(store, OFF)
    assert output.steps[0].risk is None
    await remember(store, "tiny", known)
    with_known, _ = await run(store, OFF)
    await remember(store, "tiny", unknown[1:])
    with_both, _ = await run(store, OFF)
    risks = [[step.risk for step in one.steps] for one in (with_known, with_both)]
    assert risks[0] == risks[1] and any(risks[0])
