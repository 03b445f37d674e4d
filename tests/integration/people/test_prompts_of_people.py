"""Prompts of a person's visit: their wishes, with an explanation that no other visit has."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from graph.checkpoints import serializer
from graph.episode import VARIANTS, build_episode
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.llm.prompting import Facts, read_facts
from nodes.llm.prompts import default_prompt
from nodes.state import RecommendInput
from nodes.tools.open_world import open_world_now
from nodes.users.person import greet, person, person_name

pytestmark = pytest.mark.usefixtures("home")
EXPLAINED = default_prompt("wishes")


@pytest.fixture
async def store(home: Path) -> AsyncIterator[ChromaStore]:
    async with ChromaStore(home / "memory", embeddings=shared_embeddings()) as store:
        yield store


class Visit:
    """Visit of a person with the roles of a variant."""

    def __init__(self, store: ChromaStore, variant: str = "billp") -> None:
        nodes = VARIANTS[variant].instead_of("user", person)
        builder = build_episode(
            *nodes.step,
            at_end=nodes.at_end,
            begin=greet,
            input_schema=RecommendInput,
            variant=variant,
            named_by=person_name,
        )
        self.graph: Any = builder.compile(checkpointer=InMemorySaver(serde=serializer()), store=store)
        self.config = {"configurable": {"thread_id": "t"}}

    async def begin(self, wishes: str) -> None:
        await self.graph.ainvoke({"world": "tiny", "user_id": "ann", "wishes": wishes}, self.config)

    async def answer(self, **answer: Any) -> None:
        await self.graph.ainvoke(Command(resume=answer), self.config)

    async def prompt(self, role: str) -> str:
        values: dict[str, Any] = (await self.graph.aget_state(self.config)).values
        prompt: str = values["exchange"][role].prompt
        return prompt

    async def facts(self, role: str) -> Facts:
        return read_facts(await self.prompt(role))


@pytest.mark.parametrize(
    ("variant", "roles"),
    [("billp_outlook", ["planner", "actor", "critic"]), ("merge_plan_and_act", ["plan_and_act", "critic"])],
)
async def test_roles_get_a_persons_wishes_with_an_explanation(
    store: ChromaStore, variant: str, roles: list[str]
) -> None:
    visit = Visit(store, variant)
    await visit.begin("no crime, not too long, no sequels")
    await visit.answer(skip=True)
    for role in roles:
        facts = await visit.facts(role)
        assert facts["wishes"] == ["no crime, not too long, no sequels"], role
        understood = facts["understood"]
        assert understood == {"left_out": [["Crime"]], "cannot_be_judged": ["length", "sequels"]}, role
        assert EXPLAINED in await visit.prompt(role)


async def test_visits_without_wishes_have_no_explanation_of_them(store: ChromaStore) -> None:
    visit = Visit(store)
    await visit.begin("")
    await visit.answer(rating=4)
    for role in ("planner", "actor", "critic"):
        assert EXPLAINED not in await visit.prompt(role)


async def test_titles_that_a_person_refused_are_told(store: ChromaStore) -> None:
    visit = Visit(store)
    await visit.begin("")
    values = (await visit.graph.aget_state(visit.config)).values
    await visit.answer(never=True)
    refused = open_world_now("tiny").world.catalogue.item(values["proposal"].item_id).title
    assert (await visit.facts("planner"))["never"] == [refused]
    assert EXPLAINED in await visit.prompt("planner")
    # That answer is the reaction to be estimated.
    assert "never" not in await visit.facts("critic")


async def test_the_critic_gets_earlier_comments_and_not_what_was_said_of_the_item_it_judges(store: ChromaStore) -> None:
    visit = Visit(store)
    await visit.begin("no crime")
    await visit.answer(rating=2, comment="no drama either")
    assert (await visit.facts("critic"))["wishes"] == ["no crime"]
    assert (await visit.facts("critic"))["understood"] == {"left_out": [["Crime"]]}
    said = (await visit.facts("planner"))["wishes"]
    assert said[0] == "no crime" and said[1].startswith("no drama either [on ")
    await visit.answer(rating=3)
    assert (await visit.facts("critic"))["wishes"] == said


async def test_what_wishes_leave_out_counts_as_not_good_in_the_planners_choice(store: ChromaStore) -> None:
    visit = Visit(store)
    await visit.begin("no crime")
    good = {row["category"]: row["good"] for row in (await visit.facts("planner"))["choice"]}
    assert not good.get("Crime")
    other = Visit(store)
    other.config = {"configurable": {"thread_id": "other"}}
    await other.begin("crime")
    rows = (await other.facts("planner"))["choice"]
    assert rows[0]["category"] == "Crime" and rows[0]["good"] > 0
