"""Profile of a person: one record for each statement, and no statement lost."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from langgraph.types import Command

from memory.embeddings import shared_embeddings
from memory.records import Statement
from memory.store import ChromaStore
from nodes.context import Context
from nodes.state import Profile
from nodes.tools.open_world import open_world_now
from nodes.users.profile import profile_of
from sim.world.world import ASSUMED_RATING
from tests.growth import grows_with_its_input
from tests.integration.people.test_recommend import Visit

pytestmark = pytest.mark.usefixtures("home")
PLACE = ("statements", "people:tiny", "ann")


@pytest.fixture
async def store(home: Path) -> AsyncIterator[ChromaStore]:
    async with ChromaStore(home / "memory", embeddings=shared_embeddings()) as store:
        yield store


def said(store: ChromaStore) -> list[tuple[str, Any]]:
    records = sorted(store.records(PLACE), key=lambda one: (one.created_at, one.value["visit"], one.value["number"]))
    return [(one.value["said"], one.value["text"] or one.value["rating"]) for one in records]


async def profile(store: ChromaStore, thread: str = "later") -> Profile:
    visit = Visit(store, thread)
    await visit.begin()
    found: Profile = (await visit.state())["profile"]
    return found


async def test_each_thing_said_is_a_record_of_its_own(store: ChromaStore) -> None:
    visit = Visit(store, "t")
    await visit.begin(wishes="slow\nfilms", history=[open_world_now("tiny").world.catalogue[0].title])
    assert said(store) == []
    await visit.answer(rating=2, comment="too loud")
    await visit.answer(skip=True, profile="slow films\nno crime")
    await visit.answer(seen=True, rating=5)
    await visit.answer(never=True)
    await visit.answer(leave=True)
    assert said(store) == [
        ("wish", "slow films"), ("liked", None), ("rating", 2.0), ("comment", "too loud"), ("skip", None),
        ("correction", "no crime"), ("seen", 5.0), ("never", None), ("leave", None),
    ]  # fmt: skip
    removed = [one.value["removed"] for one in store.records(PLACE) if one.value["said"] == "correction"]
    assert removed == [f"too loud [on {(await visit.state())['steps'][0].title}]"]
    found = await profile(store)
    assert found.text == "slow films\nno crime"
    assert sorted(found.ratings.values()) == [2.0, ASSUMED_RATING, 5.0]
    shown = [one.item_id for one in (await visit.state())["steps"]]
    liked = open_world_now("tiny").world.catalogue[0].id
    assert (found.had, found.seen) == ([liked, shown[0], shown[2]], [shown[2]])
    assert (found.never, found.skipped) == ([shown[3]], {shown[1]: 1})


async def test_two_visits_of_one_person_at_once_lose_nothing(store: ChromaStore) -> None:
    one, two = Visit(store, "one"), Visit(store, "two")
    await one.begin(wishes="comedy")
    await two.begin()
    first, second = (await one.state())["proposal"], (await two.state())["proposal"]
    await one.answer(rating=5, comment="no crime")
    await two.answer(rating=1, comment="shorter", profile="drama")
    await one.answer(leave=True)
    await two.answer(leave=True)
    found = await profile(store)
    on = [f"[on {one.title or one.text}]" for one in (first, second)]
    assert found.text.splitlines() == ["comedy", f"no crime {on[0]}", "drama", f"shorter {on[1]}"]
    assert found.ratings == ({first.item_id: 5.0} | {second.item_id: 1.0})


async def test_what_is_seen_or_never_wanted_is_not_recommended_again(store: ChromaStore) -> None:
    visit = Visit(store, "t")
    first = (await visit.begin())["title"]
    second = (await visit.answer(seen=True))["title"]
    third = (await visit.answer(never=True))["title"]
    assert len({first, second, third}) == 3
    await visit.answer(leave=True)
    again = Visit(store, "again")
    asked = await again.begin()
    shown = [asked["title"]]
    for _ in range(8):
        asked = await again.answer(skip=True)
        shown.append(asked["title"])
        listed = {one.title for one in (await again.state())["shortlist"]}
        assert not listed & {first, second}
    assert not {*shown} & {first, second}


async def test_a_replayed_answer_replaces_what_was_said(store: ChromaStore) -> None:
    visit = Visit(store, "t")
    await visit.begin()
    asked = await visit.graph.aget_state(visit.config)
    await visit.answer(rating=5)
    fork = await visit.graph.aupdate_state(asked.config, None, as_node="__copy__")
    await visit.graph.ainvoke(None, fork)
    await visit.graph.ainvoke(Command(resume={"rating": 1}), visit.config)
    assert said(store) == [("rating", 1.0)]


async def test_a_profile_of_an_older_version_is_taken_over_once(store: ChromaStore) -> None:
    item = open_world_now("tiny").world.catalogue[5].id
    old = {"text": "no crime\nslow films", "ratings": {item: 2.0, "gone": 5.0}}
    await store.aput(("profiles", "people:tiny", "ann"), "profile", old, index=False)
    expected = await profile(store, "first")
    assert (expected.text, expected.ratings) == (old["text"], old["ratings"])
    assert await store.aget(("profiles", "people:tiny", "ann"), "profile") is None
    assert await profile(store, "second") == expected
    assert sorted(said(store), key=str) == [("rating", 2.0), ("rating", 5.0), ("wish", "no crime\nslow films")]


@pytest.mark.parametrize("damaged", [{"ratings": "many"}, {"text": 7}, {"ratings": {"1": 9.5}, "text": "slow"}])
async def test_a_damaged_profile_of_an_older_version_is_set_aside_with_a_line(
    store: ChromaStore, damaged: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    place = ("profiles", "people:tiny", "ann")
    await store.aput(place, "profile", damaged, index=False)
    assert (await profile(store)).text == ""
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("The stored profile of 'ann' is damaged (")
    assert await store.aget(place, "profile") is None
    assert [one.value for one in store.records(place)] == [damaged]
    # The next visit finds nothing to say, and a second damaged one has a place of its own.
    await profile(store, "later")
    await store.aput(place, "profile", damaged | {"seen": 1}, index=False)
    await profile(store, "last")
    assert len(store.records(place)) == 2 == len(caplog.messages)


async def test_a_damaged_statement_costs_nothing_else(store: ChromaStore, caplog: pytest.LogCaptureFixture) -> None:
    visit = Visit(store, "t")
    await visit.begin(wishes="slow films")
    await visit.answer(rating=4)
    await visit.answer(leave=True)
    await store.aput(PLACE, "damaged", {"said": "shout", "number": -1}, index=False)
    assert (await profile(store)).text == "slow films"
    assert len([one for one in caplog.messages if "statements" in one and "memory check" in one]) == 1
    assert await store.aget(PLACE, "damaged") is not None


async def test_with_learning_off_nothing_said_is_kept(store: ChromaStore) -> None:
    visit = Visit(store, "t")
    quiet = Context(learn="off")
    await visit.graph.ainvoke({"world": "tiny", "wishes": "comedy"}, visit.config, context=quiet)
    await visit.graph.ainvoke(Command(resume={"rating": 5, "comment": "more"}), visit.config, context=quiet)
    assert store.records() == []


def test_a_statement_that_no_visit_wrote_is_passed_over() -> None:
    class Stored:
        key, created_at = "k", datetime(2026, 1, 1)

        def __init__(self, value: dict[str, Any]) -> None:
            self.value = value

    said = {"visit": "v", "user_id": "ann", "number": 0, "said": "wish", "text": "slow"}
    found = profile_of([Stored({"said": "shout"}), Stored(said), Stored(said | {"rating": 1e308})])
    assert found.text == "slow"
    assert Statement(**said).indexed == ()


def test_a_profile_is_made_in_proportion_to_what_was_said() -> None:
    class Stored:
        created_at = datetime(2026, 1, 1)

        def __init__(self, number: int) -> None:
            self.key = str(number)
            items = [f"{number}-{one}" for one in range(40)]
            self.value = {"visit": "v", "user_id": "ann", "number": number, "said": "never", "item_ids": items}

    stored = [Stored(number) for number in range(400)]
    assert len(profile_of(stored).never) == 16_000
    # The length of the text is the number of statements.
    assert grows_with_its_input(lambda text: profile_of(stored[: len(text)]), "", "x", len(stored))
