"""Invalid calls and foreign rows: the error names the caller's mistake, on every kind of store."""

import asyncio
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.api.models.Collection import Collection
from langchain_core.embeddings import Embeddings
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchOp,
)

from memory.chroma.errors import BadRecordError, BadStoreError, StoreError
from memory.chroma.layout import main_row_id
from memory.store import ChromaStore
from tests import processes
from tests.commands import ROOT
from tests.stores import DIMENSION, OURS, Clock, FakeEmbeddings, chroma
from tests.waiting import PATIENCE

PLACE = ("a", "b")
DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]
ENDLESS: dict[str, Any] = {}
ENDLESS["own"] = ENDLESS

REFUSED: dict[str, tuple[Op, str]] = {
    "limit": (SearchOp(PLACE, limit=-1), "limit is -1: use a whole number from 0 to 2,147,483,647"),
    "large limit": (SearchOp(PLACE, limit=2**63 - 1, offset=1), "limit is 9223372036854775807"),
    "limit of a query": (SearchOp(PLACE, query="q", limit=2**31), "limit is 2147483648"),
    "limit that is none": (SearchOp(PLACE, limit=None), "limit is None"),  # type: ignore[arg-type]
    "limit with digits": (SearchOp(PLACE, limit=10**5000), "limit is .*: use a whole number"),
    "offset": (SearchOp(PLACE, offset=-1), "offset is -1"),
    "large offset": (SearchOp(PLACE, offset=2**31), "offset is 2147483648"),
    "half": (SearchOp(PLACE, limit=1.5), "limit is 1.5"),  # type: ignore[arg-type]
    "namespaces' limit": (ListNamespacesOp(limit=1e20), r"limit is 1e\+20"),  # type: ignore[arg-type]
    "namespaces' offset": (ListNamespacesOp(offset=-1), "offset is -1"),
    "depth": (ListNamespacesOp(max_depth=0), "max_depth is 0: use a whole number from 1 to"),
    "large depth": (ListNamespacesOp(max_depth=1e20), r"max_depth is 1e\+20"),  # type: ignore[arg-type]
    "kind of condition": (
        ListNamespacesOp(match_conditions=(MatchCondition("infix", ("a",)),)),  # type: ignore[arg-type]
        "'infix': use prefix or suffix",
    ),
    "query": (SearchOp(PLACE, query=5), "query is 5: use a text"),  # type: ignore[arg-type]
    "key to put": (PutOp(PLACE, 2, {}), "key 2 in .* is not a text"),  # type: ignore[arg-type]
    "key to get": (GetOp(PLACE, None), "key None in .* is not a text"),  # type: ignore[arg-type]
    "value": (PutOp(PLACE, "k", [1]), r"value of 'k' in .* is \[1\]: use a dict"),  # type: ignore[arg-type]
    "time to live": (
        PutOp(PLACE, "k", {}, ttl=10**400),
        r"time to live of 'k' in .* is 10{79}…: use a number of minutes",
    ),
    "time with digits": (
        PutOp(PLACE, "k", {}, ttl=-(10**5000)),
        "is a int of too many digits: use a number of minutes",
    ),
    "index": (PutOp(PLACE, "k", {}, index=True), "index of 'k' in .* is True: use a list of paths"),  # type: ignore[arg-type]
    "namespace": (SearchOp("ab"), "namespace 'ab' is not a tuple: use a tuple of labels"),  # type: ignore[arg-type]
    "filter": (SearchOp(PLACE, filter=["n"]), "filter is not a dict"),  # type: ignore[arg-type]
    "filter by numbers": (SearchOp(PLACE, filter={1: 2}), "filter is not a dict"),  # type: ignore[dict-item]
    "operator in a list": (SearchOp(PLACE, filter={"tags": [{"$in": [1]}]}), r"Unknown filter operator '\$in'"),
    "operator further in": (SearchOp(PLACE, filter={"x": {"y": [{"z": {"$in": 1}}]}}), r"operator '\$in'"),
    "deep filter": (SearchOp(PLACE, filter={"x": DEEP}), "more than 100 levels"),
    "$and": (SearchOp(PLACE, filter={"$and": [{"n": 1}]}), r"'\$and' is not a field"),
    "$or": (SearchOp(PLACE, filter={"n": 1, "$or": [{"n": 1}]}), r"'\$or' is not a field"),
    "bound": (SearchOp(PLACE, filter={"n": {"$gt": [1]}}), r"bound of \$gt is \[1\]"),
    "bound of several lines": (
        SearchOp(PLACE, filter={"n": {"$gt": np.eye(2)}}),
        r"bound of \$gt is array.*: use a number",
    ),
    "bound with digits": (SearchOp(PLACE, filter={"n": {"$gt": [10**5000]}}), r"bound of \$gt is a list of too many"),
    "array": (SearchOp(PLACE, filter={"n": np.ones(2)}), r"The filter has array.*: use JSON types only"),
    "equal array": (SearchOp(PLACE, filter={"n": {"$eq": np.ones(2)}}), r"The filter has array.*: use JSON types only"),
    "set": (SearchOp(PLACE, filter={"n": {"m": {1}}}), r"The filter has \{1\}, which no record can have"),
    "unequal uuid": (SearchOp(PLACE, filter={"n": {"$ne": [uuid.UUID(int=0)]}}), r"The filter has UUID"),
    "deep equal value": (SearchOp(PLACE, filter={"n": {"$eq": DEEP}}), "more than 100 levels"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
async def test_a_caller_s_mistake_is_a_value_error_and_changes_nothing(ours: ChromaStore, case: str) -> None:
    op, said = REFUSED[case]
    ours.put(PLACE, "1", {"n": 1})
    for ask in (lambda: ours.batch([PutOp(PLACE, "new", {}), op]), None):
        with pytest.raises(ValueError, match=said) as caught:
            ask() if ask else await ours.abatch([PutOp(PLACE, "new", {}), op])
        assert type(caught.value) in (ValueError, InvalidNamespaceError, BadRecordError)
        assert "\n" not in str(caught.value)
    assert [item.key for item in ours.search(PLACE)] == ["1"] and not ours.connection.failed.is_set()


def test_whole_numbers_may_come_as_json_has_them(ours: ChromaStore) -> None:
    ours.put(PLACE, "k", {})
    found, listed = ours.batch([SearchOp(PLACE, limit=5.0), ListNamespacesOp(limit=1e2, max_depth=1.0)])  # type: ignore[arg-type]
    assert [item.key for item in found] == ["k"] and listed == [("a",)]  # type: ignore[union-attr]
    assert len(ours.search(PLACE, query="q", limit=2**31 - 1, offset=0)) == 1
    assert ours.search(PLACE, query="q", limit=2**31 - 1, offset=2**31 - 1) == []


@pytest.mark.parametrize("query", [None, "q"])
def test_numbers_of_any_size_are_compared_as_they_are(ours: ChromaStore, query: str | None) -> None:
    numbers = {"huge": 10**400, "less": -(10**400), "one": 1, "text": "2", "none": "x", "odd": 2**53 + 1}
    for key, number in numbers.items():
        ours.put(PLACE, key, {"n": number})

    def found(condition: Any) -> set[str]:
        return {item.key for item in ours.search(PLACE, query=query, filter={"n": condition})}

    assert found({"$gt": 1}) == {"huge", "text", "odd"}
    assert found({"$gt": 2**53}) == {"huge", "odd"}
    assert found({"$lt": 10**400}) == {"less", "one", "text", "odd"}
    assert found({"$gte": 10**400}) == {"huge"} == found(10**400)
    assert found({"$lte": -(10**400)}) == {"less"}
    assert not ours.connection.failed.is_set()


def test_lists_are_namespaces_too(store: BaseStore, kind: str) -> None:
    store.put(PLACE, "k", {"n": 1})
    for prefix in (["a"], ["a", "b"]):
        assert [item.key for item in store.search(prefix)] == ["k"] or kind == "InMemoryStore"  # type: ignore[arg-type]
        found = store.search(prefix, query="n")  # type: ignore[arg-type]
        assert [item.key for item in found] == ["k"] or kind == "InMemoryStore"
    if kind in OURS:
        (item,) = store.batch([GetOp(["a", "b"], "k")])  # type: ignore[arg-type]
        assert item and item.namespace == PLACE  # type: ignore[union-attr]
        store.batch([PutOp(["a", "b"], "k", None)])  # type: ignore[arg-type]
        assert store.list_namespaces(prefix=["a"]) == []  # type: ignore[arg-type]


NO_JSON: dict[str, dict[Any, Any]] = {
    "set": {"x": {1}},
    "uuid": {"x": uuid.UUID(int=0)},
    "bytes": {"x": b"x"},
    "mixed keys": {"x": {1: "one", "1": "other"}},
    "mixed keys at the top": {1: "one", "x": "other"},
    "recursion": ENDLESS,
    "digits": {"x": 10**5000},
    "object": {"deep": [{"x": object()}]},
    "levels": {"x": DEEP[0]},
}


@pytest.mark.slow
@pytest.mark.parametrize("index", [None, False, ["x"], ["$"], ["x", "y[*].z"]], ids=str)
@pytest.mark.parametrize("value", NO_JSON)
def test_a_value_that_is_no_json_is_named(ours: ChromaStore, value: str, index: Any) -> None:
    with pytest.raises(BadRecordError, match=r"value of 'bad' in \('a', 'b'\) cannot be stored .*JSON types only"):
        ours.batch([PutOp(PLACE, "good", {}), PutOp(PLACE, "bad", NO_JSON[value], index)])
    assert ours.search(()) == []


def test_the_deepest_value_is_read_by_callers_whose_calls_are_nested(ours: ChromaStore) -> None:
    ours.put(PLACE, "k", {"x": DEEP[0][0]})

    def read(calls: int) -> None:
        if calls:
            return read(calls - 1)
        item = ours.get(PLACE, "k")
        assert item and item.value == {"x": DEEP[0][0]}
        for query in (None, "q"):
            assert [found.key for found in ours.search(PLACE, query=query, filter={"x": {"$ne": 1}})] == ["k"]

    read(300)


async def test_a_batch_that_is_refused_puts_off_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with chroma(tmp_path, ttl={"default_ttl": 30}) as store:
        store.put(PLACE, "k", {"n": 1})
        before = store.records()
        clock.pass_for(store, 15)
        ops: list[Op] = [GetOp(PLACE, "k", True), PutOp(PLACE, "bad", {"v": object()})]
        with pytest.raises(BadRecordError):
            store.batch(ops)
        with pytest.raises(BadRecordError):
            await store.abatch(ops)
        assert store.records() == before
        store.batch(ops[:1])
        assert store.records() != before


ODD_NAMES: list[dict[str, Any]] = [{"key": "2"}, {"namespace": "[1]"}, {"namespace": '["a"]'}, {"key": '"k"'}]
ODD_FIELDS: list[dict[str, Any]] = [
    {"value": 5},
    {"value": "{"},
    {"value": "[" * 9_000},
    {"vectors": "1"},
    {"paths": "("},
]


def test_a_row_that_holds_no_record_hides_no_other(
    ours: ChromaStore, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    ours.put(PLACE, "k", {"x": "red"}, index=["x"])
    rows = ours.backend.table(PLACE)
    fields = (rows.get(ids=[main_row_id(PLACE, "k")], include=["metadatas"])["metadatas"] or [])[0]
    odd = {f"{n:032x}": dict(fields) | changes for n, changes in enumerate(ODD_NAMES)}
    odd |= {main_row_id(PLACE, str(n)): dict(fields) | {"key": f'"{n}"'} | one for n, one in enumerate(ODD_FIELDS)}
    odd |= {"f" * 32: {"vectors": 1}}
    vectors = np.random.default_rng(0).standard_normal((len(odd), DIMENSION))
    rows.upsert(ids=list(odd), embeddings=vectors, metadatas=list(odd.values()))
    ours.worker.submit(ours.backend.drop_caches).result()
    assert [item.key for item in ours.search(PLACE)] == ["k"]
    assert [item.key for item in ours.search(PLACE, query="red")] == ["k"]
    assert ours.list_namespaces() == [PLACE]
    assert "Skipped a row of the memory that is not a record" in caplog.text and not ours.connection.failed.is_set()
    # The foreign rows stay.
    assert odd.keys() <= {*rows.get(include=[])["ids"]}


@pytest.mark.parametrize("amid", ["delete", "upsert"])
async def test_a_write_that_is_repeated_after_a_failure_keeps_all_its_vectors(
    ours: ChromaStore, amid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes that were joined are repeated one by one, and the failed call may have stored some of their rows."""
    ours.put(PLACE, "k", {"x": "former", "y": "earlier"}, index=["x", "y"])
    go_on, queued, failed = threading.Event(), threading.Semaphore(0), threading.Event()
    call, submit = getattr(Collection, amid), ours.worker.submit

    def failing(self: Collection, **rows: Any) -> None:
        call(self, **rows)
        if not failed.is_set() and (amid == "delete" or main_row_id(PLACE, "k") in rows["ids"]):
            failed.set()
            raise OSError("the disk is busy")

    def counted(*args: Any, **kwargs: Any) -> Any:
        future = submit(*args, **kwargs)
        queued.release()
        return future

    blocked = submit(go_on.wait, PATIENCE)
    monkeypatch.setattr(Collection, amid, failing)
    monkeypatch.setattr(ours.worker, "submit", counted)
    values = {key: {"x": f"new {key}", "y": f"newer {key}"} for key in ("k", "l")}
    writes = [asyncio.create_task(ours.aput(PLACE, key, value, index=["x", "y"])) for key, value in values.items()]
    for _ in writes:
        assert await asyncio.to_thread(queued.acquire, timeout=PATIENCE)
    go_on.set()
    assert blocked.result(PATIENCE) and await asyncio.gather(*writes) == [None, None] and failed.is_set()
    for _ in range(2):
        for key, value in values.items():
            for text in value.values():
                assert [(one.key, one.score) for one in ours.search(PLACE, query=text, limit=1)] == [(key, 1.0)]
        submit(ours.backend.drop_caches).result()
    assert [one.shape for one in ours.vectors(ours.records())] == [(2, DIMENSION)] * 2


def test_a_record_that_lost_a_vector_hides_no_other(ours: ChromaStore) -> None:
    ours.put(PLACE, "k", {"x": "red", "y": "blue"}, index=["x", "y"])
    ours.put(PLACE, "other", {"x": "green"}, index=["x"])
    ours.backend.table(PLACE).delete(ids=ours.records()[0].vector_rows)
    ours.worker.submit(ours.backend.drop_caches).result()
    assert [item.key for item in ours.search(())] == ["k", "other"] and ours.list_namespaces() == [PLACE]
    for text, key in (("red", "k"), ("green", "other")):
        found = ours.search(PLACE, query=text)
        assert (found[0].key, found[0].score, len(found)) == (key, 1.0, 2)
    ours.put(PLACE, "k", {"x": "red", "y": "blue"}, index=["x", "y"])
    assert ours.search(PLACE, query="blue")[0].score == 1.0


class Arrays(FakeEmbeddings):
    """Embedding that returns NumPy arrays, as many libraries do."""

    def embed_query(self, text: str) -> Any:
        return np.asarray(super().embed_query(text), dtype=np.float32)

    def embed_documents(self, texts: list[str]) -> Any:
        return np.stack([self.embed_query(text) for text in texts])


def vectors_of(texts: Any) -> list[list[float]]:
    return FakeEmbeddings().embed_documents(texts)


async def later(texts: Any) -> list[list[float]]:
    return FakeEmbeddings().embed_documents(texts)


@pytest.mark.parametrize(
    "embeddings", [Arrays(), vectors_of, later, "fake:model"], ids=["arrays", "sync", "async", "text"]
)
async def test_embeddings_may_be_what_langgraph_takes(
    embeddings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph.store.base.embed._get_init_embeddings", lambda: lambda name: FakeEmbeddings(name))
    async with ChromaStore(tmp_path / "memory", embeddings=embeddings) as store:
        await store.aput(PLACE, "one", {"t": "red"}, index=["t"])
        await store.aput(PLACE, "many", {"t": ["blue", "green"]}, index=["t[*]"])
        await store.aput(PLACE, "none", {"t": "grey"}, index=False)
        assert [(item.key, item.score) for item in await store.asearch(PLACE, query="green", limit=1)] == [
            ("many", 1.0)
        ]
    async with ChromaStore(tmp_path / "memory", embeddings=embeddings) as store:
        assert (await store.asearch(PLACE, query="red"))[0].key == "one"
    with pytest.raises(BadStoreError, match="created with the embedding"):
        ChromaStore(tmp_path / "memory", embeddings=lambda texts: vectors_of(texts))


def test_a_text_that_names_no_embedding_here_is_refused_in_one_line() -> None:
    with pytest.raises(BadStoreError, match="The embedding 'nobody:model' cannot be created") as caught:
        ChromaStore(embeddings="nobody:model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [[], [[1.0]], [["x"] * DIMENSION], [[1.0] * DIMENSION, [1.0]]], ids=str)
def test_vectors_that_do_not_fit_are_refused(given: Any) -> None:
    class Odd(FakeEmbeddings):
        def embed_documents(self, texts: list[str]) -> Any:
            return given

    odd: Embeddings = Odd()
    with ChromaStore(embeddings=odd) as store, pytest.raises(BadRecordError, match="16 finite numbers for each text"):
        store.put(PLACE, "k", {"x": "red"}, index=["x"])


BESIDE_ANOTHER = """
import chromadb
from chromadb.config import Settings
from memory.chroma.errors import BadStoreError
from tests.stores import chroma

with chromadb.EphemeralClient(settings=Settings(anonymized_telemetry=True)):
    try:
        chroma()
    except BadStoreError as error:
        print(error)
with chroma() as store:
    store.put(("user", "1"), "k", {})
"""
BY_MANY_THREADS = """
from concurrent.futures import ThreadPoolExecutor
import chromadb
from chromadb.config import Settings
from tests.stores import chroma

def use(_):
    with chroma() as store:
        store.put(("user", "1"), "k", {})
        return store.get(("user", "1"), "k")

with ThreadPoolExecutor(3) as threads:
    assert all(threads.map(use, range(60)))
# No client is left, so Chroma takes other settings.
with chromadb.EphemeralClient(settings=Settings(anonymized_telemetry=True)):
    print("none left")
"""


def alone(code: str) -> list[str]:
    """Run code in a process of its own, in which no test has a client of Chroma open; return the lines it prints."""
    return processes.run([sys.executable, "-c", code], cwd=ROOT, check=True).stdout.splitlines()


def test_a_store_in_memory_beside_another_client_in_memory_is_refused_in_one_line() -> None:
    (line,) = alone(BESIDE_ANOTHER)
    assert "name a folder" in line


def test_stores_in_memory_may_be_opened_and_closed_by_many_threads() -> None:
    assert alone(BY_MANY_THREADS) == ["none left"]


def test_closing_ends_a_sweep_that_is_under_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    amid, go_on = threading.Event(), threading.Event()
    store = chroma(ttl={"default_ttl": 30})
    for number in range(30):
        store.put(PLACE, str(number), {}, ttl=-1)
    sweep: Callable[..., Any] = store.backend.sweep

    def slow(*args: Any) -> Any:
        amid.set()
        assert go_on.wait(PATIENCE)
        return sweep(*args)

    monkeypatch.setattr(store.backend, "sweep", slow)
    store.start_ttl_sweeper(0.0001)
    assert amid.wait(PATIENCE)
    closing = threading.Thread(target=store.close, daemon=True)
    closing.start()
    while not store.closed:
        closing.join(0.01)
    go_on.set()
    closing.join(PATIENCE)
    assert not closing.is_alive() and not caplog.records
    with pytest.raises(StoreError, match="is closed"):
        store.get(PLACE, "0")
