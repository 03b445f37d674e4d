"""`ChromaStore` answers as LangGraph's own store does, keeps what it is told, and refuses what it cannot keep."""

import asyncio
import hashlib
import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings
from langgraph.store.base import BaseStore, GetOp, InvalidNamespaceError, ListNamespacesOp, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

import memory.store
from memory.backend import Backend
from memory.errors import BadRecordError, BadStoreError, StoreError
from memory.ranking import exact_scores
from memory.rows import Kept
from memory.store import ChromaStore, create_store

DIMENSION = 16


class FakeEmbeddings(Embeddings):
    """A vector for each text, drawn by its hash: the same in every process."""

    def __init__(self, name: str = "fake", dimension: int = DIMENSION) -> None:
        self.name = name
        self.dimension = dimension

    def embed_query(self, text: str) -> list[float]:
        seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")
        drawn: list[float] = np.random.default_rng(seed).standard_normal(self.dimension).tolist()
        return drawn

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def chroma(where: str | Path | None = None, **options: Any) -> ChromaStore:
    return ChromaStore(where, embeddings=FakeEmbeddings(), **options)


class StoreContract:
    """What every store does; a class that inherits it has a fixture `store`, empty and indexing `$`."""

    def test_put_get_replace_and_delete(self, store: BaseStore) -> None:
        store.put(("a", "b"), "k", {"n": 1})
        first = store.get(("a", "b"), "k")
        store.put(("a", "b"), "k", {"n": 2, "deep": {"list": [1, None, True, 2.5]}})
        second = store.get(("a", "b"), "k")
        assert first and first.value == {"n": 1} and first.namespace == ("a", "b") and first.key == "k"
        assert second and second.value == {"n": 2, "deep": {"list": [1, None, True, 2.5]}}
        assert second.updated_at > first.updated_at
        store.delete(("a", "b"), "k")
        store.delete(("a", "b"), "k")
        assert store.get(("a", "b"), "k") is None
        assert store.search(("a",)) == []

    @pytest.mark.parametrize("prefix", [(), ("a",), ("a", "b"), ("a", "b", "c")])
    def test_search_finds_what_is_below_a_prefix_of_any_depth(self, store: BaseStore, prefix: tuple[str, ...]) -> None:
        places = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d"), ("a", "x"), ("ab",)]
        for place in places:
            store.put(place, "k", {"at": list(place)})
        below = sorted(place for place in places if place[: len(prefix)] == prefix)
        assert sorted(found.namespace for found in store.search(prefix, limit=99)) == below
        assert sorted(found.namespace for found in store.search(prefix, query="q", limit=99)) == below

    def test_search_scores_by_cosine_best_first(self, store: BaseStore) -> None:
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

    def test_the_best_of_several_vectors_counts(self, store: BaseStore) -> None:
        store.put(("m", "x"), "both", {"a": "red", "b": "blue"}, index=["a", "b"])
        store.put(("m", "x"), "list", {"many": [f"t{number}" for number in range(30)]}, index=["many[*]"])
        for text, key in (("red", "both"), ("blue", "both"), ("t0", "list"), ("t29", "list")):
            found = store.search(("m", "x"), query=text)
            assert [item.key for item in found[:1]] == [key] and len(found) == 2
            assert found[0].score == pytest.approx(1.0, abs=1e-5)

    def test_unindexed_records_come_last_without_a_score(self, store: BaseStore) -> None:
        store.put(("u", "x"), "a", {"text": "hidden"}, index=False)
        store.put(("u", "x"), "b", {"text": "seen"})
        store.put(("u", "x"), "c", {"other": 1}, index=["text"])
        found = store.search(("u", "x"), query="hidden")
        assert [item.key for item in found] == ["b", "a", "c"]
        assert found[0].score is not None and found[1].score is None and found[2].score is None
        assert [item.key for item in store.search(("u", "x"), query="hidden", limit=1)] == ["b"]

    @pytest.mark.parametrize(
        ("wanted", "keys"),
        [
            ({"n": 2}, "b"),
            ({"n": {"$eq": 2}}, "b"),
            ({"n": {"$ne": 2}}, "ac"),
            ({"n": {"$gt": 1}}, "bc"),
            ({"n": {"$gte": 2, "$lt": 3}}, "b"),
            ({"n": {"$lte": 1}}, "a"),
            ({"tag": "x", "n": {"$lt": 3}}, "a"),
            ({"deep": {"of": {"$gt": 10}}}, "c"),
            ({"deep": {"list": [1, 2]}}, "c"),
            ({"missing": None}, "abc"),
            ({"n": 9}, ""),
        ],
    )
    def test_filters(self, store: BaseStore, wanted: dict[str, Any], keys: str) -> None:
        for key, number, tag in (("a", 1, "x"), ("b", 2, "y"), ("c", 3, "x")):
            deep = {"of": 11, "list": [1, 2]} if key == "c" else {"of": 1, "list": [2, 1]}
            store.put(("f", "x", key), key, {"n": number, "tag": tag, "deep": deep})
        assert sorted(item.key for item in store.search(("f",), filter=wanted)) == list(keys)
        assert sorted(item.key for item in store.search(("f", "x"), query="q", filter=wanted)) == list(keys)

    def test_pages_join_to_the_whole(self, store: BaseStore) -> None:
        for number in range(7):
            store.put(("p", "x"), f"k{number}", {"n": number})
        for query in (None, "q"):
            whole = [item.key for item in store.search(("p",), query=query, limit=99)]
            pages = [
                item.key for at in range(0, 9, 2) for item in store.search(("p",), query=query, limit=2, offset=at)
            ]
            assert pages == whole and len(whole) == 7
        assert store.search(("p",), limit=0) == []

    def test_list_namespaces(self, store: BaseStore) -> None:
        for place in (("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("b", "x"), ("z",)):
            store.put(place, "k", {})
        assert store.list_namespaces() == [("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("b", "x"), ("z",)]
        assert store.list_namespaces(prefix=("a", "b")) == [("a", "b", "c"), ("a", "b", "d")]
        assert store.list_namespaces(prefix=("*", "x")) == [("a", "x", "c"), ("b", "x")]
        assert store.list_namespaces(suffix=("c",)) == [("a", "b", "c"), ("a", "x", "c")]
        assert store.list_namespaces(prefix=("a",), suffix=("*", "c")) == [("a", "b", "c"), ("a", "x", "c")]
        assert store.list_namespaces(max_depth=2) == [("a", "b"), ("a", "x"), ("b", "x"), ("z",)]
        assert store.list_namespaces(limit=2, offset=1) == [("a", "b", "d"), ("a", "x", "c")]

    def test_a_batch_reads_first_and_the_last_write_wins(self, store: BaseStore) -> None:
        store.put(("n", "x"), "k", {"v": 0})
        results = store.batch(
            [
                PutOp(("n", "x"), "k", {"v": 1}),
                GetOp(("n", "x"), "k"),
                PutOp(("n", "x"), "k", {"v": 2}),
                SearchOp(("n",), query="q"),
                ListNamespacesOp(),
                PutOp(("n", "y"), "gone", {"v": 3}),
                PutOp(("n", "y"), "gone", None),
            ]
        )
        assert results[0] is None and results[2] is None and results[5] is None
        assert results[1].value == {"v": 0} and [item.value for item in results[3]] == [{"v": 0}]  # type: ignore[union-attr]
        after = store.get(("n", "x"), "k")
        assert after and after.value == {"v": 2} and store.get(("n", "y"), "gone") is None

    def test_any_unicode_is_kept(self, store: BaseStore) -> None:
        odd = 'Ünï 日本 \U0001f3ae "quoted" \\ / \n\t\u2028 \ufeff'
        store.put((odd, odd, odd), f"{odd}\x00", {odd: [odd, {"": odd}], "nul": "\x00"})
        store.put((odd, odd, odd), "", {"text": "an empty key"})
        item = store.get((odd, odd, odd), f"{odd}\x00")
        assert item and item.value == {odd: [odd, {"": odd}], "nul": "\x00"} and item.key == f"{odd}\x00"
        assert len(store.search((odd, odd), query=odd)) == 2
        assert store.list_namespaces() == [(odd, odd, odd)]

    @pytest.mark.parametrize("namespace", [(), ("",), ("a.b",), ("a", "\x00"), ("langgraph",)])
    def test_bad_namespaces_are_refused(self, store: BaseStore, namespace: tuple[str, ...]) -> None:
        with pytest.raises(InvalidNamespaceError):
            store.put(namespace, "k", {})

    async def test_async_answers_as_sync_does(self, store: BaseStore) -> None:
        await store.aput(("a", "b", "u"), "k", {"text": "one"}, index=["text"])
        await store.aput(("a", "b", "v"), "k", {"text": "two"}, index=["text"])
        item = await store.aget(("a", "b", "u"), "k")
        assert item and item.value == {"text": "one"}
        found = await store.asearch(("a", "b"), query="two")
        assert [one.namespace[2] for one in found] == ["v", "u"]
        await store.adelete(("a", "b", "u"), "k")
        assert await store.aget(("a", "b", "u"), "k") is None
        # The sync methods work while a loop runs, too.
        assert [one.value for one in store.search(("a",))] == [{"text": "two"}]


class ChromaContract(StoreContract):
    """What `ChromaStore` does beyond LangGraph's `InMemoryStore`."""

    def test_created_at_stays_when_a_record_is_replaced(self, store: ChromaStore) -> None:
        store.put(("a", "b"), "k", {"n": 1})
        first = store.get(("a", "b"), "k")
        store.put(("a", "b"), "k", {"n": 2})
        second = store.get(("a", "b"), "k")
        assert first and second and second.created_at == first.created_at and second.updated_at > first.updated_at

    def test_what_is_handed_out_is_a_copy(self, store: ChromaStore) -> None:
        store.put(("a", "b"), "k", {"list": [1]})
        item = store.get(("a", "b"), "k")
        assert item
        item.value["list"].append(2)
        again = store.get(("a", "b"), "k")
        assert again and again.value == {"list": [1]}

    def test_former_vectors_are_gone_after_a_replacement(self, store: ChromaStore) -> None:
        store.put(("a", "b"), "k", {"x": "red", "y": "blue"}, index=["x", "y"])
        store.put(("a", "b"), "k", {"x": "green"}, index=["x"])
        assert [item.score == 1.0 for item in store.search(("a", "b"), query="blue")] == [False]
        assert [item.score for item in store.search(("a", "b"), query="green")] == [1.0]
        store.put(("a", "b"), "k", {"x": "green"}, index=False)
        assert [item.score for item in store.search(("a", "b"), query="green")] == [None]

    def test_records_are_handed_out_and_taken_back_as_they_are_kept(self, store: ChromaStore) -> None:
        store.put(("a", "b", "v"), "two", {"x": "red", "y": "blue"}, index=["x", "y"])
        store.put(("a", "b", "u"), "none", {"x": "green"}, index=False)
        store.put(("a", "c"), "one", {"x": "green"})
        records = store.records()
        assert [one.key for one in records] == ["none", "two", "one"] and store.records(("a", "c")) == records[2:]
        vectors = store.vectors(records)
        assert [one.shape for one in vectors] == [(0, DIMENSION), (2, DIMENSION), (1, DIMENSION)]
        kept = [
            Kept(PutOp(one.namespace, one.key, one.value), (one.created_at, one.updated_at), own)
            for one, own in zip(records, vectors, strict=True)
        ]
        store.batch([PutOp(one.namespace, one.key, None) for one in records])
        assert store.records() == [] and [len(one) for one in store.vectors(records)] == [0, 0, 0]
        store.restore(kept)
        again = store.records()
        assert [one.item() for one in again] == [one.item() for one in records]
        assert [one.tobytes() for one in store.vectors(again)] == [one.tobytes() for one in vectors]
        assert store.search(("a", "b"), query="blue")[0].score == 1.0

    def test_empty_namespaces_are_not_listed(self, store: ChromaStore) -> None:
        store.put(("a", "b", "c"), "k", {})
        store.delete(("a", "b", "c"), "k")
        assert store.get(("never", "written"), "k") is None
        assert store.list_namespaces() == []

    def test_ties_come_by_namespace_and_key(self, store: ChromaStore) -> None:
        places = [(user, key) for user in ("u2", "u1", "u3") for key in ("b", "a")]
        for user, key in places:
            store.put(("t", "x", user), key, {"text": "same", "of": user}, index=["text"])
        found = store.search(("t", "x"), query="same", limit=4)
        assert [(item.namespace[2], item.key) for item in found] == sorted(places)[:4]

    def test_lone_surrogates_are_kept(self, store: ChromaStore) -> None:
        store.put(("s", "\ud800"), "\udfff", {"text": "\ud800"})
        found = store.search(("s",), query="\ud800")
        assert [(item.namespace, item.key, item.value) for item in found] == [
            (("s", "\ud800"), "\udfff", {"text": "\ud800"})
        ]

    def test_what_is_no_json_is_refused_and_nothing_written(self, store: ChromaStore) -> None:
        with pytest.raises(BadRecordError, match="JSON types only"):
            store.batch([PutOp(("a", "b"), "good", {}), PutOp(("a", "b"), "bad", {"x": object()}, False)])
        assert store.search(()) == []

    def test_filters_pass_over_records_without_the_field(self, store: ChromaStore) -> None:
        store.put(("a", "b"), "with", {"n": 2})
        store.put(("a", "b"), "without", {})
        assert [item.key for item in store.search(("a",), filter={"n": {"$gt": 1}})] == ["with"]

    async def test_writes_from_many_tasks_all_arrive(self, store: ChromaStore) -> None:
        async def write(task: int) -> None:
            await store.abatch(
                [PutOp(("c", "x", f"u{task}"), str(n), {"a": f"{task}", "b": f"{n}"}, ["a", "b"]) for n in range(15)]
            )
            # All tasks write this one: in the end it is whole, whoever came last.
            await store.aput(("c", "x", "all"), "shared", {"a": f"red {task}", "b": f"blue {task}"}, ["a", "b"])

        await asyncio.gather(*(write(task) for task in range(4)))
        assert len(await store.asearch(("c", "x"), limit=99)) == 61
        shared = await store.aget(("c", "x", "all"), "shared")
        assert shared
        for text in shared.value.values():
            assert (await store.asearch(("c", "x", "all"), query=text))[0].score == 1.0


class TestInMemoryStore(StoreContract):
    """The contract is LangGraph's: its own store keeps it."""

    @pytest.fixture
    def store(self) -> BaseStore:
        return InMemoryStore(index={"dims": DIMENSION, "embed": FakeEmbeddings()})

    def test_unindexed_records_come_last_without_a_score(self, store: BaseStore) -> None:
        super().test_unindexed_records_come_last_without_a_score(store)


class TestChromaInMemory(ChromaContract):
    @pytest.fixture
    def store(self) -> Iterator[ChromaStore]:
        with chroma() as store:
            yield store


class TestChromaInAFolder(ChromaContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ChromaStore]:
        with chroma(tmp_path / "memory") as store:
            yield store


class TestChromaAboveTheExactLimit(ChromaContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ChromaStore]:
        with chroma(tmp_path / "memory", exact_limit=0) as store:
            yield store


class Script:
    """A program in a process of its own that has this file's fakes."""

    def __init__(self, body: str, *args: str) -> None:
        head = "import sys\nfrom tests.unit.test_memory_store import *\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", head + textwrap.dedent(body), *args],
            # Its own, kept open: one at its end, inherited, would let a script that waits for input finish.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def listing(store: BaseStore) -> list[tuple[Any, ...]]:
    return [
        (item.namespace, item.key, item.value, item.created_at, item.updated_at) for item in store.search((), limit=99)
    ]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "memory"


class TestPersistence:
    def test_records_and_scores_are_the_same_after_reopening(self, folder: Path) -> None:
        with chroma(folder) as store:
            for number in range(30):
                fields = ["a", "b"] if number % 3 else False
                store.put(("k", "w", f"u{number % 4}"), str(number), {"a": f"x{number}", "b": f"y{number}"}, fields)  # type: ignore[arg-type]
            store.delete(("k", "w", "u1"), "5")
            before = listing(store), store.search(("k", "w"), query="y7", limit=50)
        with chroma(folder) as store:
            assert (listing(store), store.search(("k", "w"), query="y7", limit=50)) == before

    def test_one_process_can_close_and_open_again_and_again(self, folder: Path) -> None:
        for number in range(3):
            with chroma(folder) as store:
                store.put(("a", "b"), str(number), {})
                assert len(store.search(("a",))) == number + 1

    def test_a_closed_store_says_so(self, folder: Path) -> None:
        store = chroma(folder)
        store.close()
        store.close()
        with pytest.raises(StoreError, match="is closed: open a new ChromaStore"):
            store.get(("a",), "k")

    async def test_stores_in_memory_share_nothing(self) -> None:
        async with chroma() as one, chroma() as other:
            await one.aput(("a", "b"), "k", {})
            assert await other.asearch(()) == []
            await one.aclose()
            assert await other.asearch(()) == []

    def test_a_failed_write_leaves_the_former_record_whole(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with chroma(folder) as store:
            store.put(("a", "b"), "k", {"x": "old one", "y": "old two"}, index=["x", "y"])

            def fail(*_: object) -> None:
                raise OSError("disk full")

            with (
                monkeypatch.context() as patch,
                pytest.raises(StoreError, match=r"failed \(disk full\): if the disk has room"),
            ):
                patch.setattr(Backend, "_put_heads", fail)
                store.put(("a", "b"), "k", {"x": "new one", "y": "new two"}, index=["x", "y"])
            for text in ("old one", "old two"):
                assert store.search(("a", "b"), query=text)[0].score == 1.0
            assert store.search(("a", "b"), query="new two")[0].score != 1.0
        with chroma(folder) as store:
            assert store.search(("a", "b"), query="old two")[0].score == 1.0
            assert store.search(("a", "b"), query="new two")[0].score != 1.0

    def test_a_killed_writer_leaves_whole_records_only(self, folder: Path) -> None:
        body = """
            store = chroma(sys.argv[1])
            for number in range(10_000):
                value = {"many": [f"{number}/{part}" for part in range(30)], "n": number}
                store.put(("k", "w"), "same", value, index=["many[*]"])
                store.put(("k", "w"), str(number), value, index=["many[*]"])
                print(number, flush=True)
        """
        with Script(body, str(folder)) as writer:
            done = [writer.line() for _ in range(5)][-1]
            os.kill(writer.process.pid, signal.SIGKILL)
            writer.process.wait()
        with chroma(folder) as store:
            records = store.search(("k", "w"), limit=1000)
            assert int(done) + 2 <= len(records)
            for record in records:
                for text in (record.value["many"][0], record.value["many"][29]):
                    found = store.search(("k", "w"), query=text, limit=1000)
                    assert record.key in {item.key for item in found if item.score == 1.0}


class TestExactness:
    def texts(self) -> list[str]:
        # Many records of equal text: ties at the border of what is wanted.
        return [f"text {number % 40}" for number in range(400)]

    def fill(self, store: BaseStore, order: list[int]) -> None:
        texts = self.texts()
        store.batch([PutOp(("e", "w", f"u{at % 7}"), f"k{at:03d}", {"t": texts[at]}, ["t"]) for at in order])

    def answers(self, store: BaseStore) -> list[list[tuple[str, float | None]]]:
        queries = [f"text {number}" for number in range(5)] + ["something else"]
        prefixes = [("e", "w"), ("e", "w", "u3")]
        return [
            [(item.key, item.score) for item in store.search(prefix, query=query, limit=15)]
            for query in queries
            for prefix in prefixes
        ]

    def expected(self) -> list[list[tuple[str, float | None]]]:
        embed = FakeEmbeddings().embed_query
        answers: list[list[tuple[str, float | None]]] = []
        for query in [f"text {number}" for number in range(5)] + ["something else"]:
            for user in (None, 3):
                q = np.array(embed(query)) / np.linalg.norm(embed(query))
                scored = [
                    (
                        -round(float(np.array(embed(text)) @ q / np.linalg.norm(embed(text))), 6),
                        f"u{at % 7}",
                        f"k{at:03d}",
                    )
                    for at, text in enumerate(self.texts())
                    if user is None or at % 7 == user
                ]
                answers.append([(key, -score) for score, _, key in sorted(scored)[:15]])
        return answers

    @pytest.mark.parametrize("limit", [20_000, 100], ids=["mirror", "index"])
    def test_the_same_answer_in_any_order_and_process(self, folder: Path, limit: int) -> None:
        orders = [list(range(400)), list(range(399, -1, -1)), np.random.default_rng(0).permutation(400).tolist()]
        given_answers = []
        for number, order in enumerate(orders):
            with chroma(folder / str(number), exact_limit=limit) as store:
                self.fill(store, order)
                given_answers.append(self.answers(store))
        body = """
            with chroma(sys.argv[1], exact_limit=int(sys.argv[2])) as store:
                print(json.dumps(TestExactness().answers(store)))
        """
        with Script(body, str(folder / "2"), str(limit)) as other:
            given_answers.append([[tuple(found) for found in answer] for answer in json.loads(other.line())])
        assert given_answers[1:] == given_answers[:1] * 3
        for answer, expected in zip(given_answers[0], self.expected(), strict=True):
            assert [key for key, _ in answer] == [key for key, _ in expected]
            assert [score for _, score in answer] == pytest.approx([score for _, score in expected], abs=2e-6)

    def test_scores_do_not_hang_on_the_place_in_the_matrix(self) -> None:
        rng = np.random.default_rng(1)
        vectors = rng.standard_normal((4999, 384)).astype(np.float32)
        query = rng.standard_normal(384).astype(np.float32)
        order = rng.permutation(len(vectors))
        scores = np.array(exact_scores(vectors, query))
        assert (np.array(exact_scores(vectors[order], query)) == scores[order]).all()
        assert [exact_scores(vectors[at : at + 1], query)[0] for at in range(20)] == scores[:20].tolist()

    def test_crossing_the_limit_both_ways_changes_no_answer(self, folder: Path) -> None:
        with chroma(folder, exact_limit=10) as store:
            for number in range(15):
                store.put(("e", "w"), f"{number:02d}", {"t": f"{number % 5}"}, index=["t"])
                wanted = [f"{at:02d}" for at in range(number + 1) if at % 5 == 0]
                assert [item.key for item in store.search(("e", "w"), query="0", limit=len(wanted))] == wanted
            for number in range(14, 2, -1):
                store.delete(("e", "w"), f"{number:02d}")
                assert store.search(("e", "w"), query="0", limit=1)[0].key == "00"


KEYS = st.sampled_from(["k1", "k2", "k3"])
PLACES = st.sampled_from([("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "d"), ("x", "b")])
VALUES = st.fixed_dictionaries({"t": st.sampled_from(["red", "green", "blue", ""]), "n": st.integers(0, 3)})
INDEXES: st.SearchStrategy[Any] = st.sampled_from([None, False, ["t"]])
STEPS = st.one_of(
    st.tuples(st.just("put"), PLACES, KEYS, VALUES, INDEXES),
    st.tuples(st.just("delete"), PLACES, KEYS),
    st.tuples(st.just("reopen")),
)


def compare(store: BaseStore, model: BaseStore) -> None:
    """Both answer alike; the model forgets neither empty namespaces nor does it order ties."""
    for prefix in ((), ("a",), ("a", "b"), ("a", "b", "c"), ("x",)):
        for filter_ in (None, {"n": {"$gte": 2}}):
            ours = store.search(prefix, filter=filter_, limit=50)
            theirs = model.search(prefix, filter=filter_, limit=50)
            key: Callable[[Any], Any] = lambda item: (item.namespace, item.key)  # noqa: E731
            assert [(key(item), item.value) for item in ours] == [(key(i), i.value) for i in sorted(theirs, key=key)]
            for limit in (2, 50):
                ours = store.search(prefix, query="red", filter=filter_, limit=limit)
                theirs = model.search(prefix, query="red", filter=filter_, limit=limit)
                scores = [item.score for item in ours]
                assert [score is None for score in scores] == [item.score is None for item in theirs]
                known = [score for score in scores if score is not None]
                assert known == pytest.approx([i.score for i in theirs if i.score is not None], abs=1e-5)
    held = {item.namespace for item in model.search((), limit=50)}
    assert store.list_namespaces() == [place for place in model.list_namespaces() if place in held]


@pytest.mark.parametrize("limit", [20_000, 2], ids=["mirror", "index"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=12))
def test_any_sequence_of_operations_ends_as_in_langgraphs_store(limit: int, steps: list[Any]) -> None:
    model = InMemoryStore(index={"dims": DIMENSION, "embed": FakeEmbeddings()})
    with tempfile.TemporaryDirectory() as folder:
        store = chroma(folder, exact_limit=limit)
        try:
            for step in steps:
                if step[0] == "put":
                    _, place, key, value, index = step
                    store.put(place, key, value, index)
                    # The model keeps the vectors of a record that is replaced.
                    model.delete(place, key)
                    model.put(place, key, value, index)
                elif step[0] == "delete":
                    store.delete(*step[1:])
                    model.delete(*step[1:])
                else:
                    store.close()
                    store = chroma(folder, exact_limit=limit)
            compare(store, model)
        finally:
            store.close()


@given(
    value=st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)),
    key=st.text(),
    label=st.text(min_size=1).filter(lambda text: "." not in text and "\x00" not in text),
)
@settings(max_examples=25, deadline=None)
def test_any_json_comes_back_as_it_was(value: dict[str, Any], key: str, label: str) -> None:
    with chroma() as store:
        store.put(("u", label), key, value)
        assert [(item.namespace, item.key, item.value) for item in store.search(())] == [(("u", label), key, value)]


class TestRefusals:
    def test_a_second_store_on_one_folder_is_told_of_the_server(self, folder: Path) -> None:
        with chroma(folder), pytest.raises(BadStoreError, match=r"chroma run --path .*BILLP_CHROMA_URL") as caught:
            chroma(folder)
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)

    def test_a_second_process_is_refused_until_the_first_is_killed(self, folder: Path) -> None:
        body = """
            store = chroma(sys.argv[1])
            store.put(("a", "b"), "k", {"n": 1})
            print("open", flush=True)
            sys.stdin.read()
        """
        with Script(body, str(folder)) as holder:
            assert holder.line() == "open"
            with pytest.raises(BadStoreError, match="in use by another process"):
                chroma(folder)
            assert holder.process.poll() is None
            os.kill(holder.process.pid, signal.SIGKILL)
            holder.process.wait()
            with chroma(folder) as store:
                assert store.search(())[0].value == {"n": 1}

    @pytest.mark.parametrize(("name", "dimension"), [("another", DIMENSION), ("fake", 8)])
    def test_another_embedding_is_refused(self, folder: Path, name: str, dimension: int) -> None:
        chroma(folder).close()
        with pytest.raises(BadStoreError, match=rf"embedding fake \(16 dimensions\), not with {name} \({dimension}\)"):
            ChromaStore(folder, embeddings=FakeEmbeddings(name, dimension))
        chroma(folder).close()

    def test_an_embedding_that_does_not_keep_its_word_is_refused(self) -> None:
        class Liar(FakeEmbeddings):
            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                return [[float("nan")] * DIMENSION for _ in texts]

        with ChromaStore(embeddings=Liar()) as store, pytest.raises(BadRecordError, match="16 finite numbers"):
            store.put(("a", "b"), "k", {})

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        with pytest.raises(BadStoreError, match="is no folder"):
            chroma(tmp_path / "file")
        with pytest.raises(BadStoreError, match="folder"):
            chroma(tmp_path / "file" / "below")
        assert tree(tmp_path) == {"file": b"mine"}

    def test_a_foreign_folder_is_refused_and_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(BadStoreError, match="holds other files"):
            chroma(tmp_path)
        assert tree(tmp_path) == {"notes.txt": b"mine"}

    def test_a_foreign_database_is_refused_and_not_touched(self, tmp_path: Path) -> None:
        database = sqlite3.connect(tmp_path / "chroma.sqlite3")
        database.execute("CREATE TABLE mine (x)")
        database.commit()
        database.close()
        before = tree(tmp_path)
        with pytest.raises(BadStoreError, match="not a database of Chroma"):
            chroma(tmp_path)
        assert tree(tmp_path) == before

    def test_a_chroma_of_someone_else_is_refused(self, folder: Path) -> None:
        import chromadb
        from chromadb.config import Settings

        with chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False)) as client:  # type: ignore[attr-defined]
            client.create_collection("theirs", embedding_function=None)
        with pytest.raises(BadStoreError, match="holds other collections"):
            chroma(folder)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content[: len(content) // 2],
            lambda content: b"garbage" * 100 + content[700:],
            lambda content: content[:4096] + b"\xff" * (len(content) - 4096),
        ],
        ids=["cut", "header", "pages"],
    )
    def test_a_damaged_database_is_refused_and_not_touched(
        self, folder: Path, damage: Callable[[bytes], bytes]
    ) -> None:
        with chroma(folder) as store:
            store.put(("a", "b"), "k", {})
        (folder / "billp.lock").unlink()
        database = folder / "chroma.sqlite3"
        database.write_bytes(damage(database.read_bytes()))
        before = tree(folder)
        with pytest.raises(BadStoreError, match="damaged|cannot be opened") as caught:
            chroma(folder)
        assert "\n" not in str(caught.value) and tree(folder) == before

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_without_permission_is_refused(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(BadStoreError, match="cannot be written"):
                chroma(tmp_path / "memory")
        finally:
            tmp_path.chmod(0o700)

    def test_a_folder_that_cannot_be_made_is_refused(self) -> None:
        with pytest.raises(BadStoreError, match="cannot be written"):
            chroma("/proc/memory-of-billp")

    @pytest.mark.parametrize("url", ["ftp://host/x", "http://", "http://host:port", "https://host:99999"])
    def test_an_address_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(BadStoreError, match="write http://HOST:PORT"):
            chroma(url)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"n": {"$in": [1]}}, r"'\$in'.*\$eq"),
        ({"n": {"$gt": 1, "x": 2}}, "'x'"),
        ({"n": {"deep": {"$gt": "x"}}}, r"bound of \$gt is 'x'"),
    ],
)
@pytest.mark.parametrize("query", [None, "q"])
def test_a_filter_that_means_nothing_is_refused(query: str | None, wanted: dict[str, Any], message: str) -> None:
    with chroma() as store, pytest.raises(ValueError, match=message):
        store.search(("a", "b"), query=query, filter=wanted)


