"""Category tool and shortlist."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.shortlist import Outlook, pareto, random_shortlist, shortlist, with_former
from nodes.state import ExperienceView, Profile, Step, VisitState
from nodes.tools.categories import count_categories
from nodes.tools.descriptions import described_by
from nodes.tools.open_world import open_world
from nodes.tools.wish_items import Drawn, drawn
from nodes.tools.wishes import understand
from nodes.user_view import Visitor, visitor
from sim.catalogue import Catalogue, Item
from sim.policies.leave_risk import fit_leave_risk
from sim.policies.pair_evidence import RoundOutcome, Rounds
from sim.policies.pair_features import PairFeatures

ITEMS = [Item("1", "A", ("Drama", "War")), Item("2", "B", ("Drama",)), Item("3", "C", ())]


def test_categories_come_from_the_loaded_catalogue_with_their_number() -> None:
    assert count_categories(Catalogue(ITEMS)) == {"Drama": 2, "War": 1}
    assert count_categories([]) == {}


def test_genres_stored_as_a_string_are_refused() -> None:
    # Read as a sequence, "Drama" would become five categories of one letter.
    with pytest.raises(ValueError, match="genres"):
        Item("1", "A", "Drama")  # type: ignore[arg-type]


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    predicted = np.array([5.0, 4.0, 3.0, 4.5, 6.0], np.float32)
    distances = np.array([0.1, 0.9, 0.5, 0.4, 2.0], np.float32)
    offered = np.array([True] * 4 + [False])
    assert pareto(predicted, distances, offered) == [0, 3, 1]
    assert pareto(predicted, distances, ~offered) == [4]
    assert pareto(predicted, distances, np.zeros(5, dtype=bool)) == []


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), min_size=1, max_size=30))
def test_whatever_distance_is_asked_for_the_front_has_the_best_predicted(pairs: list[tuple[int, int]]) -> None:
    predicted, distances = np.array(pairs, np.float32).T
    front = pareto(predicted, distances, np.ones(len(predicted), dtype=bool))
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
            known = {*who.seen} - {step.item_id for step in steps[:had]}
            assert len(found) == min(20, max(len(who.open_world.world.catalogue) - had - len(known), len(known)))
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


def foreseen(who: Visitor) -> Outlook:
    """Return an outlook with the best scores for the last items of the catalogue, and the least risks for the first."""
    count = len(who.open_world.world.catalogue)
    return Outlook(np.linspace(0.0, 0.5, count), np.linspace(0.1, 0.6, count), np.linspace(0.0, 1.0, count))


async def test_an_outlook_decides_what_promises_most_and_what_is_safest(home: Path) -> None:
    who, steps = await visit(home, 3)
    catalogue = who.open_world.world.catalogue
    outlook = foreseen(who)
    risks = outlook.risks
    found = await shortlist(who, steps, "", 10, outlook=outlook)
    positions = {catalogue.position(one.item_id) for one in found}
    offered = [position for position in range(3, len(catalogue)) if catalogue[position].id not in who.seen]
    liked = sorted(offered, key=lambda position: -who.predicted[position])
    assert positions >= {*offered[-2:], *offered[:2], *liked[:2]} and len(positions) == len(found) == 10
    for one in found:
        assert one.prior_risk == round(float(outlook.prior_risks[catalogue.position(one.item_id)]), 4)
        position = catalogue.position(one.item_id)
        assert one.risk == round(float(risks[position]), 4) and one.predicted == who.predicted_rating(
            catalogue[position]
        )
        assert one.distance == who.distance(steps, catalogue[position])
        assert (one.title, one.genres) == (catalogue[position].title, list(catalogue[position].genres))
    assert [one.predicted for one in found] == sorted((one.predicted for one in found), reverse=True)
    # The items of the visit stay out, even with the best scores. A list of one holds what promises most.
    best = await shortlist(who, steps, "", 1, outlook=replace(outlook, scores=-outlook.scores))
    assert [catalogue.position(one.item_id) for one in best] == [offered[0]]


async def test_what_users_took_with_the_last_four_comes_first_and_what_ended_visits_last(home: Path) -> None:
    who, steps = await visit(home, 4)
    catalogue = who.open_world.world.catalogue
    order = [n for n in np.argsort(-who.predicted).tolist() if n > 3 and catalogue[n].id not in who.seen]
    # A middling item went with all four, a better one with one of them, and the best of all ended visits.
    safe, strange, fatal = order[len(order) // 2], order[5], order[0]
    rounds = [RoundOutcome(safe, (0, 1, 2, 3), 4.0, False), RoundOutcome(strange, (2,), 4.0, False)]
    rounds += [RoundOutcome(fatal, (3, one), 4.0, True) for one in order[-3:]]
    model = fit_leave_risk(PairFeatures(catalogue, who.open_world.world.logs), Rounds.of(rounds))
    found = {
        catalogue.position(one.item_id): one for one in await shortlist(who, steps, "", 8, evidence=model.evidence)
    }
    assert (found[safe].known, found[safe].ended) == (4, 0)
    assert (found[fatal].known, found[fatal].ended) == (0, 3)  # among the best liked, whatever it did
    best = await shortlist(who, steps, "", 1, evidence=model.evidence)
    assert [catalogue.position(one.item_id) for one in best] == [safe]
    # That users stayed for a pair is no leave to come nearer than the plan's distance.
    near = found[safe].distance or 0.0
    farther = f"Keep a distance of at least {near + 0.01:.2f} from the last four items."
    best = await shortlist(who, steps, farther, 1, evidence=model.evidence)
    assert (best[0].distance or 0.0) > near
    without = await shortlist(who, steps, "", 8)
    assert all(one.known is None and one.ended is None for one in without)


async def test_what_the_plan_leaves_out_is_not_offered_while_others_are_left(home: Path) -> None:
    who, steps = await visit(home, 2)
    genres = who.open_world.world.catalogue.genres
    for outlook in (None, foreseen(who)):
        plan = f"Recommend {genres[1]}; leave out {genres[0]}."
        found = await shortlist(who, steps, plan, 20, outlook=outlook)
        assert len(found) == 20 and not any(genres[0] in one.genres for one in found)
        every = f"Leave out {', '.join(genres)}."
        assert len(await shortlist(who, steps, every, 8, outlook=outlook)) == 8


async def test_items_drawn_at_random_are_offered_ones_with_their_figures(home: Path) -> None:
    who, steps = await visit(home, 3)
    outlook = foreseen(who)
    drawn = [random_shortlist(who, steps, 8, np.random.default_rng(seed), None, outlook) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    for one in drawn[0]:
        assert one.item_id not in who.seen and one.item_id not in {step.item_id for step in steps}
        assert one.risk is not None and one.distance is not None


async def asked_of(who: Visitor, steps: list[Step], words: str) -> Drawn:
    asked = await understand(who.open_world, words)
    return await drawn(who.open_world, who.offered(steps), [asked])


async def test_a_category_that_a_person_avoids_stays_out_while_others_are_left(home: Path) -> None:
    who, steps = await visit(home, 2)
    genre = who.open_world.world.catalogue.genres[0]
    found = await shortlist(who, steps, "", 20, drawn=await asked_of(who, steps, f"no {genre.lower()}"))
    assert len(found) == 20 and not any(genre in one.genres for one in found)
    assert any(genre in one.genres for one in await shortlist(who, steps, "", 20))
    every = ", ".join(f"no {one.lower()}" for one in who.open_world.world.catalogue.genres)
    assert len(await shortlist(who, steps, "", 5, drawn=await asked_of(who, steps, every))) == 5


async def test_words_that_only_a_description_has_bring_its_items_first(home: Path) -> None:
    who, steps = await visit(home, 2)
    catalogue = who.open_world.world.catalogue
    told = {3: "An old lighthouse, and its Keéper.", 40: "A lighthouse.", 41: "Lighthouses"}
    described = [replace(item, description=told.get(place)) for place, item in enumerate(catalogue)]
    world = copy.copy(who.open_world.world)
    world.catalogue = Catalogue(described)
    opened = replace(who.open_world, world=world, cache={})
    asked = await understand(opened, "a lighthouse keeper")
    assert {"lighthouse", "keeper"} <= {*asked.words}
    assert described_by(opened, asked.words)[[3, 40, 41, 42]].tolist() == [2, 1, 0, 0]
    found = await drawn(opened, np.ones(len(catalogue), dtype=np.bool_), [asked])
    assert found.allowed[[3, 40]].all() and not found.allowed.all()


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
