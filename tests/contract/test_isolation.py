"""Isolation of users in recall without shared memory, in the store by any namespace, and after edits of the state."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.base import BaseStore, InvalidNamespaceError

from graph import episode
from graph.conformance.isolation import faults_of_isolation
from graph.recommend import graph as recommend
from graph.variants import DEFAULT_VARIANT, VARIANTS
from memory.recall import RecallScope, recall_experiences, recall_lessons, recall_values, remember
from memory.records import Experience, Lesson, Value, escape, record
from memory.store import ChromaStore
from tests.stores import chroma

IDS = st.lists(st.text("ab.*%:/\\ 0é", max_size=4), min_size=2, max_size=5, unique=True)
HOSTILE: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("experiences", "w", "a", ".."), {}),
    (("experiences", "w", "a", "..", "b"), {}),
    (("experiences", "w", "a", "*"), {}),
    (("experiences", "w", "*"), {}),
    (("experiences", "w", ""), {}),
    (("experiences", "w", "a%"), {}),
    (("experiences", "w", "a/../b"), {}),
    (("experiences", "w", "a"), {"filter": {"user_id": "b"}}),
    (("experiences", "w", "a"), {"filter": {"user_id": {"$ne": "a"}}}),
    (("experiences", "w", "a"), {"offset": 1}),
    (("experiences", "w", "a"), {"offset": 10**9}),
]


async def fill(store: BaseStore, users: list[str]) -> None:
    """Write the records of one visit for each of `users`, all in the same situation."""
    for number, user in enumerate(users):
        common: dict[str, Any] = {"visit": f"visit {number}", "user_id": user, "situation": "The Same Title (Drama)"}
        told = {"plan": "", "title": "t", "genres": [], "predicted": 3.0, "distance": 0.5}
        experience = Experience(**common, **told, reward=4.0, advantage=0.5, left=False)
        lesson = Lesson(**common, text=f"what {number} learned", length=3, total_reward=9.0)
        value = Value(**common, distance=0.5, target=1.0)
        await remember(store, "w", [record(one, 0) for one in (experience, lesson, value)])


PERSON = ["planner", "outlook", "actor", "person", "critic", "reflector", "finish"]


@pytest.mark.slow
@pytest.mark.parametrize("node", PERSON)
@pytest.mark.usefixtures("home")
async def test_a_person_who_edits_their_visit_reaches_nothing_of_another(node: str) -> None:
    assert await faults_of_isolation(recommend.builder, VARIANTS[DEFAULT_VARIANT].nodes, node) == []


@pytest.mark.usefixtures("home")
async def test_without_the_guard_an_edited_state_does_reach_another_person(monkeypatch: pytest.MonkeyPatch) -> None:
    # Proves that the test above would find a fault.
    monkeypatch.setattr(episode, "guarded", lambda node: node)
    faults = await faults_of_isolation(episode.build_variant("billp"), VARIANTS["billp"].nodes, "planner")
    assert any("identity, profile: reached lessons/people:tiny/ann" in fault for fault in faults)


@settings(max_examples=40)
@given(users=IDS)
def test_without_shared_memory_a_user_recalls_their_own_alone(users: list[str]) -> None:
    async def check() -> None:
        async with chroma() as store:
            await fill(store, users[1:])
            for user in users:
                alone = RecallScope("w", user, "now", ())
                found = [
                    one.record.user_id
                    for recall in (recall_experiences, recall_lessons, recall_values)
                    for one in await recall(store, alone, "The Same Title (Drama)", 50)
                ]
                assert found == [user] * 3 * (user in users[1:])

    asyncio.run(check())


@pytest.mark.parametrize("query", [None, "The Same Title (Drama)"])
async def test_no_namespace_filter_or_offset_leads_to_what_is_anothers(ours: ChromaStore, query: str | None) -> None:
    await fill(ours, ["a", "b", "ab", ".."])
    assert [item.value["user_id"] for item in await ours.asearch(("experiences", "w", "a"), query=query)] == ["a"]
    assert [item.value["user_id"] for item in await ours.asearch(("experiences", "w", escape("..")))] == [".."]
    for prefix, asked in HOSTILE:
        with suppress(InvalidNamespaceError):
            assert await ours.asearch(prefix, query=query, **asked) == [], prefix
    # A wildcard matches any label in listings of namespaces, and only there.
    assert await ours.alist_namespaces(prefix=("experiences", "w", "*"), suffix=("a",)) == [("experiences", "w", "a")]
