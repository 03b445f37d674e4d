"""Outlook in a visit: candidates for the Actor, memories for the fit, and the time of a refit."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langgraph.checkpoint.memory import InMemorySaver

from graph.checkpoints import serializer
from graph.episode import build_variant
from memory.embeddings import shared_embeddings
from memory.recall import RecallScope, remember
from memory.records import Experience, Record, record
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm.prompting import read_facts
from nodes.state import Candidate, VisitInput, VisitOutput
from nodes.tools import evidence as tool
from nodes.tools.evidence import Evidence, evidence_from_memory
from nodes.tools.open_world import OpenWorld, open_world
from sim.data.sources import load_ratings
from sim.policies.leave_risk import LeaveRiskModel, WeightPrior, fit_leave_risk
from sim.policies.pair_evidence import Rounds
from sim.policies.pair_features import PairFeatures
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


def fitted(evidence: Evidence) -> LeaveRiskModel:
    assert evidence.model is not None
    return evidence.model


async def test_a_prediction_beyond_the_scale_is_learned_from_like_any_other(store: ChromaStore) -> None:
    told = [
        one.model_copy(update={"value": one.value.model_copy(update={"predicted": 5.8})})
        for one in await experiences(3)
    ]
    await remember(store, "tiny", told)
    scope = RecallScope(visit="mine", user_id="1", space="tiny", shared=("tiny",))
    found = await evidence_from_memory(store, scope, await opened(), begins=True)
    assert fitted(found).weights.tolist() != tool.prior_model(await opened()).weights.tolist()


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


async def test_a_plan_that_is_edited_after_the_outlook_is_followed_with_risks(store: ChromaStore) -> None:
    """An interrupt before the Actor is where a plan is edited, and by then the outlook has chosen by the old one."""
    await remember(store, "tiny", await experiences(120))
    graph: Any = build_variant("billp_outlook").compile(
        checkpointer=InMemorySaver(serde=serializer()), store=store, interrupt_before=["actor"]
    )
    config = {"configurable": {"thread_id": "edited"}}

    async def listed(thread: Any) -> list[Candidate]:
        await graph.ainvoke(None, thread, context=OFF)
        found: list[Candidate] = (await graph.aget_state(config)).values["shortlist"]
        return found

    await graph.ainvoke(VisitInput(world="tiny", max_steps=3), config, context=OFF)
    await graph.ainvoke(None, config, context=OFF)
    before = await graph.aget_state(config)
    assert before.next == ("actor",) and len(before.values["steps"]) == 1
    unchanged = await listed(before.config)
    assert [one.item_id for one in unchanged] == [one.item_id for one in before.values["foreseen"]]
    left_out = next(genre for one in unchanged for genre in one.genres if genre in before.values["plan"])
    edited = await listed(await graph.aupdate_state(before.config, {"plan": f"Leave out {left_out}."}))
    assert edited and not any(left_out in one.genres for one in edited)
    assert all(one.risk is not None for one in edited)


async def test_without_experiences_the_risks_are_those_of_the_prior(store: ChromaStore) -> None:
    empty, _ = await run(store, OFF)
    nothing, _ = await run(None, OFF)
    await remember(store, "tiny", await experiences(60))
    at_prior, _ = await run(store, OFF.model_copy(update={"leave_risk": "prior"}))
    taught, _ = await run(store, OFF)
    risks = [[step.risk for step in output.steps] for output in (empty, nothing, at_prior, taught)]
    assert risks[0] == risks[1] == risks[2] != risks[3] and any(risks[0])
    assert [step.prior_risk for step in empty.steps] == risks[0]
    assert all(step.known is None for step in empty.steps) and any(step.known is not None for step in taught.steps)


async def test_a_risk_that_tells_less_than_the_leave_rate_is_not_shown(store: ChromaStore) -> None:
    """On a small table of readers the risks were upside down, and the visits shorter than without an outlook."""
    upside_down = [
        one.model_copy(update={"value": one.value.model_copy(update={"left": not one.value.model_dump()["left"]})})
        for one in await experiences(120)
    ]
    await remember(store, "tiny", upside_down)
    output, updates = await run(store, OFF)
    assert not any(one["outlook"]["foreseen"] for one in updates if "outlook" in one)
    assert all(step.risk is None for step in output.steps)
    # What is known of pairs holds all the same.
    assert any(step.known for step in output.steps[1:]) or any(step.ended is not None for step in output.steps[1:])


async def test_switched_off_the_actor_makes_its_own_shortlist(store: ChromaStore) -> None:
    await remember(store, "tiny", await experiences(60))
    off, updates = await run(store, OFF.model_copy(update={"outlook": False}))
    assert all(step.risk is None for step in off.steps)
    prompts = [one["actor"]["exchange"]["actor"].prompt for one in updates if "actor" in one]
    assert prompts and not any("risk" in candidate for one in prompts for candidate in read_facts(one)["candidates"])


async def test_it_is_learned_anew_only_when_the_memory_has_changed(
    store: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = count_fits(monkeypatch)
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
    nothing = await evidence_from_memory(store, mine, world, begins=True)
    assert not len(nothing.rounds) and nothing.model is None
    await remember(store, "tiny", others)
    found = await evidence_from_memory(store, mine, world, begins=True)
    alone = ChromaStore(embeddings=shared_embeddings())
    async with alone:
        await remember(alone, "tiny", others)
        expected = await evidence_from_memory(alone, mine, world, begins=True)
    assert len(found.rounds) == 30 and found.rounds.same(expected.rounds)
    assert fitted(found).weights.tolist() == fitted(expected).weights.tolist()
    own = RecallScope("tiny", "3", "x", ())
    assert not len((await evidence_from_memory(store, own, world, begins=True)).rounds)


async def test_private_experiences_teach_their_user_alone_and_own_ones_can_be_left_out(store: ChromaStore) -> None:
    world = await opened()
    shared, mine = await experiences(30, visit="theirs", user="2"), await experiences(30, user="1", first=100)
    await remember(store, "tiny", shared)
    await remember(store, "private:tiny", mine)

    async def weights(scope: RecallScope) -> list[float]:
        found = await evidence_from_memory(store, scope, world, begins=True)
        return [float(one) for one in fitted(found).weights]

    of_others = await weights(RecallScope("tiny", "1", "a", ("tiny",)))
    assert await weights(RecallScope("private:tiny", "1", "b", ("tiny",))) != of_others
    assert await weights(RecallScope("private:tiny", "1", "c", ("tiny",), own=False)) == of_others
    assert await weights(RecallScope("private:tiny", "7", "d", ("tiny",))) == of_others
    await remember(store, "tiny", mine)
    assert await weights(RecallScope("tiny", "1", "e", ("tiny",), own=False)) == of_others
    assert await weights(RecallScope("tiny", "1", "f", ("tiny",))) != of_others
    nobody_s = RecallScope("tiny", "1", "g", (), own=False)
    assert not len((await evidence_from_memory(store, nobody_s, world, begins=True)).rounds)


async def test_records_written_by_hand_are_passed_over_with_one_warning(
    store: ChromaStore, caplog: pytest.LogCaptureFixture
) -> None:
    good = await experiences(3)
    values = [one.value.model_dump() for one in good]
    broken: list[dict[str, Any]] = [
        {"text": "hello"},
        values[0] | {"item_id": "of another world"},
        values[0] | {"recent": ["gone"]},
        values[0] | {"recent": values[0]["recent"] * 5_000},
        values[0] | {"predicted": 1e300},
        values[0] | {"left": "perhaps"},
    ]
    for number, value in enumerate(broken):
        await store.aput(("experiences", "tiny", "0"), f"by hand {number}", value)
    await remember(store, "tiny", good)
    for visit in ("x", "y"):
        scope = RecallScope("tiny", "1", visit, ("tiny",))
        assert len((await evidence_from_memory(store, scope, await opened(), begins=True)).rounds) == 3
        await store.aput(("experiences", "tiny", "0"), visit, {"text": "hello"})
    assert len([one for one in caplog.records if "Skipped invalid" in one.getMessage()]) == 1


async def test_some_train_visits_try_items_at_random_and_no_other_visit_does(store: ChromaStore) -> None:
    async def shown(learn: str, explore: float) -> list[list[str]]:
        context = Context.model_validate({"learn": learn, "explore": explore})
        _, updates = await run(store, context, seed=5)
        return [[one.item_id for one in part["outlook"]["foreseen"]] for part in updates if "outlook" in part]

    await remember(store, "tiny", await experiences(120))
    at_random = await shown("cohort", 1.0)
    assert at_random == await shown("cohort", 1.0)
    assert at_random[0] != (await shown("cohort", 0.0))[0]
    assert await shown("off", 1.0) == await shown("off", 0.0)


def count_fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of experiences of each fit."""
    fits: list[int] = []

    def counted(features: PairFeatures, seen: Rounds, prior: WeightPrior) -> LeaveRiskModel:
        fits.append(len(seen))
        return fit_leave_risk(features, seen, prior)

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
    began = await evidence_from_memory(store, mine, world, begins=True)
    await remember(store, "tiny", await experiences(5, visit="mine", user="1", first=40))
    other = await evidence_from_memory(store, theirs, world, begins=True)
    for _ in range(3):
        assert await evidence_from_memory(store, mine, world, begins=False) is began
        assert await evidence_from_memory(store, theirs, world, begins=False) is other
    assert began is not other and fits == [40, 45]


