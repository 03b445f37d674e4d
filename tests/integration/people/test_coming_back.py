"""Second visit of a person: what was seen is history, what was passed by may come again, leaving blames no item."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory.embeddings import shared_embeddings
from memory.recall import remember
from memory.records import Experience, Lesson, record
from memory.store import ChromaStore
from nodes.llm.prompting import read_facts
from nodes.state import Profile, Step, VisitState
from nodes.tools.open_world import OpenWorld, open_world_now
from nodes.user_view import MOST_SKIPS, SKIP_COST, visitor
from nodes.visit_memory import ENOUGH_LEAVINGS
from tests.integration.people.test_recommend import Visit

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
async def store(home: Path) -> AsyncIterator[ChromaStore]:
    async with ChromaStore(home / "memory", embeddings=shared_embeddings()) as store:
        yield store


@pytest.fixture
def opened(home: Path) -> OpenWorld:
    return open_world_now("tiny")


def experiences(store: ChromaStore, user: str = "ann") -> list[dict[str, Any]]:
    found = store.records(("experiences", "people:tiny", user))
    return [one.value for one in sorted(found, key=lambda one: len(one.value["recent"]))]


async def shown(visit: Visit, first: dict[str, Any], rounds: int, **answer: Any) -> list[str]:
    titles = [first["title"]]
    for _ in range(rounds - 1):
        titles.append((await visit.answer(**answer))["title"])
    await visit.answer(leave=True)
    return titles


@pytest.mark.parametrize("rating", [None, 1.0])
async def test_what_is_seen_is_history_in_this_visit_and_the_next(store: ChromaStore, rating: float | None) -> None:
    visit = Visit(store, "first")
    title = (await visit.begin())["title"]
    await visit.answer(seen=True, rating=rating)
    state = await visit.state()
    assert read_facts(state["exchange"]["actor"].prompt)["history"] == [{"title": title, "rating": rating}]
    # It is one title of the situation, not two.
    await visit.answer(skip=True)
    assert experiences(store)[1]["situation"].count(title) == 1
    await visit.answer(leave=True)
    later = Visit(store, "second")
    titles = await shown(later, await later.begin(), 8, skip=True)
    assert title not in titles
    facts = read_facts((await later.state())["exchange"]["planner"].prompt)
    assert [(one["title"], one["rating"]) for one in facts["history"]] == [(title, rating)]


async def test_what_was_rated_is_not_offered_again(store: ChromaStore) -> None:
    first = Visit(store, "first")
    had = await shown(first, await first.begin(), 6, rating=4)
    second = Visit(store, "second")
    assert not {*had[:-1]} & {*await shown(second, await second.begin(), 8, rating=4)}


async def test_not_now_may_come_back_but_never_the_same_items_in_the_same_order(
    store: ChromaStore, opened: OpenWorld
) -> None:
    first = Visit(store, "first")
    passed = await shown(first, await first.begin(), 8, skip=True)
    second = Visit(store, "second")
    asked = await second.begin()
    state = await second.state()
    again = await shown(second, asked, 8, skip=True)
    assert again != passed and len({*again} - {*passed[:-1]}) >= 4
    # They are ranked lower, and still there.
    who = await visitor(VisitState(world="tiny", user_id="ann", profile=state["profile"]))
    positions = opened.world.catalogue.positions(one.item_id for one in (await first.state())["steps"][:-1])
    assert who.offered([])[positions].all()
    fresh = await visitor(VisitState(world="tiny", user_id="ann", profile=Profile()))
    assert np.allclose(fresh.predicted[positions] - who.predicted[positions], SKIP_COST)


async def test_many_refusals_of_an_item_cost_no_more_than_some(opened: OpenWorld) -> None:
    item = opened.world.catalogue[3].id

    async def predicted(**fields: Any) -> float:
        who = await visitor(VisitState(world="tiny", user_id="ann", profile=Profile(**fields)))
        return float(who.predicted[3])

    lost = await predicted() - await predicted(skipped={item: 2_000, "gone": 3})
    assert lost == pytest.approx(SKIP_COST * MOST_SKIPS, abs=1e-4)


async def test_leaving_does_not_count_against_the_item_on_the_screen(store: ChromaStore) -> None:
    first = Visit(store, "first")
    on_screen = (await first.begin())["title"]
    await first.answer(leave=True)
    assert store.records(("experiences",)) == store.records(("values",)) == store.records(("lessons",)) == []
    second = Visit(store, "second")
    assert (await second.begin())["title"] == on_screen


async def test_that_a_person_left_is_noted_with_the_item_that_they_answered_last(store: ChromaStore) -> None:
    visit = Visit(store, "t")
    await visit.begin()
    await visit.answer(rating=5)
    await visit.answer(rating=4)
    (before,) = [one for one in experiences(store) if one["recent"]]
    on_screen = (await visit.state())["proposal"].item_id
    await visit.answer(leave=True)
    found = experiences(store)
    assert [(one["reward"], one["left"]) for one in found] == [(5, False), (4, True)]
    assert found[1] == before | {"left": True} and on_screen not in [one["item_id"] for one in found]
    # No value has the loss of a leaving, and no lesson speaks of distances.
    assert all(one.value["target"] > -5 for one in store.records(("values",)))
    assert all("distance" not in one.value["text"] for one in store.records(("lessons",)))


async def test_an_item_without_a_rating_has_no_reward_and_none_predicts_itself(
    store: ChromaStore, opened: OpenWorld
) -> None:
    visit = Visit(store, "t")
    await visit.begin()
    await visit.answer(skip=True)
    await visit.answer(rating=1)
    steps: list[Step] = (await visit.state())["steps"]
    skipped, rated = experiences(store)
    assert skipped["reward"] is None and rated["reward"] == 1
    assert rated["predicted"] == pytest.approx(steps[1].predicted, abs=0.01)


async def test_a_low_rating_pulls_the_like_of_an_item_down(opened: OpenWorld) -> None:
    world = opened.world

    async def predicted(rating: float | None, item: str) -> Any:
        profile = Profile(ratings={} if rating is None else {item: rating})
        return (await visitor(VisitState(world="tiny", user_id="ann", profile=profile))).predicted

    lower = 0
    for position in range(len(world.catalogue)):
        item = world.catalogue[position].id
        fallen = await predicted(1, item) - await predicted(None, item)
        order = np.argsort(world.logs.distances(position), kind="stable")[1:]
        lower += fallen[order[:5]].mean() < min(fallen[order[-5:]].mean(), 0)
    assert lower >= 0.9 * len(world.catalogue)


async def test_of_simulated_users_a_person_gets_lessons_on_taste_alone(store: ChromaStore, opened: OpenWorld) -> None:
    texts = (
        "Keep a distance of at least 0.9 from the last four items.",
        "Keep a distance of at least 0.8 from the last four items. Leave out Crime.",
        "Users leave after two dramas in a row.",
        "Recommend Comedy.",
    )
    of_user = {"user_id": "7", "situation": "", "length": 9, "total_reward": 36.0}
    lessons = [Lesson(visit=text, text=text, **of_user) for text in texts]
    await remember(store, "tiny", [record(one, 9) for one in lessons])
    await people_who_left(store, opened, 2, space="tiny")
    visit = Visit(store, "t")
    await visit.begin()
    await visit.answer(rating=4)
    state = await visit.state()
    assert {one.text for one in state["lessons"]} == {"Leave out Crime.", "Recommend Comedy."}
    assert "distance" not in state["plan"]
    facts = [read_facts(one.prompt) for one in state["exchange"].values()]
    assert state["experiences"] == [] and not any("evidence" in one for one in facts)
    assert all(one.risk is None and one.known is None for one in state["shortlist"])


async def people_who_left(store: ChromaStore, opened: OpenWorld, count: int, space: str = "people:tiny") -> None:
    """Write rounds of people, of whom some left after an item like the one before."""
    catalogue, logs = opened.world.catalogue, opened.world.logs
    rounds = []
    for number in range(3 * count):
        position = number % len(catalogue)
        order = np.argsort(logs.distances(position), kind="stable")
        left = number < count
        other = int(order[1 + number % 3] if left else order[-1 - number % 20])
        item = catalogue[position]
        rounds.append(
            Experience(
                **{
                    "visit": f"v{number}",
                    "user_id": f"p{number % 7}",
                    "situation": "",
                    "plan": "",
                    "title": item.title,
                },
                **{
                    "genres": [],
                    "item_id": item.id,
                    "recent": [catalogue[other].id],
                    "predicted": 3.5,
                    "distance": 1.0,
                },
                **{"reward": 4.0, "advantage": 0.0, "left": left},
            )  # fmt: skip
        )
    await remember(store, space, [record(one, 1) for one in rounds])


async def risks(store: ChromaStore, thread: str) -> list[float | None]:
    visit = Visit(store, thread)
    await visit.begin("zoe")
    await visit.answer(rating=4)
    found = [one.risk for one in (await visit.state())["shortlist"]]
    await visit.answer(leave=True)
    return found


async def test_the_risk_of_people_is_shown_once_enough_of_them_have_left(store: ChromaStore, opened: OpenWorld) -> None:
    # What simulated users did counts for nothing.
    await people_who_left(store, opened, 2 * ENOUGH_LEAVINGS, space="tiny")
    await people_who_left(store, opened, ENOUGH_LEAVINGS - 2)
    assert {*await risks(store, "before")} == {None}
    await people_who_left(store, opened, ENOUGH_LEAVINGS)
    known = await risks(store, "after")
    assert None not in known and max(one for one in known if one) > min(one for one in known if one is not None)
