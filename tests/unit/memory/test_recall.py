"""Recall: own records first, then others' by similarity; no duplicates; never the visit's own."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langgraph.store.base import BaseStore, Op, PutOp, Result, SearchItem, TTLConfig
from langgraph.store.memory import InMemoryStore

from memory.recall import (
    RecallScope,
    recall,
    recall_experiences,
    recall_lessons,
    recall_values,
    remember,
    write_ops,
)
from memory.records import Experience, Lesson, Record, Value, escape, namespace, record
from memory.store import ChromaStore

AXES = ["space", "love", "war", "farm"]


class CountWords(Embeddings):
    """Embedding by the counts of four words, for similarities that can be computed by hand."""

    name = "count-words"
    dimension = len(AXES) + 1

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(text.count(word)) for word in AXES] + [0.1]


@pytest.fixture
def store() -> Iterator[BaseStore]:
    with ChromaStore(embeddings=CountWords()) as store:
        yield store


def lesson(text: str, visit: str, user_id: str = "u", situation: str = "space", length: int = 5) -> Record:
    return record(
        Lesson(visit=visit, user_id=user_id, situation=situation, text=text, length=length, total_reward=1.0), 9
    )


def experience(visit: str, situation: str, title: str = "t", user_id: str = "u", step: int = 0) -> Record:
    return record(
        Experience(
            visit=visit, user_id=user_id, situation=situation, plan="", title=title, genres=[],
            predicted=3.0, distance=None, reward=4.0, advantage=1.0, left=False,
        ),
        step,
    )  # fmt: skip


ME = RecallScope("w", "me", "now", ("w",))


async def test_own_records_come_before_others_and_then_the_likest(store: BaseStore) -> None:
    await remember(
        store,
        "w",
        [
            experience("1", "love", "far but mine", "me"),
            experience("2", "space space", "like", "you"),
            experience("3", "space war", "less like", "you"),
        ],
    )
    found = await recall_experiences(store, ME, "space", 3)
    assert [one.record.title for one in found] == ["far but mine", "like", "less like"]
    assert found[1].similarity > found[2].similarity


async def test_without_sharing_only_own_records_are_recalled(store: BaseStore) -> None:
    await remember(store, "w", [experience("1", "space", "mine", "me"), experience("2", "space", "yours", "you")])
    found = await recall_experiences(store, RecallScope("w", "me", "now", ()), "space", 5)
    assert [one.record.title for one in found] == ["mine"]


async def test_own_records_can_be_left_out_however_many_crowd_in(store: BaseStore) -> None:
    mine = [experience(str(visit), "space", f"mine {visit}", "me") for visit in range(40)]
    await remember(store, "w", [*mine, experience("x", "war", "yours", "you"), lesson("mine", "1", "me")])
    others = RecallScope("w", "me", "now", ("w",), own=False)
    assert [one.record.title for one in await recall_experiences(store, others, "space", 3)] == ["yours"]
    assert await recall_lessons(store, others, "space", 3) == []
    # The same id in another space is another user.
    person = RecallScope("people:w", "me", "now", ("w",), own=False)
    assert len(await recall_experiences(store, person, "space", 3)) == 3


async def test_private_records_come_before_those_that_are_shared(store: BaseStore) -> None:
    await remember(store, "w", [experience("1", "space", "everybody's", "you")])
    await remember(store, "private:w", [experience("2", "love", "mine", "me"), experience("3", "space", "hers", "you")])
    found = await recall_experiences(store, RecallScope("private:w", "me", "now", ("w",)), "space", 5)
    assert [one.record.title for one in found] == ["mine", "everybody's"]


async def test_another_space_is_another_memory(store: BaseStore) -> None:
    await remember(store, "other", [experience("1", "space")])
    assert await recall_experiences(store, ME, "space", 5) == []


async def test_a_visit_never_recalls_its_own_records_however_many_crowd_in(store: BaseStore) -> None:
    own = [experience("now", "space", f"own {step}", "me", step) for step in range(40)]
    await remember(store, "w", [*own, experience("1", "war", "old", "me"), experience("2", "love", "hers", "you")])
    found = await recall_experiences(store, ME, "space", 3)
    assert [one.record.title for one in found] == ["old", "hers"]


async def test_a_record_written_again_stands_once(store: BaseStore) -> None:
    for _ in range(3):
        await remember(store, "w", [experience("1", "space"), lesson("l", "1")])
    assert len(await store.asearch(("experiences",), limit=100)) == 1
    assert len(await store.asearch(("lessons",), limit=100)) == 1


async def test_lessons_that_say_the_same_are_told_once_with_their_support(store: BaseStore) -> None:
    await remember(
        store, "w", [lesson("wide", "1", length=10), lesson("wide", "2", "v", length=20), lesson("narrow", "3")]
    )
    told = {one.record.text: (one.support, one.length) for one in await recall_lessons(store, ME, "space", 5)}
    assert told == {"wide": (2, 15.0), "narrow": (1, 5.0)}


async def test_own_lessons_come_before_better_fitting_ones_of_others(store: BaseStore) -> None:
    await remember(
        store, "w", [lesson("hers", "1", "you"), lesson("mine", "2", "me", situation="love"), lesson("his", "3", "he")]
    )
    assert [one.record.text for one in await recall_lessons(store, ME, "space", 2)][0] == "mine"


async def test_many_copies_of_one_lesson_leave_room_for_others(store: BaseStore) -> None:
    copies = [lesson("the same", str(visit)) for visit in range(200)]
    await remember(store, "w", [*copies, lesson("another", "x", situation="war")])
    found = await recall_lessons(store, ME, "space", 2)
    assert [(one.record.text, one.support) for one in found] == [("the same", 200), ("another", 1)]


async def test_of_equally_fitting_lessons_the_supported_one_is_preferred(store: BaseStore) -> None:
    await remember(store, "w", [lesson("a rare one", "1"), *(lesson("known", str(visit)) for visit in range(2, 6))])
    assert [one.record.text for one in await recall_lessons(store, ME, "space", 1)] == ["known"]


async def test_values_are_distinct_by_situation_and_nearest_first(store: BaseStore) -> None:
    values = [
        record(Value(visit=str(visit), user_id="u", situation=situation, distance=None, target=target), 0)
        for visit, situation, target in [(1, "space", 1.0), (2, "space", 2.0), (3, "farm", 3.0)]
    ]
    await remember(store, "w", values)
    found = await recall_values(store, ME, "space", 5)
    assert [one.record.situation for one in found] == ["space", "farm"]


async def test_exact_keys_never_recur_but_near_situations_are_found(store: BaseStore) -> None:
    await remember(store, "w", [experience("1", "space space space love", "seen once")])
    found = await recall_experiences(store, ME, "space space", 1)
    # The fifth axis is 0.1 for both.
    cosine = (2 * 3 + 0.1**2) / math.sqrt((2**2 + 0.1**2) * (3**2 + 1 + 0.1**2))
    assert (found[0].record.title, found[0].similarity) == ("seen once", round(cosine, 4))


async def test_what_somebody_else_put_there_is_left_out(store: BaseStore) -> None:
    await store.aput(namespace("experiences", "w", "u"), "by hand", {"text": "space", "situation": "space"})
    await remember(store, "w", [experience("1", "space", "real")])
    assert [one.record.title for one in await recall_experiences(store, ME, "space", 5)] == ["real"]


async def test_zero_asked_is_zero_told(store: BaseStore) -> None:
    await remember(store, "w", [experience("1", "space"), lesson("l", "1")])
    assert await recall_experiences(store, ME, "space", 0) == []
    assert await recall_lessons(store, ME, "space", 0) == []


def test_keys_derive_from_visit_step_and_kind() -> None:
    one = experience("1", "space")
    assert one.key == experience("1", "war", "other").key
    assert len({one.key, experience("2", "space").key, experience("1", "space", step=1).key, lesson("x", "1").key}) == 4


def test_any_user_id_makes_a_namespace() -> None:
    for user_id in ("", "a.b", "%", "%00", "ü/../x", "langgraph"):
        assert all(label and "." not in label for label in namespace("lessons", user_id, user_id))
    assert len({escape(user_id) for user_id in ("", "%00", ".", "%2E", "%")}) == 5


async def test_similar_records_of_all_shared_spaces_fill_what_own_ones_leave(store: BaseStore) -> None:
    await remember(store, "w", [experience("1", "farm", "mine", "me"), experience("2", "space war", "third", "you")])
    await remember(store, "a", [experience("3", "space space", "first", "you")])
    await remember(store, "b", [experience("4", "space", "second", "you"), experience("5", "war", "last", "you")])
    scope = RecallScope("w", "me", "now", ("w", "a", "b"))
    found = await recall_experiences(store, scope, "space space", 3)
    assert [(one.record.title, one.own) for one in found] == [("mine", True), ("first", False), ("second", False)]
    assert [one.support for one in found] == [1, 1, 1] and found[1].similarity == 1.0
    assert [one.record.title for one in await recall(store, Experience, scope, "space space", 3)] == [
        "mine", "first", "second"
    ]  # fmt: skip
    assert [one.record.title for one in await recall_experiences(store, scope, "space space", 9)] == [
        "mine", "first", "second", "third", "last"
    ]  # fmt: skip


async def test_a_copied_visit_recalls_nothing_of_its_original(store: BaseStore) -> None:
    await remember(store, "w", [experience("first", "space", "hidden", "me"), experience("2", "love", "seen", "me")])
    scope = RecallScope("w", "me", "now", ("w",), copied_from="first")
    assert [one.record.title for one in await recall_experiences(store, scope, "space", 5)] == ["seen"]


@pytest.mark.parametrize(("others", "order"), [(4, ["known", "near"]), (3, ["near", "known"])])
async def test_four_visits_are_worth_as_much_as_four_hundredths_of_similarity(
    store: BaseStore, others: int, order: list[str]
) -> None:
    near = lesson("near", "1", situation="space " * 40)
    # Cosine 0.965 at most: with four visits, the bonus of 0.04 exceeds the difference; with three, 0.032 does not.
    far = [lesson("known", str(visit), situation="space " * 40 + "love " * 11) for visit in range(2, 2 + others)]
    await remember(store, "w", [near, *far])
    found = await recall_lessons(store, ME, "space " * 40, 2)
    assert [one.record.text for one in found] == order
    similarity = {one.record.text: one.similarity for one in found}
    assert 0.032 < similarity["near"] - similarity["known"] < 0.04


async def test_equal_lessons_come_by_their_text(store: BaseStore) -> None:
    await remember(store, "w", [lesson("b", "1"), lesson("a", "2"), lesson("c", "3")])
    assert [one.record.text for one in await recall_lessons(store, ME, "space", 3)] == ["a", "b", "c"]


async def test_others_are_not_searched_if_own_records_are_enough() -> None:
    class Noting(ChromaStore):
        """Store that notes the prefixes of searches."""

        async def asearch(self, prefix: tuple[str, ...], /, **given: Any) -> list[SearchItem]:
            searched.append(prefix)
            return await super().asearch(prefix, **given)

    searched: list[tuple[str, ...]] = []
    with Noting(embeddings=CountWords()) as store:
        await remember(store, "w", [experience("1", "space", "mine", "me"), experience("2", "love", "hers", "you")])
        assert len(await recall(store, Experience, ME, "space", 1)) == 1
        assert searched == [namespace("experiences", "w", "me")]
        # One page is enough as long as it may hold as many records of the user as of others.
        assert len(await recall(store, Experience, replace(ME, own=False), "space", 1)) == 1
        assert searched[1:] == [("experiences", "w")]


async def test_invalid_records_are_warned_about_once_a_namespace(
    store: BaseStore, caplog: pytest.LogCaptureFixture
) -> None:
    await remember(store, "w", [experience("1", "space", "real", "me")])
    await recall_experiences(store, ME, "space", 5)
    assert caplog.messages == []
    for kind in ("experiences", "lessons"):
        await store.aput(namespace(kind, "w", "you"), "by hand", {"text": "space", "situation": "space"})
    for _ in range(2):
        assert [one.record.title for one in await recall_experiences(store, ME, "space", 5)] == ["real"]
        assert await recall_lessons(store, ME, "space", 5) == []
    advice = "run `billp memory check` to list them."
    assert caplog.messages == [
        f"Skipped invalid records below {kind}/w: {advice}" for kind in ("experiences", "lessons")
    ]


async def test_records_of_a_store_that_scores_nothing_have_no_similarity() -> None:
    store = InMemoryStore()
    await remember(store, "w", [experience("1", "space", "mine", "me")])
    assert [one.similarity for one in await recall_experiences(store, ME, "space", 1)] == [0.0]


async def test_records_are_written_with_the_fields_to_index_and_the_stores_time_to_live() -> None:
    class Noting(InMemoryStore):
        """Store that notes its operations."""

        ttl_config = TTLConfig(default_ttl=7.0)

        async def abatch(self, ops: Iterable[Op]) -> list[Result]:
            noted.extend(ops)
            return []

    noted: list[Op] = []
    one = lesson("wide", "1")
    await remember(Noting(), "w", [one])
    put = PutOp(("lessons", "w", "u"), one.key, one.value.model_dump(), index=["text", "situation"], ttl=7.0)
    assert noted == [put]
    assert write_ops("w", [one]) == [put._replace(ttl=None)]
