"""Two concurrent operations: at every moment of interleaving, the result equals that of one after the other."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from chromadb.api.client import Client
from chromadb.api.models.Collection import Collection
from langgraph.store.base import PutOp

from memory.chroma.backend import Backend
from memory.chroma.cache import RecordCache
from memory.chroma.errors import StoreError
from memory.chroma.local import LocalBackend
from memory.store import ChromaStore
from tests.stores import DIMENSION, Clock, chroma
from tests.waiting import PATIENCE

Model = dict[tuple[str, ...], dict[str, Any]]
CALLS = ("get", "query", "upsert", "update", "delete")
OLD, NEW = ("a", "b", "u"), ("new", "pair")


class Operation(NamedTuple):
    """Operation on a store, with its effect on the expected records by namespace and key. Both return an answer."""

    ask: Callable[[ChromaStore], Any]
    apply: Callable[[Model], Any]


def put(namespace: tuple[str, ...], key: str, text: str) -> Operation:
    value = {"x": text, "y": f"{text} too"}

    def apply(model: Model) -> None:
        model[(*namespace, key)] = value

    return Operation(lambda store: store.put(namespace, key, value, index=["x", "y"]), apply)


def delete(namespace: tuple[str, ...], key: str) -> Operation:
    def apply(model: Model) -> None:
        model.pop((*namespace, key), None)

    return Operation(lambda store: store.delete(namespace, key), apply)


def get(namespace: tuple[str, ...], key: str) -> Operation:
    def ask(store: ChromaStore) -> Any:
        item = store.get(namespace, key)
        return item.value if item else None

    return Operation(ask, lambda model: model.get((*namespace, key)))


def search(namespace: tuple[str, ...], query: str | None) -> Operation:
    def ask(store: ChromaStore) -> Any:
        found = store.search(namespace, query=query, limit=99)
        return sorted((*item.namespace, item.key) for item in found)

    return Operation(ask, lambda model: sorted(place for place in model if place[: len(namespace)] == namespace))


LIST = Operation(lambda store: store.list_namespaces(limit=99), lambda model: sorted({place[:-1] for place in model}))
SWEEP = Operation(lambda store: [store.sweep_ttl()].clear(), lambda model: None)

FIRST = {
    "first put": put(NEW, "k", "one"),
    "put": put(OLD, "kept", "one"),
    "delete": delete(OLD, "kept"),
    "refresh": get(OLD, "worn"),
    "sweep": SWEEP,
}
OTHER = {
    "get": get(NEW, "k"),
    "get kept": get(OLD, "kept"),
    "search": search((), None),
    "search by text": search(NEW, "one"),
    "search kept by text": search(OLD, "one"),
    "list namespaces": LIST,
    "put": put(NEW, "k", "two"),
    "put kept": put(OLD, "kept", "two"),
    "put swept": put(OLD, "over", "two"),
    "delete": delete(NEW, "k"),
    "delete kept": delete(OLD, "kept"),
    "delete worn": delete(OLD, "worn"),
    "refresh": get(OLD, "worn"),
    "sweep": SWEEP,
}


class Interleaving:
    """Stops the worker before one of its calls to Chroma, and starts a second operation in another thread.

    Any thread but the worker that calls Chroma is stopped right after it has the answer, until the first operation is
    over. That is the worst moment for a thread that caches the answer.
    """

    def __init__(self, store: ChromaStore, patch: pytest.MonkeyPatch) -> None:
        self._store = store
        self._over = threading.Event()
        self._begun = threading.Event()
        self._thread: threading.Thread | None = None
        self._other: Callable[[], None] = lambda: None
        self._stop_at = -1
        self.calls = 0
        self.strangers: list[str] = []
        worker = store.worker.submit(threading.current_thread).result()
        for name in CALLS:
            patch.setattr(Collection, name, self._stopping(getattr(Collection, name), worker))
        submit = store.worker.submit

        def noted(*args: Any, **kwargs: Any) -> Any:
            future = submit(*args, **kwargs)
            if threading.current_thread() is self._thread:
                self._begun.set()
            return future

        patch.setattr(store.worker, "submit", noted)

    def _stopping(self, call: Callable[..., Any], worker: threading.Thread) -> Callable[..., Any]:
        def stopped(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is worker:
                if self.calls == self._stop_at:
                    self._begin()
                self.calls += 1
                return call(*args, **kwargs)
            answer = call(*args, **kwargs)
            self.strangers.append(call.__name__)
            self._begun.set()
            assert self._over.wait(PATIENCE)
            return answer

        return stopped

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
            assert self._begun.wait(PATIENCE)

    def _run(self) -> None:
        self._other()
        self._begun.set()

    def run(self, first: Callable[[], Any], other: Callable[[], Any], stop_at: int) -> tuple[Any, Any] | None:
        """Run both operations, and return their answers. None if the first one makes fewer calls than `stop_at`."""
        answers: list[Any] = []
        self._stop_at = stop_at
        self._other = lambda: answers.append(_answer(other))
        answer = _answer(first)
        if self._thread is None:
            return None
        self._over.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return answer, answers[0]


def _answer(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except StoreError as error:
        assert "is closed" in str(error)
        return "closed"


def filled(store: ChromaStore, clock: Clock) -> Model:
    """Put one record without expiry, one with half its time to live left and one expired, and return the first two."""
    values = {key: {"x": f"{key} x", "y": f"{key} y"} for key in ("kept", "worn", "over")}
    for key, value in values.items():
        store.put(OLD, key, value, index=["x", "y"], ttl={"kept": None, "worn": 30, "over": 10}[key])
    clock.pass_for(store, 15)
    return {(*OLD, key): values[key] for key in ("kept", "worn")}


def durable(store: ChromaStore) -> list[Any]:
    """Return the records that a new store would load."""

    def read() -> list[Any]:
        anew = LocalBackend(store.connection, DIMENSION)
        anew.take_over()
        return anew.records(())

    return store.worker.submit(read).result()


def serial(model: Model, *steps: Callable[[Model], Any]) -> tuple[Model, list[Any]]:
    copy = dict(model)
    return copy, [step(copy) for step in steps]


@contextmanager
def interleaving(store: ChromaStore) -> Iterator[Interleaving]:
    with pytest.MonkeyPatch.context() as patch:
        yield Interleaving(store, patch)


PAIRS = [(first, other, 20_000) for first in FIRST for other in OTHER]
# A limit of 0 makes a search by text use Chroma's index.
PAIRS += [(first, other, 0) for first in ("first put", "put") for other in ("search by text", "put", "put kept")]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "other", "exact_limit"), PAIRS)
def test_whatever_comes_amid_an_operation_comes_before_or_after_it(
    first: str, other: str, exact_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    one, two = FIRST[first], OTHER[other]
    stop_at = 0
    while True:
        with chroma(exact_limit=exact_limit) as store:
            before = filled(store, clock)
            with interleaving(store) as running:
                answers = running.run(partial(one.ask, store), partial(two.ask, store), stop_at)
            if answers is None:
                break
            visible = {(*record.namespace, record.key): record.value for record in store.records()}
            after_one = serial(before, one.apply, two.apply)
            after_two = serial(before, two.apply, one.apply)
            allowed = [
                (after_one[0], tuple(after_one[1])),
                (after_two[0], tuple(reversed(after_two[1]))),
            ]
            assert (visible, answers) in allowed, stop_at
            assert [record for record in durable(store) if not record.expired] == store.records(), stop_at
            assert running.strangers == []
            for place, value in visible.items():
                for text in value.values():
                    found = store.search(place[:-1], query=text, limit=1)[0]
                    assert (found.key, found.score) == (place[-1], 1.0)
        stop_at += 1
    assert stop_at > 0


@pytest.mark.parametrize("read", ["get", "search", "search by text", "list namespaces"])
def test_a_read_that_begins_before_a_collection_exists_hides_nothing_of_it(
    read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    amid, go_on, written = threading.Event(), threading.Event(), threading.Event()
    with chroma() as store:
        put(OLD, "kept", "one").ask(store)
        worker = store.worker.submit(threading.current_thread).result()
        get_rows, answer, submit = Collection.get, Backend.answer, store.worker.submit

        def write() -> None:
            FIRST["first put"].ask(store)
            written.set()

        writer = threading.Thread(target=write, daemon=True)

        def stopped(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is worker:
                # The collection exists and is about to be loaded.
                amid.set()
                assert go_on.wait(PATIENCE)
                return get_rows(*args, **kwargs)
            rows = get_rows(*args, **kwargs)
            go_on.set()
            assert written.wait(PATIENCE)
            return rows

        def late(*args: Any) -> Any:
            if not writer.ident:
                writer.start()
                assert amid.wait(PATIENCE)
            return answer(*args)

        def queued(*args: Any, **kwargs: Any) -> Any:
            future = submit(*args, **kwargs)
            if threading.current_thread() is not writer:
                go_on.set()
            return future

        with monkeypatch.context() as patch:
            patch.setattr(Collection, "get", stopped)
            patch.setattr(Backend, "answer", late)
            patch.setattr(store.worker, "submit", queued)
            OTHER[read].ask(store)
            go_on.set()
            writer.join(PATIENCE)
        item = store.get(NEW, "k")
        assert item and store.list_namespaces() == [OLD, NEW]
        store.delete(NEW, "k")
        assert [record.key for record in durable(store)] == ["kept"]


@pytest.mark.parametrize("first", [*FIRST, "get kept", "search", "search kept by text", "list namespaces"])
def test_what_is_acknowledged_before_a_close_amid_it_is_kept(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    one = (FIRST | OTHER)[first]
    stop_at = 0
    while True:
        store = chroma(tmp_path / str(stop_at))
        before = filled(store, clock)
        store.worker.submit(store.backend.drop_caches).result()
        with interleaving(store) as running:
            answers = running.run(partial(one.ask, store), store.close, stop_at)
        store.close()
        if answers is None:
            break
        done, (answer,) = serial(before, one.apply)
        with chroma(tmp_path / str(stop_at)) as again:
            kept = {(*record.namespace, record.key): record.value for record in again.records()}
        assert answers[0] in (answer, "closed")
        assert kept in ([done] if answers[0] == answer else [done, before])
        stop_at += 1
    assert stop_at > 0


def test_a_failed_write_leaves_no_cache_that_a_reader_had_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    with chroma() as store:
        store.put(OLD, "k", {"x": "former"}, index=["x"])
        upsert = Collection.upsert

        def half(self: Collection, **rows: Any) -> None:
            upsert(self, **rows)
            assert store.get(OLD, "k")
            raise OSError("the disk is gone")

        with monkeypatch.context() as patch, pytest.raises(StoreError, match="the disk is gone"):
            patch.setattr(Collection, "upsert", half)
            store.put(OLD, "k", {"x": "new"}, index=["x"])
        # Chroma has stored the record, so reads must find it.
        item = store.get(OLD, "k")
        assert item and item.value == {"x": "new"}
        assert store.search(OLD, query="new")[0].score == 1.0


class WatchedLock:
    """Lock that sets an event if a thread has to wait for it, or has had it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reached = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.reached.set()
            self._lock.acquire()

    def __exit__(self, *args: object) -> None:
        self._lock.release()


