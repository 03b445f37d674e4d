"""Returning user: the Actor gets their former reactions to items in the same situation, and uses them."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graph.episode import build_variant
from memory.embeddings import shared_embeddings
from memory.recall import remember
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm.prompting import read_facts
from nodes.state import VisitInput, VisitOutput

pytestmark = pytest.mark.usefixtures("home")
# The seed tells the visits of a user apart.
seeds = itertools.count()


@pytest.fixture
async def store() -> AsyncIterator[ChromaStore]:
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        yield store


async def visit(store: ChromaStore, variant: str, user_id: str, **changes: Any) -> tuple[VisitOutput, list[Any]]:
    """Run a visit, save its records, and return its output and the Actor's candidates in each round."""
    graph: Any = build_variant(variant).compile(store=store)
    given = VisitInput(world="tiny", user_id=user_id, max_steps=60, seed=next(seeds))
    context = Context(**{"learn": "cohort", "explore": 0.0} | changes)
    parts = [one async for one in graph.astream(given, context=context, stream_mode=["updates", "values"])]
    role = "plan_and_act" if variant == "merge_plan_and_act" else "actor"
    prompts = [part[role]["exchange"][role].prompt for mode, part in parts if mode == "updates" and role in part]
    output = VisitOutput.model_validate(parts[-1][1])
    await remember(store, "tiny", output.records)
    return output, [read_facts(prompt)["candidates"] for prompt in prompts]


@pytest.mark.parametrize("variant", ["billp", "billp_outlook", "merge_plan_and_act"])
async def test_the_second_visit_goes_the_way_of_the_first_but_not_over_its_end(
    store: ChromaStore, variant: str
) -> None:
    first, nothing = await visit(store, variant, "3")
    assert first.left and not any("before" in one for told in nothing for one in told)
    second, told = await visit(store, variant, "3")
    stayed = [step.item_id for step in first.steps if not step.left]
    assert [step.item_id for step in second.steps[: len(stayed)]] == stayed
    assert first.steps[-1].item_id not in [step.item_id for step in second.steps[: len(first.steps)]]
    # The item after which the user left shows its reaction only if it is a candidate again.
    for step, shown in zip(first.steps, told, strict=False):
        before = {one["title"]: one.get("before") for one in shown}
        assert before.get(step.title) in (("left", None) if step.left else (round(step.reward, 2),))
    assert second.length >= first.length


async def test_other_users_and_other_situations_tell_nothing_of_it(store: ChromaStore) -> None:
    await visit(store, "billp", "3")
    _, told = await visit(store, "billp", "4")
    _, alone = await visit(store, "billp", "3", recall_own=False)
    assert not any("before" in one for shown in (*told, *alone) for one in shown)
