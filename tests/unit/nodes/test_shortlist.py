"""Category tool and shortlist."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.shortlist import pareto, shortlist, with_former
from nodes.state import ExperienceView, Profile, Step, VisitState
from nodes.tools.categories import count_categories, recent_categories
from nodes.tools.open_world import open_world
from nodes.user_view import Visitor, visitor
from sim.catalogue import Catalogue, Item

ITEMS = [Item("1", "A", ("Drama", "War")), Item("2", "B", ("Drama",)), Item("3", "C", ())]


def test_categories_come_from_the_loaded_catalogue_with_their_number() -> None:
    assert count_categories(Catalogue(ITEMS)) == {"Drama": 2, "War": 1}
    assert count_categories([]) == {}


def test_recent_categories_are_those_of_the_last_items() -> None:
    assert recent_categories(ITEMS, 2) == ["Drama"]
    assert recent_categories(ITEMS, 3) == ["Drama", "War"]


def test_genres_stored_as_a_string_are_refused() -> None:
    # Read as a sequence, "Drama" would become five categories of one letter.
    with pytest.raises(ValueError, match="genres"):
        Item("1", "A", "Drama")  # type: ignore[arg-type]


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    predicted = np.array([5.0, 4.0, 3.0, 4.5, -np.inf], np.float32)
    distances = np.array([0.1, 0.9, 0.5, 0.4, 2.0], np.float32)
    assert pareto(predicted, distances).tolist() == [0, 3, 1]
    assert pareto(predicted, None).tolist() == [0]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), min_size=1, max_size=30))
def test_whatever_distance_is_asked_for_the_front_has_the_best_predicted(pairs: list[tuple[int, int]]) -> None:
    predicted, distances = np.array(pairs, np.float32).T
    front = pareto(predicted, distances)
    for least in range(10):
        enough = predicted[distances >= least]
        on_front = predicted[front][distances[front] >= least]
        assert enough.max(initial=0) == on_front.max(initial=0)


async def visit(home: Path, count: int) -> tuple[Visitor, list[Step]]:
    who = await visitor(VisitState(world="tiny"))
    items = list(who.open_world.world.catalogue)[:count]
    return who, [Step(index=n, item_id=item.id, title=item.title) for n, item in enumerate(items)]


async def test_the_shortlist_never_holds_what_this_visit_had(home: Path) -> None:
    who, steps = await visit(home, 100)
    for plan in ("", "Recommend Comedy."):
        for had in (0, 1, 5, 100):
            found = await shortlist(who, steps[:had], plan, 20)
            assert len(found) == min(20, len(who.open_world.world.catalogue) - had)
            assert not {one.item_id for one in found} & {step.item_id for step in steps[:had]}
            assert len({one.item_id for one in found}) == len(found)


async def test_the_shortlist_offers_the_best_liked_and_the_farthest(home: Path) -> None:
    who, steps = await visit(home, 5)
    found = await shortlist(who, steps, "", 10)
    left = [n for n in range(len(who.predicted)) if n >= 5]
    distances = who.distances(steps)
    assert distances is not None
    assert found[0].predicted == pytest.approx(max(who.predicted[left]), abs=0.006)
    assert max(one.distance or 0 for one in found) == pytest.approx(max(distances[left]), abs=0.006)
    assert [one.predicted for one in found] == sorted((one.predicted for one in found), reverse=True)


async def test_the_shortlist_looks_for_what_the_plan_says(home: Path) -> None:
    who, steps = await visit(home, 5)
    genres = list(count_categories(who.open_world.world.catalogue))

    async def share(plan: str, genre: str) -> float:
        found = await shortlist(who, steps, plan, 5)
        return sum(genre in one.genres for one in found) / len(found)

    # Averaged over categories: a category is more frequent if the plan names it than if the plan names another.
    gains = [
        await share(f"Recommend {genre}.", genre) - await share(f"Recommend {other}.", genre)
        for genre, other in zip(genres, genres[1:] + genres[:1], strict=True)
    ]
    assert np.mean(gains) > 0.05


async def test_where_all_items_were_had_they_come_again(home: Path) -> None:
    who, steps = await visit(home, len((await visitor(VisitState(world="tiny"))).predicted))
    assert len(await shortlist(who, steps, "", 5)) == 5


async def test_what_a_person_has_seen_is_passed_over_while_anything_else_is_left(home: Path) -> None:
    opened = await open_world("tiny")
    items = list(opened.world.catalogue)

    async def listed(rated: int) -> set[str]:
        profile = Profile(ratings={item.id: 4.0 for item in items[:rated]})
        who = await visitor(VisitState(world="tiny", user_id="ann", profile=profile))
        return {one.item_id for one in await shortlist(who, [], "Recommend Drama.", 20)}

    assert not await listed(len(items) - 5) & {item.id for item in items[:-5]}
    assert await listed(len(items))


async def test_scores_replace_the_front_and_risks_are_shown(home: Path) -> None:
    who, steps = await visit(home, 3)
    catalogue = who.open_world.world.catalogue
    scores = np.linspace(0.0, 1.0, len(catalogue))
    risks = np.linspace(0.0, 0.5, len(catalogue))
    # Without a plan, four of ten places go to the items that are nearest to the user's last titles.
    found = await shortlist(who, steps, "", 10, scores=scores, risks=risks)
    positions = {catalogue.position(one.item_id) for one in found}
    assert positions >= set(range(len(catalogue) - 6, len(catalogue))) and len(positions) == len(found) == 10
    for one in found:
        position = catalogue.position(one.item_id)
        assert one.risk == round(float(risks[position]), 4) and one.predicted == who.predicted_rating(
            catalogue[position]
        )
        assert one.distance == who.distance(steps, catalogue[position])
        assert (one.title, one.genres) == (catalogue[position].title, list(catalogue[position].genres))
    assert [one.predicted for one in found] == sorted((one.predicted for one in found), reverse=True)
    # The items of the visit stay out, even with the best scores.
    best = await shortlist(who, steps, "", 2, scores=-scores)
    assert [catalogue.position(one.item_id) for one in best] in ([3, 4], [4, 3])
    assert all(one.risk is None for one in best)


async def test_a_category_that_a_person_avoids_stays_out_while_others_are_left(home: Path) -> None:
    who, steps = await visit(home, 2)
    genre = who.open_world.world.catalogue.genres[0]
    found = await shortlist(who, steps, "", 20, wishes=f"no {genre.lower()}")
    assert len(found) == 20 and not any(genre in one.genres for one in found)
    assert any(genre in one.genres for one in await shortlist(who, steps, "", 20))
    every = ", ".join(f"no {one.lower()}" for one in who.open_world.world.catalogue.genres)
    assert len(await shortlist(who, steps, "", 5, wishes=every)) == 5


async def test_former_reactions_are_shown_and_items_for_which_the_user_stayed_are_added(home: Path) -> None:
    who, steps = await visit(home, 2)
    catalogue = who.open_world.world.catalogue
    candidates = [one.model_copy(update={"risk": 0.25}) for one in await shortlist(who, steps, "", 3)]
    others = [item for item in catalogue if item.id not in {one.item_id for one in candidates}][10:14]

    def former(item: Item, before: object) -> ExperienceView:
        return ExperienceView.model_validate(
            {"item_id": item.id, "title": item.title, "advantage": 1.0, "similarity": 1.0, "before": before}
        )

    listed = catalogue.item(candidates[1].item_id)
    experiences = [
        former(listed, 2.5),
        former(others[0], 4.0),
        former(others[1], "left"),
        former(others[2], None),
        former(Item("gone", "Gone", ()), 5.0),
        former(catalogue[0], 5.0),
    ]
    found = with_former(candidates, experiences, who, steps)
    assert [one.item_id for one in found] == [*(one.item_id for one in candidates), others[0].id]
    assert [one.before for one in found] == [None, 2.5, None, 4.0]
    assert [one.risk for one in found] == [0.25, 0.25, 0.25, None]
    assert found[3].distance == who.distance(steps, others[0]) is not None
    assert found[3].predicted == who.predicted_rating(others[0])