A, B = ("a", "x"), ("b", "x")
TWO_STEPS: dict[str, tuple[list[PutOp], Operation, str, list[PutOp], list[Any]]] = {
    "loses its vectors": (
        [PutOp(OLD, "k", {"x": "one"})],
        search(OLD, "one"),
        "unindexed",
        [PutOp(OLD, "k", {"x": "two"}, False)],
        [[(*OLD, "k")]],
    ),
    "gains vectors": (
        [PutOp(OLD, "k", {"x": "one"}, False)],
        search(OLD, "one"),
        "unindexed",
        [PutOp(OLD, "k", {"x": "two"})],
        [[(*OLD, "k")]],
    ),
    "search of several collections": (
        [PutOp(A, "0", {}), PutOp(B, "0", {})],
        search((), None),
        "listed",
        [PutOp(A, "1", {}), PutOp(B, "1", {})],
        [[(*A, "0"), (*B, "0")], [(*A, "0"), (*A, "1"), (*B, "0")]],
    ),
    "namespaces of several collections": (
        [PutOp(A, "0", {}), PutOp(B, "0", {})],
        LIST,
        "namespaces",
        [PutOp((*A, "new"), "1", {}), PutOp((*B, "new"), "1", {})],
        [[A, B], [A, (*A, "new"), B]],
    ),
}
"""Records, a read of several steps, the method of its last step, writes right before that, and the right answers."""


