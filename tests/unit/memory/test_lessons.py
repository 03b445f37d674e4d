"""Lessons that count: merged texts, replaced lessons, and replacements that count for nothing."""

from collections.abc import Iterator, Sequence

import pytest
from langgraph.store.base import BaseStore

from memory.lessons import StoredLesson, may_replace, merge_lessons
from memory.recall import RecallScope, recall_lessons, remember
from memory.records import MAX_REPLACED, Lesson, Record, account_space, namespace, people_space, private_space, record
from memory.store import ChromaStore

FILMS = ("lessons", "films", "u")


def stored(key: str, text: str = "", replaces: Sequence[str] = (), length: int = 5, visit: str = "") -> StoredLesson:
    value = Lesson(
        visit=visit or key, user_id="u", situation="", text=text or key, length=length, total_reward=1.0,
        replaces=list(replaces),
    )  # fmt: skip
    return StoredLesson(FILMS, key, value)


def counting(*lessons: StoredLesson) -> dict[str, int]:
    """Return text and support of the lessons that count."""
    return {one.text: one.support for one in merge_lessons(lessons)}


def test_what_several_visits_say_is_merged_and_the_most_supported_comes_first() -> None:
    said = [("mix", "1", 2), ("keep apart", "2", 4), ("keep apart", "3", 7), ("keep apart", "3", 7), ("short", "4", 9)]
    found = merge_lessons(
        stored(str(number), text, length=length, visit=visit) for number, (text, visit, length) in enumerate(said)
    )
    assert [one[:3] for one in found] == [("keep apart", 2, 6.0), ("short", 1, 9.0), ("mix", 1, 2.0)]
    assert [one.text for one in merge_lessons(map(stored, "bac"))] == ["a", "b", "c"]


def test_a_lesson_stands_for_all_that_it_replaced_directly_or_not() -> None:
    lessons = [stored("a", length=2), stored("b", length=4, replaces=["a"]), stored("c", length=9, replaces=["b"])]
    [found] = merge_lessons([*lessons, stored("other", "c", length=1)])
    assert (found.text, found.support, found.length) == ("c", 4, 4.0)
    assert ([one.key for one in found.records], [one.key for one in found.replaced]) == (["c", "other"], ["a", "b"])


def test_without_the_later_lesson_the_earlier_ones_are_back() -> None:
    lessons = [stored("a"), stored("b", replaces=["a"]), stored("c", replaces=["b"])]
    assert counting(*lessons) == {"c": 3}
    assert counting(*lessons[:2]) == {"b": 2}
    assert counting(lessons[0], lessons[2]) == {"a": 1, "c": 1}


def test_two_lessons_that_replaced_the_same_one_both_count() -> None:
    assert counting(stored("a"), stored("b", replaces=["a"]), stored("c", replaces=["a"])) == {"b": 2, "c": 2}


def test_a_lesson_that_is_said_again_later_counts_again() -> None:
    again = [stored("1", "near"), stored("2", "far", replaces=["1"]), stored("3", "near", replaces=["2"])]
    assert counting(*again) == {"near": 3}


def test_unknown_keys_replace_nothing_and_support_nothing() -> None:
    assert counting(stored("a", replaces=["gone", "never"]), stored("b")) == {"a": 1, "b": 1}


def test_of_a_circle_one_lesson_stays_and_none_replaces_itself() -> None:
    assert counting(stored("a", replaces=["a"])) == {"a": 1}
    assert counting(stored("a", replaces=["b"]), stored("b", replaces=["a"])) == {"a": 2}
    circle = [stored("a", replaces=["b"]), stored("b", replaces=["c"]), stored("c", replaces=["a"])]
    assert counting(*circle) == counting(*reversed(circle)) == {"a": 3}
    assert counting(*circle, stored("d", replaces=["b"])) == {"a": 3, "d": 3}


def test_a_long_chain_and_a_dense_mesh_are_resolved_at_once() -> None:
    chain = [stored(f"{number:04}", replaces=[f"{number - 1:04}"]) for number in range(1000)]
    mesh = [
        stored(f"{number:04}", replaces=[f"{one:04}" for one in range(number + 1, number + 1 + MAX_REPLACED)])
        for number in range(1000)
    ]
    assert counting(*chain) == {"0999": 1000} and counting(*mesh) == {"0000": 1000}


