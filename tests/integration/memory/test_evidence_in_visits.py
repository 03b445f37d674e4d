"""Evidence in a visit: facts and figures by setting, and experiences that are told once."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from graph.episode import build_variant
from memory.recall import remember
from memory.store import ChromaStore
from nodes import actor
from nodes.context import Context
from nodes.llm.prompting import read_facts
from nodes.state import VisitInput, VisitState
from nodes.tools.open_world import open_world_now
from nodes.user_view import visitor
from nodes.visit_memory import visit_evidence
from tests.stores import chroma
from tests.unit.nodes.test_visit_memory import runtime
from tests.unit.nodes.tools.test_evidence import experiences

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
async def store() -> AsyncIterator[ChromaStore]:
    """Store with rounds of one earlier user, whom nearly nothing made leave."""
    async with chroma() as store:
        await remember(store, "tiny", experiences(open_world_now("tiny"), 100, user="0"))
        yield store


async def visit(store: ChromaStore, variant: str = "billp", **changes: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """Run a visit, and return what its nodes wrote, and the steps at its end."""
    graph: Any = build_variant(variant).compile(store=store)
    context = Context(**{"learn": "off"} | changes)
    given = VisitInput(world="tiny", max_steps=6)
    parts = [one async for one in graph.astream(given, context=context, stream_mode=["updates", "values"])]
    return [part for mode, part in parts if mode == "updates"], parts[-1][1]["steps"]


def told(updates: list[dict[str, Any]], role: str) -> list[dict[str, Any]]:
    return [read_facts(part[role]["exchange"][role].prompt) for part in updates if role in part]


def columns(updates: list[dict[str, Any]]) -> set[str]:
    return {name for facts in told(updates, "actor") for one in facts["candidates"] for name in one}


ROLES = ("planner", "critic", "reflector")


async def test_roles_are_told_the_evidence_and_candidates_what_is_known_of_pairs(store: ChromaStore) -> None:
    updates, steps = await visit(store)
    for role in ROLES:
        for facts in told(updates, role):
            assert sum(band["pairs"] for band in facts["evidence"]) == 100
    assert columns(updates) >= {"known", "to_unknown"}
    assert all(step.known is not None and step.ended is not None for step in steps[1:])


async def test_without_pairs_candidates_have_no_figures_of_them_and_roles_keep_the_evidence(store: ChromaStore) -> None:
    for variant in ("billp", "billp_outlook"):
        updates, steps = await visit(store, variant, pairs=False)
        assert columns(updates).isdisjoint({"known", "ended", "to_unknown"})
        assert all((step.known, step.ended, step.to_unknown) == (None,) * 3 for step in steps)
        # The risk without pairs is the risk.
        assert all(step.risk == step.prior_risk for step in steps)
        assert all("evidence" in facts for role in ROLES for facts in told(updates, role))


async def test_without_evidence_no_role_is_told_any_and_candidates_keep_their_figures(store: ChromaStore) -> None:
    updates, steps = await visit(store, evidence=False)
    assert not any("evidence" in facts for role in ROLES for facts in told(updates, role))
    assert columns(updates) >= {"known", "to_unknown"}
    assert all(step.known is not None for step in steps[1:])


async def test_without_evidence_no_distance_is_known_to_be_safe(store: ChromaStore) -> None:
    who = await visitor(VisitState(world="tiny"))
    state = VisitState(world="tiny", user_id=who.user_id, visit=1)
    found = [await visit_evidence(state, runtime(Context(evidence=on), store=store), who) for on in (True, False)]
    assert sum(band.pairs for band in found[0].bands) == 100
    assert found[1].bands == () and found[1].safe_distance is None
    assert found[1].model is found[0].model


@pytest.mark.parametrize("variant", ["billp", "billp_outlook"])
async def test_at_the_prior_a_visit_is_as_with_a_memory_of_no_rounds(store: ChromaStore, variant: str) -> None:
    updates, steps = await visit(store, variant, leave_risk="prior")
    assert not any("evidence" in facts for role in ROLES for facts in told(updates, role))
    assert columns(updates).isdisjoint({"known", "ended", "to_unknown"})
    assert all(step.known is None and step.risk == step.prior_risk for step in steps)


def experiences_told(updates: list[dict[str, Any]]) -> list[list[str]]:
    return [[one.item_id for one in part["actor"]["experiences"]] for part in updates if "actor" in part]


async def test_no_experience_is_told_again_within_the_last_rounds_while_others_are_left(store: ChromaStore) -> None:
    updates, _ = await visit(store, experiences_k=4)
    shown = experiences_told(updates)
    apart = actor.MOST_TOLD // 4
    assert len(shown) > apart + 1 and all(len(one) == 4 for one in shown)
    for number in range(len(shown) - apart):
        near = [item for one in shown[number : number + apart + 1] for item in one]
        assert len({*near}) == len(near)


async def test_experiences_are_told_again_once_no_other_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "MOST_TOLD", 100)
    async with chroma() as few:
        await remember(few, "tiny", experiences(open_world_now("tiny"), 3, user="0"))
        shown = experiences_told((await visit(few, experiences_k=2))[0])
        assert [len(one) for one in shown[:3]] == [2, 1, 2]
        assert len({*shown[0], *shown[1]}) == 3 and {*shown[2]} < {*shown[0], *shown[1]}
        # Without any to tell, none is told.
        assert experiences_told((await visit(few, experiences_k=0))[0])[0] == []