@pytest.mark.parametrize("case", TWO_STEPS)
def test_a_read_of_several_steps_sees_one_moment(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held, read, step, writes, allowed = TWO_STEPS[case]
    watched = WatchedLock()
    with chroma() as store:
        for op in held:
            store.batch([op])
        read.ask(store)
        last = getattr(RecordCache, step)
        calls, all_written = [0], threading.Event()

        def write() -> None:
            for op in writes:
                store.batch([op])
            all_written.set()
            watched.reached.set()

        writer = threading.Thread(target=write, daemon=True)

        def late(*args: Any) -> Any:
            calls[0] += 1
            if calls[0] == (1 if step == "unindexed" else 2):
                writer.start()
                assert watched.reached.wait(PATIENCE)
            return last(*args)

        with monkeypatch.context() as patch:
            patch.setattr(store.backend, "unchanging", watched, raising=False)
            patch.setattr(RecordCache, step, late)
            assert read.ask(store) in allowed
        writer.join(PATIENCE)
        assert all_written.is_set()


def test_collections_that_others_delete_meanwhile_hide_none(monkeypatch: pytest.MonkeyPatch) -> None:
    other = chroma()
    with chroma() as store:
        for one in (other, store):
            one.batch([PutOp(("user", str(number)), "k", {}) for number in range(80)])
        names = store.connection.collection_names()
        list_collections = Client.list_collections

        def late(self: Client, *args: Any, **kwargs: Any) -> Any:
            page = list_collections(self, *args, **kwargs)
            monkeypatch.undo()
            other.close()
            return page

        monkeypatch.setattr(Client, "list_collections", late)
        assert len(names) == 81 and sorted(store.connection.collection_names()) == sorted(names)