async def longest_stall(work: Any) -> float:
    """Return the longest time in seconds that the loop stood still during `work`."""
    stalls = [0.0]
    done = asyncio.Event()

    async def beat() -> None:
        last = time.perf_counter()
        while not done.is_set():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            stalls.append(now - last)
            last = now

    heart = asyncio.create_task(beat())
    await work
    done.set()
    await heart
    return max(stalls)


async def test_the_loop_goes_on_while_a_cohort_is_written(folder: Path) -> None:
    async with ChromaStore(folder, embeddings=FakeEmbeddings(dimension=384)) as store:
        ops = [PutOp(("k", "w", f"u{n % 9}"), str(n), {"t": f"text {n}", "long": "x" * 400}, ["t"]) for n in range(600)]
        # The machine may be busy with something else for one of three.
        assert min([await longest_stall(store.abatch(ops)) for _ in range(3)]) < 0.25
        assert len(await store.asearch(("k", "w"), limit=1000)) == 600


async def test_what_is_loaded_is_read_without_a_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Inline(FakeEmbeddings):
        async def aembed_query(self, text: str) -> list[float]:
            return self.embed_query(text)

    async with ChromaStore(folder, embeddings=Inline()) as store:
        await store.aput(("a", "b"), "k", {"t": "red"})
        callers = []
        answer = Backend.answer

        def noted(self: Backend, *args: Any) -> Any:
            callers.append(threading.current_thread())
            return answer(self, *args)

        monkeypatch.setattr(Backend, "answer", noted)
        await store.aget(("a", "b"), "k")
        await store.asearch(("a", "b"), query="red")
        await store.alist_namespaces()
    assert callers == [threading.current_thread()] * 3


