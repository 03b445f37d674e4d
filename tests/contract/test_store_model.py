"""Model test: any sequence of operations gives the same results on `ChromaStore` as on LangGraph's `InMemoryStore`."""

import tempfile
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, MatchCondition, Op, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from memory.search.filters import Namespace
from tests.stores import DIMENSION, Clock, FakeEmbeddings, chroma

LIVES: list[float | None] = [None, None, 5, 20]
WAITS = [3, 7]
PLACES: list[Namespace] = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "d"), ("x", "b")]
FILTERS: list[dict[str, Any] | None] = [None, {"n": 2}, {"n": {"$gte": 2}}, {"t": {"$ne": "red"}, "n": {"$lt": 3}}]
CONDITIONS = [
    None,
    (MatchCondition("prefix", ("a", "*")),),
    (MatchCondition("suffix", ("b",)),),
    (MatchCondition("prefix", ("*",)), MatchCondition("suffix", ("b", "*"))),
]

places = st.sampled_from(PLACES)
keys = st.sampled_from(["k1", "k2", "k3"])
values = st.fixed_dictionaries({"t": st.sampled_from(["red", "green", "blue", ""]), "n": st.integers(0, 3)})
indexes: st.SearchStrategy[Any] = st.sampled_from([None, False, ["t"]])


def puts(lives: list[float | None]) -> st.SearchStrategy[Op]:
    return st.builds(PutOp, places, keys, st.none() | values, indexes, st.sampled_from(lives))


reads: st.SearchStrategy[Op] = st.one_of(
    st.builds(GetOp, places, keys, st.booleans()),
    # A limit above all matches, since the two stores may order ties and listings differently.
    st.builds(
        SearchOp,
        st.sampled_from([(), ("a",), ("a", "b")]),
        st.sampled_from(FILTERS),
        st.just(99),
        st.just(0),
        st.sampled_from([None, "red"]),
        st.booleans(),
    ),
    st.builds(ListNamespacesOp, st.sampled_from(CONDITIONS), st.sampled_from([None, 1, 2]), st.just(99), st.just(0)),
)


def steps(lives: list[float | None]) -> st.SearchStrategy[list[Any]]:
    batch = st.lists(st.one_of(puts(lives), puts(lives), reads), min_size=1, max_size=4)
    others = ["reopen", *((*WAITS, "sweep") if any(lives) else ())]
    return st.lists(st.one_of(batch, batch, st.sampled_from(others)), max_size=12)


class Model:
    """`InMemoryStore` with two features it lacks: records expire, and empty namespaces disappear."""

    def __init__(self) -> None:
        self.store = InMemoryStore(index={"dims": DIMENSION, "embed": FakeEmbeddings()})
        self.lives: dict[tuple[Namespace, str], tuple[float, float]] = {}
        """Time to live in minutes, and minute of expiry."""
        self.minutes = 0.0

    def wait(self, minutes: float) -> None:
        self.minutes += minutes
        for (place, key), (_, until) in list(self.lives.items()):
            if until <= self.minutes:
                self.store.delete(place, key)
                del self.lives[place, key]

    def batch(self, ops: list[Op]) -> list[Any]:
        # Reads come first, since results are the stored items themselves and would change with a later write.
        results = [self._read(op) for op in ops]
        last = {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        for place, op in last.items():
            # Deleted first, since InMemoryStore would keep the vectors of the replaced record.
            self.store.delete(*place)
            self.store.batch([op])
            self.lives.pop(place, None)
            if op.ttl is not None and op.value is not None:
                self.lives[place] = (op.ttl, self.minutes + op.ttl)
        return results

    def _read(self, op: Op) -> Any:
        if isinstance(op, PutOp):
            return None
        if isinstance(op, ListNamespacesOp):
            held = {item.namespace for item in self.store.search((), limit=99)}
            (listed,) = self.store.batch([op._replace(max_depth=None)])
            meant: Any = listed
            return sorted({place[: op.max_depth] for place in meant if place in held})
        (result,) = self.store.batch([op])
        found: list[Any] = result if isinstance(result, list) else [result] if result else []
        for item in found if op.refresh_ttl else ():
            if (item.namespace, item.key) in self.lives:
                ttl, _ = self.lives[item.namespace, item.key]
                self.lives[item.namespace, item.key] = (ttl, self.minutes + ttl)
        return result


def place_of(item: Any) -> tuple[tuple[str, ...], str]:
    return item.namespace, item.key


def alike(ours: Any, theirs: Any) -> None:
    """Assert that both are the same result of a read. Scores may differ by rounding."""
    if isinstance(theirs, list) and theirs and not isinstance(theirs[0], tuple):
        ours, theirs = sorted(ours, key=place_of), sorted(theirs, key=place_of)
        assert [place_of(item) for item in ours] == [place_of(item) for item in theirs]
        assert [item.value for item in ours] == [item.value for item in theirs]
        assert [item.score for item in ours] == [item.score and pytest.approx(item.score, abs=1e-5) for item in theirs]
    elif theirs is None or isinstance(theirs, list):
        assert ours == theirs
    else:
        assert (ours.namespace, ours.key, ours.value) == (theirs.namespace, theirs.key, theirs.value)


def check_everything(store: BaseStore, model: Model) -> None:
    for prefix in ((), ("a",), ("a", "b"), ("a", "b", "c"), ("x",)):
        for filter_ in FILTERS:
            for query in (None, "red"):
                op = SearchOp(prefix, filter_, 99, 0, query, refresh_ttl=False)
                alike(store.batch([op])[0], model.batch([op])[0])
        ours, theirs = (one.search(prefix, query="red", limit=2, refresh_ttl=False) for one in (store, model.store))
        assert [item.score for item in ours] == [item.score and pytest.approx(item.score, abs=1e-5) for item in theirs]
    alike(store.list_namespaces(), model.batch([ListNamespacesOp()])[0])


def check(limit: int, done: list[Any]) -> None:
    """Run steps on a store in a folder and on the model, and compare the results of each step and the final records."""
    model = Model()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        store = chroma(folder, exact_limit=limit)
        try:
            for step in done:
                if isinstance(step, list):
                    for ours, theirs in zip(store.batch(step), model.batch(step), strict=True):
                        alike(ours, theirs)
                elif step == "reopen":
                    store.close()
                    store = chroma(folder, exact_limit=limit)
                elif step == "sweep":
                    store.sweep_ttl()
                else:
                    clock.passed += timedelta(minutes=step)
                    model.wait(step)
            check_everything(store, model)
        finally:
            store.close()


LIMITS = pytest.mark.parametrize("limit", [20_000, 2], ids=["cache", "index"])


@LIMITS
@settings(max_examples=12)
@given(done=steps([None]))
def test_any_sequence_of_operations_is_answered_as_by_langgraphs_store(limit: int, done: list[Any]) -> None:
    check(limit, done)


@LIMITS
@settings(max_examples=12)
@given(done=steps(LIVES))
def test_and_so_is_one_with_times_to_live(limit: int, done: list[Any]) -> None:
    check(limit, done)


@given(
    value=st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)),
    key=st.text(),
    label=st.text(min_size=1).filter(lambda text: "." not in text and "\x00" not in text),
)
@settings(max_examples=15)
def test_any_json_comes_back_as_it_was(value: dict[str, Any], key: str, label: str) -> None:
    with chroma() as store:
        store.put(("u", label), key, value)
        assert [(item.namespace, item.key, item.value) for item in store.search(())] == [(("u", label), key, value)]