async def test_what_is_kept_of_many_memories_is_bounded(store: ChromaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound, a caller with many spaces would fill the server's memory with their fits."""
    fits = count_fits(monkeypatch)
    monkeypatch.setattr(tool, "ROUNDS_KEPT", 60)
    world = await opened()
    for number in range(5):
        await remember(store, f"space{number}", await experiences(25, first=100 * number))

    async def weights(number: int) -> list[float]:
        scope = RecallScope(f"space{number}", "1", f"visit{number}", (f"space{number}",))
        found = await evidence_from_memory(store, scope, world, begins=True)
        return [float(one) for one in fitted(found).weights]

    first = [await weights(number) for number in range(5)]
    assert len(fits) == 5
    # The fits of the last two are kept.
    assert [await weights(number) for number in (3, 4)] == first[3:] and len(fits) == 5
    assert [await weights(number) for number in (0, 1, 2)] == first[:3] and len(fits) == 8


def test_it_is_learned_in_any_thread_and_event_loop() -> None:
    async def learn(store: ChromaStore) -> list[float]:
        found = await evidence_from_memory(store, RecallScope("tiny", "1", "x", ("tiny",)), await opened(), begins=True)
        return [float(one) for one in fitted(found).weights]

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
        found = await evidence_from_memory(store, scope, world, begins=True)
        features = PairFeatures(world.world.catalogue, world.world.logs)
        assert np.array_equal(fitted(found).features.with_item(0), features.with_item(0))


async def test_experiences_that_do_not_say_whether_the_user_left_teach_no_risk(store: ChromaStore) -> None:
    known = await experiences(40)
    unknown = [
        one.model_copy(update={"key": f"{one.key}-", "value": one.value.model_copy(update=changes)})
        for one in known
        for changes in ({"left": None}, {"predicted": None})
    ]
    await remember(store, "tiny", known)
    with_known, _ = await run(store, OFF)
    await remember(store, "tiny", unknown)
    with_both, _ = await run(store, OFF)
    risks = [[step.risk for step in one.steps] for one in (with_known, with_both)]
    assert risks[0] == risks[1] and any(risks[0])
