"""Actor without a shortlist, as in the original: every text becomes one item."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodes.actor import ChoiceResolver
from nodes.context import Context
from nodes.llm.prompting import read_facts
from nodes.state import Candidate, Exchange, VisitInput, VisitState
from nodes.tools.open_world import open_world_now
from nodes.user_view import Visitor, visitor
from sim.catalogue import Catalogue
from sim.data.sources import load_ratings
from sim.world import World
from tests.integration.visit.test_roles import TINY, facts_of, run, script

__all__ = ["script"]
pytestmark = pytest.mark.usefixtures("home")
FREE = Context(choices="free")
UNKNOWN = "A Film That No Catalogue Has"
ROLE = {"act_only": "actor", "merge_plan_and_act": "plan_and_act"}


def writing(title: str) -> str:
    return json.dumps({"plan": "Recommend what the user likes.", "item": title})


@pytest.mark.parametrize("variant", ROLE)
@pytest.mark.parametrize("grounding", ["fresh", "nearest"])
async def test_a_title_that_no_catalogue_has_is_grounded_and_no_fault(
    grounding: Any, variant: str, script: Any
) -> None:
    model = script(lambda facts: writing(UNKNOWN) if facts["role"] == ROLE[variant] else "1")
    context = FREE.model_copy(update={"grounding": grounding})
    state = await run(variant, VisitInput(world="tiny", max_steps=1), context)
    assert state["exchange"][ROLE[variant]].outcome == "ok"
    assert sum(read_facts(prompt)["role"] == ROLE[variant] for prompt in model.prompts) == 1
    step = state["steps"][0]
    assert step.proposed == UNKNOWN and step.item_id == open_world_now("tiny").nearest.ground(UNKNOWN).id


@pytest.mark.parametrize("variant", ROLE)
async def test_who_writes_freely_is_shown_no_item_to_choose_but_what_categories_there_are(variant: str) -> None:
    context = FREE.model_copy(update={"hints": 2})
    state = await run(variant, TINY, context)
    facts = facts_of(state, ROLE[variant])
    assert state["shortlist"] == [] and "candidates" not in facts
    assert facts["categories"] == list(open_world_now("tiny").categories)
    assert len(facts["categories_to_try"]) == 2 and set(facts["categories_to_try"]) <= set(facts["categories"])


async def test_hints_are_drawn_anew_each_round_by_the_seed_of_the_visit(script: Any) -> None:
    model = script(lambda facts: writing(UNKNOWN))

    async def hints(seed: int, count: int = 2) -> list[Any]:
        model.prompts.clear()
        visit = VisitInput(world="tiny", seed=seed, max_steps=4)
        await run("act_only", visit, FREE.model_copy(update={"hints": count}))
        return [read_facts(prompt).get("categories_to_try") for prompt in model.prompts]

    first = await hints(1)
    assert first == await hints(1) != await hints(2) and len({tuple(one) for one in first}) > 1
    assert set(map(str, await hints(1, count=0))) == {"None"}


@pytest.mark.parametrize(
    "reply",
    [
        "Stop",
        "",
        "Comedy",
        "Comedy and Drama items",
        '{"item": "Stop"}',
        '{"item": "1. Some film\\n2. Another film"}',
    ],
)
@pytest.mark.parametrize("grounding", ["fresh", "nearest"])
async def test_no_reply_without_an_item_ends_a_visit(reply: str, grounding: Any, script: Any) -> None:
    model = script(lambda facts: reply)
    state = await run("act_only", TINY, FREE.model_copy(update={"grounding": grounding}))
    exchange: Exchange = state["exchange"]["actor"]
    assert exchange.outcome == "fallback" and exchange.fault
    # The model is asked twice a round; then the highest predicted item that is new in the visit is taken.
    assert len(model.prompts) == 2 * len(state["steps"])
    predicted = [step.predicted for step in state["steps"]]
    items = [step.item_id for step in state["steps"]]
    assert predicted == sorted(predicted, reverse=True) and len(set(items)) == len(items)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("Stop", "a stop word: name one item by its title"),
        ("I recommend something calm because they like it", "a sentence, not a title: name one item by its title"),
    ],
)
async def test_the_second_question_names_the_fault_and_a_good_title_is_taken(
    reply: str, fault: str, script: Any
) -> None:
    replies = iter([writing(reply), writing(UNKNOWN)])
    model = script(lambda facts: next(replies))
    state = await run("act_only", VisitInput(world="tiny", max_steps=1), FREE)
    assert state["exchange"]["actor"].outcome == "asked_again" and state["steps"][0].proposed == UNKNOWN
    assert fault in model.prompts[1]


def two_titles_of_one_item() -> tuple[str, str]:
    """Return two titles that are not in the catalogue and are nearest to the same item."""
    opened = open_world_now("tiny")
    found: defaultdict[str, list[str]] = defaultdict(list)
    for genre in opened.categories:
        for title in (f"The {genre} Tale", f"A New {genre} Chronicle", f"Return of the {genre} Saga"):
            found[opened.nearest.ground(title).id].append(title)
    first, second, *_ = next(titles for titles in found.values() if len(titles) > 1)
    return first, second


@pytest.mark.parametrize("grounding", ["fresh", "nearest"])
async def test_two_titles_that_mean_one_item_end_a_visit_only_in_the_originals_way(grounding: Any, script: Any) -> None:
    titles = two_titles_of_one_item()
    script(lambda facts: writing(titles[len(facts["rounds"]) % 2]))
    visit = VisitInput(world="tiny", max_steps=2)
    state = await run("act_only", visit, FREE.model_copy(update={"grounding": grounding}))
    assert [step.proposed for step in state["steps"]] == [*titles]
    items = {step.item_id for step in state["steps"]}
    if grounding == "nearest":
        assert len(items) == 1 and state["leave_reason"] == "repeat"
    else:
        assert len(items) == 2 and state["leave_reason"] != "repeat"


async def test_what_a_person_has_seen_is_not_taken_from_them_as_new() -> None:
    opened = open_world_now("tiny")
    seen, other = list(opened.world.catalogue)[:2]
    predicted = np.array([item == seen for item in opened.world.catalogue], np.float32)
    who = Visitor(opened, "ann", (), (), predicted, seen=frozenset([seen.id]))
    ground = ChoiceResolver(who, VisitState(world="tiny"), FREE, [])
    assert ground.fault(other.title) is None
    assert ground.fault(seen.title) == f"the user has had {seen.title!r} already: name another item by its title"
    assert ground.proposal(ground.fallback()).item_id != seen.id


async def test_titles_with_years_mean_their_item_and_without_a_year_the_candidate(home: Path) -> None:
    ratings = load_ratings("tiny", 0)
    items = [replace(item, title=f"King Kong ({2000 + int(item.id)})") for item in ratings.catalogue[:3]]
    twins = replace(ratings, catalogue=Catalogue([*items, *ratings.catalogue[3:]]))
    World.build("twins", twins).save(home / "worlds" / "twins")
    who = await visitor(VisitState(world="twins"))
    listed = [
        Candidate(item_id=item.id, title=item.title, predicted=4.0)
        for item in (ratings.catalogue[9], items[1], items[2])
    ]
    ground = ChoiceResolver(who, VisitState(world="twins"), Context(), listed)
    assert [ground.proposal(item.title).item_id for item in items[1:]] == [item.id for item in items[1:]]
    for text in ("King Kong", "king kong", "Item: King Kong"):
        assert ground.proposal(text).item_id == items[1].id
    assert ground.fault("King Kong (1950)") is not None


async def test_where_the_shortlist_is_shown_such_a_title_is_still_asked_about(script: Any) -> None:
    model = script(lambda facts: writing(UNKNOWN))
    state = await run("act_only", VisitInput(world="tiny", max_steps=1))
    assert state["exchange"]["actor"].outcome == "fallback" and len(model.prompts) == 2
    assert "there is no such item: name one candidate by its title" in model.prompts[1]
