"""Time to live on `SqliteStore` and on every kind of `ChromaStore`."""

import json
import logging
import queue
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import BaseStore, GetOp, PutOp

from memory.chroma.backend import Backend
from memory.chroma.env import configured_ttl
from memory.chroma.errors import BadRecordError, BadStoreError, StoreError
from memory.chroma.layout import CHUNK, Chunk
from memory.jsonl import RecordLine, exported, kept
from memory.store import ChromaStore, create_store
from tests.stores import DIMENSION, Clock, FakeEmbeddings, chroma, chroma_store


class TestTimeToLive:
    def keys(self, store: BaseStore) -> list[str]:
        return sorted(item.key for item in store.search((), refresh_ttl=False, limit=99))

    def test_a_sweep_removes_what_has_expired_and_nothing_else(self, mortal: tuple[Any, Clock]) -> None:
        store, clock = mortal
        many = {f"item{number:02d}": 10 for number in range(45)}
        lives = ({"short": 10, "long": 20, "ever": None} | many).items()
        store.batch([PutOp(("a", "b", key[:4]), key, {"t": key, "u": key}, ["t", "u"], ttl) for key, ttl in lives])
        store.put(("a", "b"), "default", {"t": "default"})
        assert store.sweep_ttl() == 0
        clock.pass_for(store, 11)
        assert store.sweep_ttl() == 46 and store.sweep_ttl() == 0
        assert self.keys(store) == ["default", "ever", "long"]
        clock.pass_for(store, 10)
        assert store.sweep_ttl() == 1 and self.keys(store) == ["default", "ever"]
        clock.pass_for(store, 10)
        assert store.sweep_ttl() == 1 and self.keys(store) == ["ever"]
        assert [item.key for item in store.search(("a", "b"), query="ever")] == ["ever"]
        assert store.list_namespaces() == [("a", "b", "ever")]

    def test_a_read_starts_it_anew_unless_it_says_not_to(self, mortal: tuple[Any, Clock]) -> None:
        store, clock = mortal
        reads = ["get", "search", "query", "batch"]
        for read in reads:
            for key in ("kept", "left"):
                store.put((key, read), read, {"t": f"{key} {read}"}, ttl=10)
        before = [store.get(("kept", read), read, refresh_ttl=False) for read in reads]
        for _ in range(3):
            clock.pass_for(store, 6)
            for key, refresh in (("kept", None), ("left", False)):
                store.get((key, "get"), "get", refresh_ttl=refresh)
                store.search((key, "search"), filter={"t": f"{key} search"}, refresh_ttl=refresh)
                store.search((key,), query="q", filter={"t": f"{key} query"}, refresh_ttl=refresh)
                store.batch([GetOp((key, "batch"), "batch", refresh_ttl=refresh is None)])
        assert store.sweep_ttl() == len(reads) and self.keys(store) == sorted(reads)
        after = [store.get(("kept", read), read) for read in reads]
        assert [item.dict() for item in after] == [item.dict() for item in before]
        best = store.search(("kept",), query="kept get")[0]
        assert best.key == "get" and best.score is not None

    def test_a_write_starts_it_anew_with_what_it_says(self, mortal: tuple[Any, Clock]) -> None:
        store, clock = mortal
        for key in ("again", "ever", "short", "deleted"):
            store.put(("a", "b"), key, {}, ttl=10)
        clock.pass_for(store, 6)
        store.put(("a", "b"), "again", {}, ttl=10)
        store.put(("a", "b"), "ever", {}, ttl=None)
        store.put(("a", "b"), "short", {}, ttl=1)
        store.delete(("a", "b"), "deleted")
        clock.pass_for(store, 5)
        assert store.sweep_ttl() == 1 and self.keys(store) == ["again", "ever"]
        clock.pass_for(store, 1000)
        assert store.sweep_ttl() == 1 and self.keys(store) == ["ever"]

    def test_the_sweeper_sweeps_until_it_is_stopped(
        self, mortal: tuple[Any, Clock], caplog: pytest.LogCaptureFixture
    ) -> None:
        store, _ = mortal
        said: queue.Queue[logging.LogRecord] = queue.Queue()
        loggers = [logging.getLogger(name) for name in ("memory.chroma.ttl", "langgraph.store.sqlite.base")]
        handler = QueueHandler(said)
        for logger in loggers:
            caplog.set_level(logging.INFO, logger.name)
            logger.addHandler(handler)
        try:
            store.put(("a", "b"), "one", {}, ttl=-1)
            ended = store.start_ttl_sweeper(sweep_interval_minutes=0.0005)
            self.wait_for_a_sweep(said)
            assert not ended.done()
            assert store.stop_ttl_sweeper(timeout=30) and ended.result(30) is None
            # The sweeper can be started again, and stopped by cancelling its future.
            store.put(("a", "b"), "two", {}, ttl=-1)
            again = store.start_ttl_sweeper(sweep_interval_minutes=0.0005)
            self.wait_for_a_sweep(said)
            if isinstance(store, ChromaStore):  # The thread of SqliteStore would end with a traceback.
                again.cancel()
            assert store.stop_ttl_sweeper() and store.stop_ttl_sweeper()
            store.put(("a", "b"), "three", {}, ttl=-1)
            assert store.sweep_ttl() == 1
        finally:
            for logger in loggers:
                logger.removeHandler(handler)

    def wait_for_a_sweep(self, said: "queue.Queue[logging.LogRecord]") -> None:
        while "1 expired" not in said.get(timeout=30).getMessage():
            pass

    def test_without_a_setting_there_is_no_sweeper(self, store: Any, kind: str) -> None:
        if kind != "InMemoryStore":
            assert store.start_ttl_sweeper().result(0) is None and store.stop_ttl_sweeper()

    def test_whether_what_has_expired_is_returned_before_a_sweep(self, mortal: tuple[Any, Clock]) -> None:
        # SqliteStore returns expired records until the sweep, and so does PostgresStore unless `omit_expired` is set.
        # `ChromaStore` does not: a record that a person knows as deleted must not reappear because the sweeper stopped,
        # and the next sweep may be hours away.
        store, clock = mortal
        for key in ("a", "b"):
            store.put(("x", "y", key), key, {"t": key}, ttl=10, index=["t"])
        store.put(("x", "y"), "c", {"t": "c"}, ttl=None, index=["t"])
        clock.pass_for(store, 11)
        ours = isinstance(store, ChromaStore)
        assert (store.get(("x", "y", "a"), "a", refresh_ttl=False) is None) is ours
        for options in ({}, {"query": "a"}, {"filter": {"t": {"$ne": "z"}}}, {"query": "a", "limit": 1}):
            found = store.search(("x", "y"), refresh_ttl=False, **options)
            assert ([item.key for item in found] == ["c"]) is ours
        assert store.list_namespaces() == ([("x", "y")] if ours else [("x", "y"), ("x", "y", "a"), ("x", "y", "b")])
        # A read does not revive it either, and a new record under its key has a lifetime and times of its own.
        if ours:
            assert store.get(("x", "y", "a"), "a") is None
            assert store.sweep_ttl() == 2
            store.put(("x", "y", "a"), "a", {"t": "new"})
            assert store.get(("x", "y", "a"), "a").created_at == store.get(("x", "y", "a"), "a").updated_at

    def test_whether_a_store_without_a_setting_starts_it_anew(
        self, store: Any, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # SqliteStore refreshes only if `refresh_on_read` is set, even for `refresh_ttl=True`. PostgresStore and the
        # documentation of `put` refresh unless a read says no, and so does `ChromaStore`.
        if kind == "InMemoryStore":
            return
        clock = Clock(monkeypatch)
        store.put(("a",), "k", {}, ttl=10)
        for _ in range(2):
            clock.pass_for(store, 6)
            store.get(("a",), "k", refresh_ttl=True)
        assert store.sweep_ttl() == (1 if kind == "SqliteStore" else 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def deadlines(store: ChromaStore) -> dict[str, Any]:
    return {record.key: record.lifetime for record in store.records()}


def test_deadlines_survive_reopening_and_so_does_a_read(tmp_path: Path, clock: Clock) -> None:
    with chroma(tmp_path) as store:
        for key in ("read", "left"):
            store.put(("a", "b"), key, {"t": key}, ttl=10)
        store.put(("a", "b"), "ever", {})
        clock.pass_for(store, 6)
        assert store.get(("a", "b"), "read")
        before = deadlines(store)
    with chroma(tmp_path) as store:
        assert deadlines(store) == before and before["ever"] is None
        clock.pass_for(store, 6)
        assert sorted(deadlines(store)) == ["ever", "read"]
    with chroma(tmp_path) as store:
        # It is still stored, but no new process finds it, whether the sweep comes before or after the collection is
        # loaded.
        assert store.sweep_ttl() == 1 and sorted(deadlines(store)) == ["ever", "read"]


def test_clients_of_one_server_see_each_others_deadlines(tmp_path: Path, chroma_url: str, clock: Clock) -> None:
    with chroma_store("server", tmp_path, lambda: chroma_url) as one, chroma(chroma_url) as other:
        one.put(("shared", "b"), "k", {"t": "red"}, ttl=10)
        clock.pass_for(one, 6)
        assert other.get(("shared", "b"), "k")
        clock.pass_for(one, 6)
        assert one.search(("shared", "b"), query="red", refresh_ttl=False)
        other.put(("shared", "b"), "k", {"t": "blue"})
        clock.pass_for(one, 100)
        assert one.sweep_ttl() == 0
        assert [item.value for item in one.search(("shared", "b"))] == [{"t": "blue"}]
        one.delete(("shared", "b"), "k")


def test_a_read_of_what_is_replaced_meanwhile_does_not_touch_the_new_record(
    tmp_path: Path, chroma_url: str, clock: Clock
) -> None:
    with chroma_store("server", tmp_path, lambda: chroma_url) as one, chroma(chroma_url) as other:
        one.put(("shared", "b"), "k", {"t": "red"}, ttl=10)
        clock.pass_for(one, 6)
        (read,) = one.records(("shared", "b"))
        other.put(("shared", "b"), "k", {"t": "blue"})
        one.backend.write(Chunk(("shared", "b"), read=[read]))
        assert deadlines(other)["k"] is None
        other.put(("shared", "b"), "k", {"t": "green"}, ttl=2)
        until = deadlines(other)["k"]
        one.backend.write(Chunk(("shared", "b"), read=[read]))
        assert deadlines(other)["k"] == until
        clock.pass_for(one, 3)
        assert one.sweep_ttl() == 1


def written(monkeypatch: pytest.MonkeyPatch) -> list[Chunk]:
    """Return the list to which all further chunks are added as they are written."""
    noted: list[Chunk] = []
    write = Backend.write

    def note(self: Backend, chunk: Chunk) -> None:
        noted.append(chunk)
        write(self, chunk)

    monkeypatch.setattr(Backend, "write", note)
    return noted


async def test_only_reads_of_what_grows_old_are_writes_and_few_of_them(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chroma() as store:
        await store.abatch([PutOp(("a", "b"), str(number), {"t": f"{number}"}) for number in range(30)])
        await store.abatch([PutOp(("a", "c"), str(number), {"t": f"{number}"}, ttl=100) for number in range(50)])
        noted = written(monkeypatch)
        for label in ("b", "c"):
            await store.asearch(("a", label), query="7", limit=30)
            await store.aget(("a", label), "7")
        assert noted == []
        clock.pass_for(store, 2)
        await store.asearch(("a", "b"), query="7", limit=30)
        assert noted == []
        await store.asearch(("a", "c"), query="7", limit=50)
        assert [len(chunk.read) for chunk in noted] == [CHUNK] * (50 // CHUNK)
        for number in range(50):
            await store.aget(("a", "c"), str(number))
        assert len(noted) == 50 // CHUNK


def test_records_without_a_time_to_live_have_no_field_for_it(tmp_path: Path) -> None:
    with chroma(tmp_path) as store:
        store.put(("a", "b"), "ever", {})
        store.put(("a", "b"), "was mortal", {}, ttl=10)
        store.put(("a", "b"), "was mortal", {})
        store.put(("a", "b"), "mortal", {}, ttl=10)
        rows = store.backend.table(("a", "b")).get(include=["metadatas"])["metadatas"] or []
        assert sorted((len(row), "expires_at" in row) for row in rows) == [(9, False), (9, False), (11, True)]


def test_a_new_record_under_the_name_of_an_expired_one_leaves_nothing_of_it(tmp_path: Path, clock: Clock) -> None:
    with chroma(tmp_path) as store:
        store.put(("a", "b"), "k", {"x": "red", "y": "blue"}, index=["x", "y"], ttl=10)
        clock.pass_for(store, 11)
        assert store.search(("a", "b"), query="blue") == []
        store.put(("a", "b"), "k", {"x": "green"}, index=["x"])
        item = store.get(("a", "b"), "k")
        assert item and item.created_at == item.updated_at
        assert len(store.backend.table(("a", "b")).get()["ids"]) == 1


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), 1e10, "5", True])
def test_what_is_no_time_to_live_is_refused(ttl: Any) -> None:
    with chroma() as store:
        with pytest.raises(BadRecordError, match="use a number of minutes"):
            store.batch([PutOp(("a",), "good", {}), PutOp(("a",), "bad", {}, ttl=ttl)])
        assert store.search(()) == []


def test_what_goes_out_as_json_comes_in_with_its_deadline(clock: Clock) -> None:
    with chroma() as store, chroma() as other:
        store.put(("notes",), "mortal", {"t": "red"}, ttl=10)
        store.put(("notes",), "ever", {"t": "blue"})
        clock.pass_for(store, 6)
        lines = [json.dumps(line) for line in exported(store, store.records(), with_vectors=True)]
        assert ["ttl" in json.loads(line) for line in lines] == [False, True]
        other.restore(
            kept(RecordLine.model_validate_json(line), recompute=False, dimension=DIMENSION) for line in lines
        )
        assert deadlines(other) == deadlines(store)
        half = json.loads(lines[1])
        del half["expires_at"]
        with pytest.raises(ValueError, match="ttl and expires_at"):
            RecordLine.model_validate(half)


def test_a_closed_store_has_no_sweeper(tmp_path: Path) -> None:
    store = chroma(tmp_path, ttl={"sweep_interval_minutes": 1})
    ended = store.start_ttl_sweeper()
    assert store.start_ttl_sweeper() is ended and not ended.done()
    store.close()
    assert ended.done()
    with pytest.raises(StoreError, match="is closed"):
        store.start_ttl_sweeper()


class TestTheSettingOfLangGraphsServer:
    @pytest.fixture(autouse=True)
    def no_model(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("memory.store.shared_embeddings", FakeEmbeddings)
        monkeypatch.delenv("BILLP_CHROMA_URL", raising=False)
        monkeypatch.setenv("BILLP_HOME", str(tmp_path))

    async def test_it_is_what_the_store_goes_by(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        setting = {"path": "./memory/store.py:create_store", "ttl": {"default_ttl": 10, "refresh_on_read": False}}
        monkeypatch.setenv("LANGGRAPH_STORE", json.dumps(setting))
        async with create_store() as store:
            await store.aput(("a", "b"), "k", {})
            await store.aput(("a", "b"), "ever", {}, ttl=None)
            clock.pass_for(store, 6)
            await store.aget(("a", "b"), "k")
            clock.pass_for(store, 6)
            assert [item.key for item in await store.asearch(("a",))] == ["ever"]
            assert not store.start_ttl_sweeper().done()

    @pytest.mark.parametrize("setting", ["", "null", '{"path": "x"}', '{"path": "x", "ttl": null}'])
    async def test_without_it_records_live_for_ever(self, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
        monkeypatch.setenv("LANGGRAPH_STORE", setting)
        async with create_store() as store:
            await store.aput(("a", "b"), "k", {})
            assert store.ttl_config is None and deadlines(store) == {"k": None} and store.start_ttl_sweeper().done()

    @pytest.mark.parametrize(
        "setting", ["{", '{"ttl": {"default_ttl": -1}}', '{"ttl": 5}', '{"ttl": {"default_ttl": "x"}}']
    )
    def test_one_that_cannot_be_used_is_named(self, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
        monkeypatch.setenv("LANGGRAPH_STORE", setting)
        with pytest.raises(BadStoreError, match="setting store of langgraph.json is invalid") as caught:
            configured_ttl()
        assert "\n" not in str(caught.value)