class TestCreateStore:
    @pytest.fixture(autouse=True)
    def no_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory.store, "shared_embeddings", FakeEmbeddings)
        monkeypatch.delenv("BILLP_CHROMA_URL", raising=False)

    async def test_it_opens_the_folder_in_billp_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BILLP_HOME", str(tmp_path))
        async with create_store() as store:
            await store.aput(("a", "b"), "k", {"n": 1})
        async with create_store() as store:
            assert (await store.asearch(("a",)))[0].value == {"n": 1}
        assert (tmp_path / "memory" / "chroma.sqlite3").exists()

    async def test_without_billp_home_it_is_below_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("BILLP_HOME", raising=False)
        monkeypatch.chdir(tmp_path)
        async with create_store():
            assert (tmp_path / ".billp" / "memory" / "chroma.sqlite3").exists()

    async def test_all_who_ask_in_one_process_share_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BILLP_HOME", str(tmp_path))
        async with create_store() as one:
            async with create_store() as other:
                assert other is one
            await one.aput(("a", "b"), "k", {})
        # The last one closed it.
        chroma(tmp_path / "memory").close()

    async def test_a_module_loaded_under_another_name_shares_it_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BILLP_HOME", str(tmp_path))
        spec = importlib.util.spec_from_file_location("name_of_the_servers_own", memory.store.__file__)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(module, "shared_embeddings", FakeEmbeddings)
        async with create_store() as one, module.create_store() as other:
            assert other is one

    async def test_a_server_that_is_down_is_named_without_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BILLP_CHROMA_URL", "http://me:secret@127.0.0.1:9")
        with pytest.raises(BadStoreError, match="No Chroma server answers at http://127.0.0.1:9 ") as caught:
            async with create_store():
                pass
        assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