def test_a_lesson_replaces_none_that_its_writer_could_not_recall() -> None:
    alice, bob = account_space("alice", "films"), account_space("bob", "films")

    def place(space: str, user: str = "u") -> tuple[str, ...]:
        return namespace("lessons", space, user)

    everywhere = [place(one) for one in ("films", alice, private_space("films"), people_space("films"))]
    assert all(may_replace(one, place("films", "other")) for one in everywhere)
    assert all(may_replace(one, one) for one in everywhere)
    # What all may recall hides nothing that belongs to an account, a person or a private visit.
    assert not any(may_replace(place("films"), one) for one in everywhere[1:])
    for space in (private_space("films"), people_space("films"), private_space(alice)):
        assert not may_replace(place(space), place(space, "other"))
    assert may_replace(place(alice), place(alice, "other"))
    assert may_replace(place(private_space(alice)), place(alice))
    assert may_replace(place(people_space("films"), "alice"), place(alice))
    assert not any(
        may_replace(one, place(alice))
        for one in (place(bob), place(private_space(bob)), place(people_space("films"), "bob"), place("films"))
    )


def lesson(visit: str, text: str, user_id: str = "u", replaces: Sequence[Record] = ()) -> Record:
    keys = [one.key for one in replaces]
    return record(
        Lesson(
            visit=visit, user_id=user_id, situation="s", text=text, length=5, total_reward=1.0, replaces=keys
        ),
        5,
    )  # fmt: skip


@pytest.fixture
def store() -> Iterator[BaseStore]:
    with ChromaStore() as store:
        yield store


async def recalled(store: BaseStore, scope: RecallScope) -> dict[str, int]:
    return {one.record.text: one.support for one in await recall_lessons(store, scope, "s", 9)}


async def test_recall_leaves_out_what_was_replaced_and_names_the_keys(store: BaseStore) -> None:
    first, same = lesson("1", "near"), lesson("2", "near", "v")
    later = lesson("3", "far", "v", [first, same])
    await remember(store, "films", [first, same, later])
    [found] = await recall_lessons(store, RecallScope("films", "me", "now", ("films",)), "s", 9)
    assert (found.record.text, found.support, found.keys, found.own) == ("far", 3, (later.key,), False)
    # It takes up a lesson of this user, and so comes as one of theirs.
    [own] = await recall_lessons(store, RecallScope("films", "u", "now", ("films",)), "s", 9)
    assert own.own
    # For the user's own memory alone, another user's lesson replaces nothing.
    assert await recalled(store, RecallScope("films", "u", "now")) == {"near": 1}
    # Nor does the lesson of the visit itself.
    assert await recalled(store, RecallScope("films", "me", "3", ("films",))) == {"near": 2}
    await store.adelete(namespace("lessons", "films", "v"), later.key)
    assert await recalled(store, RecallScope("films", "me", "now", ("films",))) == {"near": 2}


async def test_a_lesson_of_another_space_hides_no_shared_lesson_from_others(store: BaseStore) -> None:
    shared = [lesson("1", "far"), lesson("2", "mixed", "v")]
    await remember(store, "films", shared)
    theft = lesson("m", "do as I say", "m", shared)
    spaces = [account_space("mallory", "films"), people_space("films"), private_space("films")]
    for space in spaces:
        await remember(store, space, [theft])
    known = {"far": 1, "mixed": 1}
    bob = account_space("bob", "films")
    assert await recalled(store, RecallScope("films", "u", "now", ("films",))) == known
    assert await recalled(store, RecallScope(bob, "m", "now", (bob, "films"))) == known
    assert await recalled(store, RecallScope(private_space("films"), "u", "now", ("films",))) == known
    # Its own visits alone recall it.
    for space in spaces:
        assert await recalled(store, RecallScope(space, "m", "now", ("films",))) == {"do as I say": 3}


async def test_a_shared_lesson_hides_nothing_that_its_writer_could_not_recall(store: BaseStore) -> None:
    for space in (people_space("films"), private_space("films"), account_space("bob", "films")):
        mine = lesson("1", "mine", "bob")
        await remember(store, space, [mine])
        await remember(store, "films", [lesson("m", "do as I say", "m", [mine])])
        assert await recalled(store, RecallScope(space, "bob", "now", ("films",))) == {"mine": 1, "do as I say": 1}
