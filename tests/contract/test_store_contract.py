"""Store contract: the same tests for every kind of `ChromaStore` and for LangGraph's own two stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiosqlite
import numpy as np
import pytest
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    PutOp,
    SearchOp,
)
from langgraph.store.sqlite.aio import AsyncSqliteStore

from tests.stores import OURS, SQLITE, THEIRS, Clock, FakeEmbeddings, sqlite_index


@asynccontextmanager
async def asynchronous(store: BaseStore, kind: str) -> AsyncIterator[BaseStore]:
    """Yield the async counterpart of `store`."""
    if kind == "SqliteStore":
        async with aiosqlite.connect(**SQLITE) as connection:
            yield AsyncSqliteStore(connection, index=sqlite_index())
    else:
        yield store


def test_put_get_replace_and_delete(store: BaseStore) -> None:
    store.put(("a", "b"), "k", {"n": 1})
    first = store.get(("a", "b"), "k")
    store.put(("a", "b"), "k", {"n": 2, "deep": {"list": [1, None, True, 2.5, {"x": []}]}})
    second = store.get(("a", "b"), "k")
    assert first and first.value == {"n": 1} and first.namespace == ("a", "b") and first.key == "k"
    assert second and second.value == {"n": 2, "deep": {"list": [1, None, True, 2.5, {"x": []}]}}
    assert first.created_at <= first.updated_at <= second.updated_at
    store.delete(("a", "b"), "k")
    store.delete(("a", "b"), "k")
    assert store.get(("a", "b"), "k") is None
    assert store.search(("a",)) == []


def test_search_finds_what_is_below_a_prefix_of_any_depth(store: BaseStore) -> None:
    places = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d"), ("a", "x"), ("ab",), ("A",)]
    for place in places:
        store.put(place, "k", {"at": list(place)})
    for prefix in ((), ("a",), ("a", "b"), ("a", "b", "c"), ("a", "z")):
        below = sorted(place for place in places if place[: len(prefix)] == prefix)
        assert sorted(found.namespace for found in store.search(prefix, limit=99)) == below
        assert sorted(found.namespace for found in store.search(prefix, query="q", limit=99)) == below


def test_search_scores_by_cosine_best_first(store: BaseStore) -> None:
    for word in ("one", "two", "three", "four"):
        store.put(("w", "x"), word, {"text": word}, index=["text"])
    found = store.search(("w", "x"), query="three", limit=3)
    assert found[0].key == "three" and found[0].score == pytest.approx(1.0, abs=1e-5)
    embed = FakeEmbeddings().embed_query
    for item in found:
        a, b = np.array(embed("three")), np.array(embed(item.key))
        assert item.score == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)
    scores = [item.score or 0.0 for item in found]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3
    assert [item.score for item in store.search(("w", "x"))] == [None] * 4


def test_a_record_is_found_by_each_of_its_fields_and_counts_once(store: BaseStore) -> None:
    value = {"metadata": {"title": "red"}, "items": [{"title": "blue"}, {"title": "green"}], "more": "grey"}
    store.put(("m", "x"), "both", value, index=["metadata.title", "items[*].title"])
    store.put(("m", "x"), "list", {"many": [f"t{number}" for number in range(5)]}, index=["many[*]"])
    store.put(("m", "x"), "last", {"revisions": ["old", "new"]}, index=["revisions[-1]"])
    for text, key in (("red", "both"), ("blue", "both"), ("green", "both"), ("t4", "list"), ("new", "last")):
        found = store.search(("m", "x"), query=text, limit=9)
        assert found[0].key == key and found[0].score == pytest.approx(1.0, abs=1e-5)
        assert sorted(item.key for item in found) == ["both", "last", "list"]
    for text in ("grey", "old"):
        assert (store.search(("m", "x"), query=text)[0].score or 0.0) < 0.99


def test_what_is_not_indexed_has_no_score(store: BaseStore) -> None:
    store.put(("u", "x"), "a", {"text": "hidden"}, index=False)
    store.put(("u", "x"), "b", {"text": "seen"})
    found = store.search(("u", "x"), query="hidden")
    assert [item.key for item in found if item.score is not None] == ["b"]
    assert [item.key for item in store.search(("u", "x"), query="hidden", limit=1)] == ["b"]
    assert sorted(item.key for item in store.search(("u", "x"))) == ["a", "b"]


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "b"),
    ({"n": {"$eq": 2}}, "b"),
    ({"n": {"$ne": 2}}, "ac"),
    ({"n": {"$gt": 1}}, "bc"),
    ({"n": {"$gte": 2, "$lt": 3}}, "b"),
    ({"n": {"$lte": 1}}, "a"),
    ({"tag": "x", "n": {"$lt": 3}}, "a"),
    ({"tag": {"$eq": "y"}}, "b"),
    ({"tag": {"$ne": "y"}}, "ac"),
    ({"on": True}, "a"),
    ({"list": [1, 2]}, "c"),
    ({"missing": None}, "abc"),
    ({"n": 9}, ""),
]


def test_filters(store: BaseStore) -> None:
    for key, number, tag in (("a", 1, "x"), ("b", 2, "y"), ("c", 3, "x")):
        value = {"n": number, "tag": tag, "on": key == "a", "list": [1, 2] if key == "c" else [2, 1]}
        store.put(("f", "x", key), key, value)
    for wanted, keys in FILTERS:
        assert sorted(item.key for item in store.search(("f",), filter=wanted)) == list(keys), wanted
        assert sorted(item.key for item in store.search(("f", "x"), query="q", filter=wanted)) == list(keys), wanted
        assert len(store.search(("f",), filter=wanted, limit=1)) == min(1, len(keys)), wanted
    for query in (None, "q"):
        with pytest.raises(ValueError, match=r"\$in"):
            store.search(("f",), query=query, filter={"n": {"$in": [1]}})


def test_pages_join_to_the_whole(store: BaseStore) -> None:
    for number in range(7):
        store.put(("p", "x"), f"k{number}", {"n": number})
    whole = [item.key for item in store.search(("p",), limit=99)]
    pages = [item.key for at in range(0, 9, 2) for item in store.search(("p",), limit=2, offset=at)]
    assert pages == whole and len(whole) == 7
    assert store.search(("p",), limit=0) == [] == store.search(("p",), query="q", limit=0)


def test_list_namespaces(store: BaseStore) -> None:
    for place in (("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("b", "x"), ("z",)):
        store.put(place, "k", {})
        store.put(place, "l", {})
    assert store.list_namespaces() == [("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("b", "x"), ("z",)]
    assert store.list_namespaces(prefix=("a", "b")) == [("a", "b", "c"), ("a", "b", "d")]
    assert store.list_namespaces(prefix=("*", "x")) == [("a", "x", "c"), ("b", "x")]
    assert store.list_namespaces(suffix=("c",)) == [("a", "b", "c"), ("a", "x", "c")]
    assert store.list_namespaces(suffix=("*", "c")) == [("a", "b", "c"), ("a", "x", "c")]
    assert store.list_namespaces(prefix=("a",), suffix=("x", "*")) == [("a", "x", "c")]
    assert store.list_namespaces(max_depth=2) == [("a", "b"), ("a", "x"), ("b", "x"), ("z",)]
    assert store.list_namespaces(prefix=("a",), max_depth=1) == [("a",)]
    assert store.list_namespaces(limit=2, offset=1) == [("a", "b", "d"), ("a", "x", "c")]
    assert store.list_namespaces(max_depth=2, limit=1, offset=2) == [("b", "x")]
    assert store.list_namespaces(offset=5) == [] == store.list_namespaces(prefix=("nobody",))


def test_a_batch_reads_first_and_the_last_write_wins(store: BaseStore) -> None:
    store.put(("n", "x"), "k", {"v": 0})
    results = store.batch(
        [
            PutOp(("n", "x"), "k", {"v": 1}),
            GetOp(("n", "x"), "k"),
            PutOp(("n", "x"), "k", {"v": 2}),
            SearchOp(("n",), query="q"),
            SearchOp(("n",), filter={"v": 1}),
            ListNamespacesOp(),
            GetOp(("n", "y"), "gone"),
            PutOp(("n", "y"), "gone", {"v": 3}),
            PutOp(("n", "y"), "gone", None),
        ]
    )
    check_batch(results)
    after = store.get(("n", "x"), "k")
    assert after and after.value == {"v": 2} and store.get(("n", "y"), "gone") is None


def check_batch(results: list[Any]) -> None:
    assert [result for index, result in enumerate(results) if index not in (1, 3, 5)] == [None, None, [], *[None] * 3]
    assert results[1].value == {"v": 0} and [item.value for item in results[3]] == [{"v": 0}]
    assert results[5] == [("n", "x")]


async def test_async_answers_as_sync_does(store: BaseStore, kind: str) -> None:
    async with asynchronous(store, kind) as one:
        await one.aput(("a", "b", "u"), "k", {"text": "one"}, index=["text"])
        await one.aput(("a", "b", "v"), "k", {"text": "two"}, index=["text"])
        item = await one.aget(("a", "b", "u"), "k")
        assert item and item.value == {"text": "one"}
        found = await one.asearch(("a", "b"), query="two")
        assert [item.namespace[2] for item in found] == ["v", "u"]
        assert await one.alist_namespaces(max_depth=2) == [("a", "b")]
        await one.adelete(("a", "b", "u"), "k")
        assert await one.aget(("a", "b", "u"), "k") is None
        await one.aput(("n", "x"), "k", {"v": 0})
        puts = [PutOp(("n", "x"), "k", {"v": value}) for value in (1, 2)]
        results: list[Any] = await one.abatch([puts[0], GetOp(("n", "x"), "k"), puts[1], SearchOp(("n",), query="q")])
        assert results[1].value == {"v": 0} and [item.value for item in results[3]] == [{"v": 0}]
        assert [item.value for item in await one.asearch(("n",))] == [{"v": 2}]


def test_any_unicode_is_kept(store: BaseStore) -> None:
    odd = 'Ünï 日本 \U0001f3ae "quoted" \\ / [*] % \n\t\u2028 \ufeff'
    store.put((odd, odd, odd), f"{odd}\x00", {odd: [odd, {"": odd}], "nul": "\x00"})
    store.put((odd, odd, odd), "", {"text": "an empty key"})
    item = store.get((odd, odd, odd), f"{odd}\x00")
    assert item and item.value == {odd: [odd, {"": odd}], "nul": "\x00"} and item.key == f"{odd}\x00"
    assert len(store.search((odd, odd), query=odd)) == 2
    assert store.list_namespaces() == [(odd, odd, odd)] == store.list_namespaces(suffix=("*", odd))


def test_colons_stars_and_blanks_are_labels_like_others(store: BaseStore) -> None:
    places = [("people:tiny", "a:b"), ("people:tiny", "a"), ("*", "%"), (" ", "..".replace(".", "-"))]
    for place in places:
        store.put(place, "k:1", {"at": list(place)})
    for place in places:
        item = store.get(place, "k:1")
        assert item and item.value == {"at": list(place)}
        assert [one.namespace for one in store.search(place)] == [place]
    assert store.list_namespaces(prefix=("people:tiny",)) == [("people:tiny", "a"), ("people:tiny", "a:b")]


def test_bad_namespaces_are_refused(store: BaseStore) -> None:
    bad: list[Any] = [(), ("",), ("a.b",), ("a", "\x00"), ("langgraph",), ("a", 1)]
    for namespace in bad:
        with pytest.raises(InvalidNamespaceError):
            store.put(namespace, "k", {})
    assert store.search(()) == []


class TestWhereLangGraphsStoresDiffer:
    """Differences among LangGraph's stores, and the one that `ChromaStore` follows. `kind` names the store."""

    def test_created_at_of_a_replaced_record(
        self, store: BaseStore, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Both of LangGraph's stores here reset it; PostgresStore and the documentation of `Item` keep it. `ChromaStore`
        # keeps it: otherwise the creation time is lost, and `updated_at` adds nothing. SqliteStore is not checked,
        # since its times have a resolution of a second.
        clock = Clock(monkeypatch)
        store.put(("a", "b"), "k", {"n": 1})
        first = store.get(("a", "b"), "k")
        clock.pass_for(store, 1)
        store.put(("a", "b"), "k", {"n": 2})
        second = store.get(("a", "b"), "k")
        assert first and second
        if kind in OURS:
            assert second.created_at == first.created_at and second.updated_at > first.updated_at
        elif kind == "InMemoryStore":
            assert second.created_at > first.created_at

    def test_order_of_a_listing(self, store: BaseStore, kind: str) -> None:
        # InMemoryStore lists namespaces and keys in order of insertion, SqliteStore the latest change first, by the
        # second, and PostgresStore likewise, by the microsecond. `ChromaStore` sorts by namespace and key: pages stay
        # complete while records are changed between them, and a study gives the same bytes for every order of writes.
        for place, key in ((("b",), "2"), (("b",), "1"), (("a", "z"), "9"), (("b",), "3")):
            store.put(place, key, {})
        if kind in OURS:
            assert [item.key for item in store.search(())] == ["9", "1", "2", "3"]
            store.put(("b",), "1", {"n": 1})
            assert [item.key for item in store.search((), limit=2, offset=1)] == ["1", "2"]
        elif kind == "InMemoryStore":
            assert [item.key for item in store.search(())] == ["2", "1", "3", "9"]

    def test_unindexed_records_under_a_query(self, store: BaseStore, kind: str) -> None:
        # InMemoryStore appends them, SqliteStore omits them. `ChromaStore` follows InMemoryStore: a record put with
        # `index=False` is still below the prefix, and a limit above the number of indexed records includes it.
        store.put(("u", "x"), "a", {"text": "hidden"}, index=False)
        store.put(("u", "x"), "b", {"text": "seen"})
        store.put(("u", "x"), "c", {"other": 1}, index=["text"])
        found = [item.key for item in store.search(("u", "x"), query="hidden")]
        assert found == (["b"] if kind == "SqliteStore" else ["b", "a", "c"])

    def test_pages_under_a_query(self, store: BaseStore, kind: str) -> None:
        # SqliteStore reads at most twice `limit` rows, whatever the offset, so pages after the second are empty.
        # `ChromaStore` follows InMemoryStore: the pages together are the whole result.
        for number in range(7):
            store.put(("p", "x"), f"k{number}", {"n": number})
        whole = [item.key for item in store.search(("p",), query="q", limit=99)]
        pages = [store.search(("p",), query="q", limit=2, offset=at) for at in range(0, 9, 2)]
        joined = [item.key for page in pages for item in page]
        assert joined == (whole[:4] if kind == "SqliteStore" else whole) and len(whole) == 7

    def test_many_vectors_of_one_record(self, store: BaseStore, kind: str) -> None:
        # For the same reason, the vectors of one record push out other records in SqliteStore.
        store.put(("m", "x"), "list", {"many": [f"t{number}" for number in range(30)]}, index=["many[*]"])
        store.put(("m", "x"), "one", {"text": "far away"}, index=["text"])
        found = [item.key for item in store.search(("m", "x"), query="t0", limit=2)]
        assert found[0] == "list" and (kind == "SqliteStore" or found == ["list", "one"])

    def test_vectors_of_a_replaced_record(self, store: BaseStore, kind: str) -> None:
        # Both of LangGraph's stores keep the vectors that the new value does not overwrite, so a search for a removed
        # text finds the record. PostgresStore deletes them only with the record. `ChromaStore` deletes all old vectors:
        # a record is found only by its current texts.
        store.put(("a", "b"), "k", {"x": "red", "y": "blue"}, index=["x", "y"])
        store.put(("a", "b"), "k", {"x": "green"}, index=["x"])
        blue = [item.score == pytest.approx(1.0, abs=1e-5) for item in store.search(("a", "b"), query="blue")]
        assert blue == [kind in THEIRS]
        assert store.search(("a", "b"), query="green")[0].score == pytest.approx(1.0, abs=1e-5)

    def test_comparing_a_field_that_is_missing_or_no_number(self, store: BaseStore, kind: str) -> None:
        # InMemoryStore raises for the whole search, SqliteStore skips the record. `ChromaStore` follows SqliteStore:
        # one invalid record must not hide all others.
        store.put(("a", "b"), "with", {"n": 2})
        store.put(("a", "b"), "without", {})
        if kind == "InMemoryStore":
            with pytest.raises(TypeError):
                store.search(("a",), filter={"n": {"$gt": 1}})
        else:
            assert [item.key for item in store.search(("a",), filter={"n": {"$gt": 1}})] == ["with"]

    def test_unequal_to_a_field_that_is_missing(self, store: BaseStore, kind: str) -> None:
        # In SQL, nothing is unequal to a missing field. `ChromaStore` follows InMemoryStore: `$ne` holds if `$eq` does
        # not.
        store.put(("a", "b"), "without", {})
        found = [item.key for item in store.search(("a",), filter={"n": {"$ne": 1}})]
        assert found == ([] if kind == "SqliteStore" else ["without"])

    def test_operators_inside_a_nested_condition(self, store: BaseStore, kind: str) -> None:
        # SqliteStore reads every dict as operators, and spells nested fields "deep.of". `ChromaStore` follows
        # InMemoryStore, whose filters have the shape of the values.
        store.put(("a", "b"), "k", {"deep": {"of": 11, "too": [1]}})
        for wanted, found in (({"of": {"$gt": 10}, "too": [1]}, 1), ({"of": {"$gt": 11}}, 0)):
            if kind == "SqliteStore":
                with pytest.raises(ValueError, match="operator: of"):
                    store.search(("a",), filter={"deep": wanted})
            else:
                assert len(store.search(("a",), filter={"deep": wanted})) == found

    def test_a_bound_that_is_a_text(self, store: BaseStore, kind: str) -> None:
        # SqliteStore compares texts by their letters, InMemoryStore raises. `ChromaStore` follows InMemoryStore, since
        # "10" < "9" would be misleading.
        store.put(("a", "b"), "k", {"day": "2026-02-01"})
        if kind == "SqliteStore":
            assert len(store.search(("a",), filter={"day": {"$gt": "2026-01-01"}})) == 1
        else:
            with pytest.raises(ValueError, match="2026"):
                store.search(("a",), filter={"day": {"$gt": "2026-01-01"}})

    def test_namespaces_that_have_become_empty(self, store: BaseStore, kind: str) -> None:
        # InMemoryStore still lists them, even one that was only read. `ChromaStore` follows SqliteStore: an empty
        # namespace does not exist.
        store.put(("a", "b", "c"), "k", {})
        store.delete(("a", "b", "c"), "k")
        assert store.get(("never", "written"), "k") is None
        left = [("a", "b", "c"), ("never", "written")] if kind == "InMemoryStore" else []
        assert store.list_namespaces() == left

    def test_order_of_namespaces(self, store: BaseStore, kind: str) -> None:
        # SqliteStore sorts them as texts with dots, where "-" comes before "."; InMemoryStore sorts label by label.
        # `ChromaStore` follows InMemoryStore: the namespaces below one prefix stay together.
        for place in (("a-b",), ("a", "b"), ("a",)):
            store.put(place, "k", {})
        by_label = [("a",), ("a", "b"), ("a-b",)]
        assert store.list_namespaces() == ([("a",), ("a-b",), ("a", "b")] if kind == "SqliteStore" else by_label)

    def test_what_is_handed_out(self, store: BaseStore, kind: str) -> None:
        # InMemoryStore returns its stored object. `ChromaStore` follows SqliteStore: callers get a copy.
        store.put(("a", "b"), "k", {"list": [1]})
        for item in (store.get(("a", "b"), "k"), *store.search(("a",))):
            assert item
            item.value["list"].append(2)
        again = store.get(("a", "b"), "k")
        assert again and again.value == {"list": [1, 2, 2] if kind == "InMemoryStore" else [1]}

    def test_bad_namespaces_straight_in_a_batch(self, store: BaseStore, kind: str) -> None:
        # InMemoryStore accepts them. `ChromaStore` follows SqliteStore, which checks each operation, as the base class
        # advises: "a.b" must not come to mean ("a", "b").
        if kind != "InMemoryStore":
            for namespace in (("a.b",), ("",), ("a", "\x00")):
                for op in (PutOp(namespace, "k", {}), GetOp(namespace, "k"), SearchOp(namespace)):
                    with pytest.raises(InvalidNamespaceError):
                        store.batch([op])
        assert store.search(()) == []

    def test_a_time_to_live(self, store: BaseStore, kind: str) -> None:
        # InMemoryStore rejects it. `ChromaStore` follows SqliteStore, which accepts it even without a setting.
        assert store.supports_ttl is (kind != "InMemoryStore")
        if kind == "InMemoryStore":
            with pytest.raises(NotImplementedError):
                store.put(("a",), "k", {}, ttl=1)
        else:
            store.put(("a",), "k", {}, ttl=1)
            assert store.get(("a",), "k")
