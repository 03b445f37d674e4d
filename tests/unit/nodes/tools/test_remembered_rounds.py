"""Rounds in memory: what a reader holds after any changes, and what a visit may not see."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.changes import Changes, StoredChange
from memory.search.filters import Place
from nodes.tools.remembered_rounds import RememberedRounds
from sim.catalogue import Catalogue, Item
from sim.policies.pair_evidence import NOTHING, Rounds

CATALOGUE = Catalogue([Item(str(number), f"Item {number}", ("Drama",)) for number in range(6)])
PREFIX = ("experiences", "tiny")
PAST, FUTURE = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))


def experience(item: int = 0, recent: tuple[int, ...] = (), **changes: Any) -> dict[str, Any]:
    return {
        "visit": "v", "user_id": "1", "situation": "s", "plan": "", "item_id": str(item), "title": f"Item {item}",
        "genres": [], "recent": [str(one) for one in recent], "predicted": 3.0, "distance": None, "reward": 4.0,
        "advantage": 0.0, "left": False,
    } | changes  # fmt: skip


def place(key: str, user: str = "1") -> Place:
    return (*PREFIX, user), key


def changes(written: Sequence[StoredChange] = (), gone: Sequence[Place] = (), *, whole: bool = False) -> Changes:
    return Changes(list(written), list(gone), whole, None)


def table_of(user_id: str) -> str:
    return "train" if user_id == "1" else "test"


def read(written: list[StoredChange]) -> RememberedRounds:
    """Return a reader of all records of a store."""
    found = RememberedRounds(CATALOGUE, table_of)
    found.apply(changes(written, whole=True))
    return found


def in_order(rounds: Rounds) -> list[tuple[Any, ...]]:
    rows = (rounds.item, rounds.predicted, rounds.left)
    columns = zip(*(one.tolist() for one in rows), rounds.recent.tolist(), strict=True)
    return sorted((item, *recent, predicted, left) for item, predicted, left, recent in columns)


keys = st.sampled_from(["a", "b", "c", "d"])
values = st.one_of(
    st.builds(
        experience,
        st.integers(0, 7),
        st.lists(st.integers(0, 7), max_size=5).map(tuple),
        visit=st.sampled_from(["v", "w"]),
        user_id=st.sampled_from(["1", "2"]),
        predicted=st.sampled_from([1.5, 5.8, None]),
        left=st.sampled_from([True, False, None]),
    ),
    st.just({"text": "no experience"}),
)
writes = st.builds(StoredChange, keys.map(place), values, st.sampled_from([None, PAST, FUTURE]))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(writes, max_size=3, unique_by=lambda one: one.place)),
        st.tuples(st.just("delete"), st.lists(keys.map(place), max_size=3, unique=True)),
        st.tuples(st.just("read whole"), st.none()),
    ),
    max_size=12,
)


@given(steps, st.sets(st.sampled_from(["v", "w", "unknown"])), st.sampled_from([None, "1", "2", "unknown"]))
def test_what_follows_changes_holds_what_a_full_read_gives(
    taken: list[tuple[str, Any]], hidden: set[str], left_out: str | None
) -> None:
    stored: dict[Place, StoredChange] = {}
    follows = RememberedRounds(CATALOGUE, table_of)
    for name, given_ in taken:
        if name == "write":
            stored |= {one.place: one for one in given_}
            follows.apply(changes(given_))
        elif name == "delete":
            for one in given_:
                stored.pop(one, None)
            follows.apply(changes(gone=given_))
        else:
            follows.apply(changes(list(stored.values()), whole=True))
    expected = read(list(stored.values()))
    assert in_order(follows.rounds(hidden, left_out, None)) == in_order(expected.rounds(hidden, left_out, None))
    assert len(follows) == len(expected)


def test_rounds_hold_what_the_experience_says() -> None:
    rounds = read([StoredChange(place("a"), experience(3, (2, 0), left=True, predicted=5.8), None)]).rounds(
        (), None, None
    )
    assert in_order(rounds) == [(3, 2, 0, NOTHING, NOTHING, 5.8, True)]
    assert rounds.recent.dtype == np.intp


def test_expired_rounds_hidden_visits_and_left_out_users_are_not_returned() -> None:
    rounds = read(
        [
            StoredChange(place("a"), experience(0), None),
            StoredChange(place("b"), experience(1), PAST),
            StoredChange(place("c"), experience(2), FUTURE),
            StoredChange(place("d"), experience(3, visit="mine"), None),
            StoredChange(place("e", "2"), experience(4, user_id="2", visit="w"), None),
        ]
    )

    def items(hidden: tuple[str, ...] = (), left_out: str | None = None) -> list[int]:
        return sorted(rounds.rounds(hidden, left_out, None).item.tolist())

    assert items() == [0, 2, 3, 4]
    assert items(("mine", "never seen")) == [0, 2, 4]
    assert items((), "1") == [4] and items(("w",), "1") == []


def test_rounds_say_whether_their_users_react_by_another_table() -> None:
    taken = [("a", "1"), ("b", "2"), ("c", "3")]
    rounds = read([StoredChange(place(key, user), experience(int(user), user_id=user), None) for key, user in taken])

    def elsewhere(table: str | None) -> list[int]:
        found = rounds.rounds((), None, table)
        return sorted(found.item[found.elsewhere].tolist())

    assert elsewhere("train") == [2, 3] and elsewhere("test") == [1] and elsewhere(None) == []
    assert elsewhere("neither") == [1, 2, 3]


def test_many_rounds_are_kept_and_their_places_are_used_again() -> None:
    rounds = RememberedRounds(CATALOGUE, table_of)
    for start in range(0, 1_000, 100):
        rounds.apply(changes([StoredChange(place(str(n)), experience(n % 6), None) for n in range(start, start + 100)]))
    assert len(rounds) == len(rounds.rounds((), None, None)) == 1_000
    size = len(rounds._held)
    for _ in range(3):
        rounds.apply(changes(gone=[place(str(n)) for n in range(500)]))
        assert len(rounds) == 500
        rounds.apply(changes([StoredChange(place(str(n)), experience(n % 6), None) for n in range(500)]))
    assert len(rounds) == 1_000 and len(rounds._held) == size


BROKEN = [
    {"text": "hello"},
    experience(9),
    experience(1, (9,)),
    experience(1, (2,) * 5),
    experience(1, (2,) * 10_000),
    experience(1, predicted=float("nan")),
    experience(1, predicted=float("inf")),
    experience(1, left="perhaps"),
]
# As the original kept them.
UNKNOWN = [experience(1, left=None), experience(1, predicted=None)]


@pytest.mark.parametrize("value", BROKEN + UNKNOWN, ids=range(len(BROKEN + UNKNOWN)))
def test_a_record_that_is_no_experience_is_passed_over_even_where_one_was(value: dict[str, Any]) -> None:
    rounds = read([StoredChange(place("a"), experience(1), None), StoredChange(place("b"), experience(2), None)])
    rounds.apply(changes([StoredChange(place("a"), value, None)]))
    assert rounds.rounds((), None, None).item.tolist() == [2] and len(rounds) == 1


@pytest.mark.parametrize("value", BROKEN)
def test_that_a_record_was_passed_over_is_told(value: dict[str, Any]) -> None:
    rounds = read([StoredChange(place("good"), experience(1), None)])
    assert not rounds.passed_over
    rounds.apply(changes([StoredChange(place("bad"), value, None)]))
    assert rounds.passed_over


def test_an_experience_that_does_not_say_whether_the_user_left_teaches_nothing_and_is_no_fault() -> None:
    rounds = read([StoredChange(place(str(n)), value, None) for n, value in enumerate(UNKNOWN)])
    assert len(rounds) == len(rounds.rounds((), None, None)) == 0 and not rounds.passed_over
