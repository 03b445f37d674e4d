"""Items of the user's history: no variant recommends them again, unless the world allows it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from graph.episode import VARIANTS, build_variant
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.actor import ChoiceResolver
from nodes.context import Context
from nodes.state import Step, VisitInput, VisitState
from nodes.tools.open_world import open_world_now
from nodes.user_view import visitor
from sim.data.sources import load_ratings
from sim.world import World
from tests.integration.visit.test_roles import run, script

__all__ = ["script"]
ALLOWING = "tiny-known"


@pytest.fixture
async def store(home: Path) -> AsyncIterator[ChromaStore]:
    World.build(ALLOWING, load_ratings("tiny", 0), allow_known=True).save(home / "worlds" / ALLOWING)
    async with ChromaStore(home / "memory", embeddings=shared_embeddings()) as store:
        yield store


async def known_shown(store: ChromaStore, world: str, variant: str, context: Context) -> tuple[int, int]:
    """Return how many known items the visits and the shortlists of two users showed, over all states."""
    compiled: Any = build_variant(variant).compile(store=store)
    users = open_world_now(world).world.split("dev").users[:2]
    had = listed = 0
    for user in users:
        history = {*open_world_now(world).world.users[user].history}
        asked = VisitInput(world=world, user_id=user, max_steps=12)
        async for state in compiled.astream(asked, context=context, stream_mode="values"):
            had += sum(step.item_id in history for step in state.get("steps", []))
            listed += sum(one.item_id in history for one in state.get("shortlist", []))
    return had, listed


@pytest.mark.parametrize("variant", VARIANTS)
async def test_no_variant_recommends_what_the_history_holds(variant: str, store: ChromaStore) -> None:
    contexts = [Context(), Context(choices="free"), Context(choices="free", grounding="nearest")]
    if variant == "billp_outlook":
        contexts.append(Context(explore=1.0, learn="cohort"))
    for context in contexts:
        assert await known_shown(store, "tiny", variant, context) == (0, 0)


async def test_a_world_may_allow_what_the_history_holds(store: ChromaStore) -> None:
    for variant in ("billp", "billp_outlook"):
        assert (await known_shown(store, ALLOWING, variant, Context()))[1] > 0
    assert (await visitor(VisitState(world=ALLOWING))).seen == frozenset()


@pytest.mark.usefixtures("home")
async def test_what_a_guest_brings_is_not_recommended_to_them() -> None:
    world = open_world_now("tiny").world
    items, known = list(world.catalogue)[:3], world.split("dev").users[0]
    titles = [item.title for item in items]
    guest = await visitor(VisitState(world="tiny", user_id="new", history=titles))
    assert guest.seen == {item.id for item in items}
    # A user of the world had the items of the logs too, whatever titles a request names.
    named = await visitor(VisitState(world="tiny", user_id=known, history=titles))
    assert named.history == tuple(items) and named.seen == {*guest.seen, *world.users[known].history}


@pytest.mark.parametrize("grounding", ["fresh", "nearest"])
@pytest.mark.usefixtures("home")
async def test_a_known_title_is_asked_about_or_becomes_another_item(grounding: Any, script: Any) -> None:
    who = await visitor(VisitState(world="tiny"))
    title = who.history[-1].title
    script(lambda facts: json.dumps({"item": title}))
    state = await run("act_only", VisitInput(world="tiny", max_steps=1), Context(choices="free", grounding=grounding))
    assert state["steps"][0].item_id not in who.seen
    assert state["exchange"]["actor"].outcome == ("fallback" if grounding == "fresh" else "ok")


@pytest.mark.usefixtures("home")
async def test_known_items_come_when_nothing_else_is_left() -> None:
    who = await visitor(VisitState(world="tiny"))
    others = [item for item in who.open_world.world.catalogue if item.id not in who.seen]
    steps = [Step(index=index, item_id=item.id) for index, item in enumerate(others)]
    assert {*who.not_offered(steps[:-1])} == {*who.seen, *(item.id for item in others[:-1])}
    assert {*who.not_offered(steps)} == {item.id for item in others}
    ground = ChoiceResolver(who, VisitState(world="tiny", steps=steps), Context(choices="free"), [])
    assert ground.fault(who.history[0].title) is None and ground.fault(others[0].title) is not None
    assert ground.proposal(ground.fallback()).item_id in who.seen
