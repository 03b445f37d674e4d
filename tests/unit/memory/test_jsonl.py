"""Memory records as JSON lines: every export can be imported, and invalid lines are rejected."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.base import PutOp
from pydantic import ValidationError

from memory.jsonl import RecordLine, check_vectors, exported, kept
from memory.recall import write_ops
from memory.records import Lesson, Value, escape, record, unescape
from memory.store import ChromaStore
from tests.stores import DIMENSION, FakeEmbeddings

TIME = "2026-01-02T03:04:05.678901+00:00"
GOOD: dict[str, Any] = {
    "namespace": ["notes", "tiny", "ann"],
    "key": "k",
    "value": {"text": "a"},
    "created_at": TIME,
    "updated_at": TIME,
    "embedded": ["text"],
}
UNIT = [1.0] + [0.0] * (DIMENSION - 1)
VECTORS = {"embedding": "fake", "vectors": [UNIT]}
VALUE = {"visit": "v", "user_id": "ann", "situation": "s", "distance": None, "target": 1.0}


class Dumb(FakeEmbeddings):
    """Embedding that must not be called."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise AssertionError(f"asked for {texts}")


@pytest.fixture
def store() -> Iterator[ChromaStore]:
    with ChromaStore(embeddings=FakeEmbeddings()) as store:
        yield store


def lines_of(store: ChromaStore, with_vectors: bool) -> list[str]:
    return [json.dumps(one) for one in exported(store, store.records(), with_vectors=with_vectors)]


def taken_in(lines: list[str], embeddings: FakeEmbeddings, recompute: bool = False) -> ChromaStore:
    other = ChromaStore(embeddings=embeddings)
    other.restore(kept(RecordLine.model_validate_json(one), recompute=recompute, dimension=DIMENSION) for one in lines)
    return other


def vectors_of(store: ChromaStore) -> list[bytes]:
    return [vectors.tobytes() for vectors in store.vectors(store.records())]


def fill(store: ChromaStore) -> None:
    lesson = Lesson(visit="v", user_id="a.b%", situation="s", text="keep apart", length=3, total_reward=9.5)
    value = Value(visit="v", user_id="", situation="one\ntwo", distance=None, target=-5.0)
    store.batch([*write_ops("tiny", [record(lesson, 3), record(value, 0)])])
    store.batch(
        [
            PutOp(("profiles", "people:tiny", "ann"), "profile", {"text": "ü\u2028", "ratings": {"1": 4.5}}, False),
            PutOp(("notes",), "whole", {"deep": {"list": [1, None, 0.1]}}),
        ]
    )


@pytest.mark.parametrize("with_vectors", [True, False])
def test_what_goes_out_comes_in_again(store: ChromaStore, with_vectors: bool) -> None:
    fill(store)
    lines = lines_of(store, with_vectors)
    assert [json.loads(one)["embedded"] for one in lines] == [["text", "situation"], ["$"], [], ["situation"]]
    with taken_in(lines, Dumb() if with_vectors else FakeEmbeddings()) as other:
        assert lines_of(other, True) == lines_of(store, True)
        assert vectors_of(other) == vectors_of(store)
        assert [one.item() for one in other.records()] == [one.item() for one in store.records()]
        assert len(vectors_of(other)[0]) == 2 * DIMENSION * 4 and vectors_of(other)[2] == b""
        found = other.search(("lessons",), query="keep apart")
        assert found[0].score == 1.0 and found[0].created_at == store.records()[0].created_at


def test_vectors_are_taken_as_they_stand_unless_they_are_to_be_computed_anew() -> None:
    line = json.dumps(GOOD | VECTORS)
    with taken_in([line], FakeEmbeddings()) as other:
        assert np.frombuffer(vectors_of(other)[0], dtype=np.float32).tolist() == UNIT
    with taken_in([line], FakeEmbeddings(), recompute=True) as other:
        assert other.search(("notes",), query="a")[0].score == 1.0


@given(value=st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.booleans() | st.integers() | st.text()
       | st.floats(allow_nan=False, allow_infinity=False), st.lists, max_leaves=5), max_size=4),
       key=st.text(min_size=1, max_size=20), user=st.text(max_size=20))  # fmt: skip
@settings(max_examples=50)
def test_any_record_survives(value: dict[str, Any], key: str, user: str) -> None:
    with ChromaStore(embeddings=FakeEmbeddings()) as store:
        label = escape(user.replace("\x00", ""))
        store.put(("notes", label), key, value)
        with taken_in(lines_of(store, True), Dumb()) as other:
            assert [one.item() for one in other.records()] == [one.item() for one in store.records()]


@given(st.text())
def test_labels_are_read_back(text: str) -> None:
    assert unescape(escape(text)) == text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"namespace": []}, "namespace"),
        ({"namespace": ["a", "b.c"]}, "namespace.1"),
        ({"namespace": ["a", ""]}, "namespace.1"),
        ({"namespace": ["a", "nul\0"]}, "namespace.1"),
        ({"namespace": ["a", "x" * 3_000]}, "namespace.1"),
        ({"namespace": ["a"] * 11}, "namespace"),
        ({"namespace": ["langgraph", "x"]}, "reserved"),
        ({"key": ""}, "key"),
        ({"value": [1]}, "value"),
        ({"value": {"a": float("nan")}}, "not finite"),
        ({"created_at": "2026-01-02T03:04:05"}, "created_at"),
        ({"updated_at": "yesterday"}, "updated_at"),
        ({"path": "/etc/passwd"}, "path"),
        ({"embedded": ["text"] * 51}, "embedded"),
        ({"vectors": [UNIT]}, "name of their embedding"),
        (VECTORS | {"vectors": [UNIT, UNIT]}, "2 vectors for 1 texts"),
        (VECTORS | {"embedded": ["text", "more"], "value": {"text": "a", "more": "b"}, "vectors": [UNIT, UNIT[1:]]},
         "differ"),
        ({"namespace": ["values", "tiny"], "value": VALUE}, "kind, space and user"),
        ({"namespace": ["values", "tiny", "bob"], "value": VALUE}, "the namespace another one"),
        ({"namespace": ["values", "tiny", "ann"], "value": VALUE | {"target": "high"}}, "value.target"),
        ({"namespace": ["lessons", "tiny", "ann"], "value": VALUE}, "value."),
    ],
)  # fmt: skip
def test_what_no_memory_wrote_is_refused(changes: dict[str, Any], words: str) -> None:
    RecordLine.model_validate_json(json.dumps(GOOD))
    with pytest.raises(ValidationError, match=words):
        RecordLine.model_validate_json(json.dumps(GOOD | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embedding": "other"}, "by the embedding other .* this memory uses fake .*--recompute"),
        ({"vectors": [UNIT[1:]]}, "15 dimensions"),
        ({"vectors": [[2.0, *UNIT[1:]]]}, "not of length 1"),
        ({"vectors": [[1e38] * DIMENSION]}, "not of length 1"),
    ],
)
def test_vectors_that_are_not_this_memorys_are_refused(changes: dict[str, Any], words: str) -> None:
    check_vectors(RecordLine.model_validate(GOOD | VECTORS), "fake", DIMENSION)
    check_vectors(RecordLine.model_validate(GOOD), "fake", DIMENSION)
    with pytest.raises(ValueError, match=words):
        check_vectors(RecordLine.model_validate(GOOD | VECTORS | changes), "fake", DIMENSION)


def test_what_is_taken_in_keeps_the_time_of_its_creation_when_it_is_replaced(tmp_path: Path) -> None:
    line = RecordLine.model_validate(GOOD)
    with ChromaStore(tmp_path / "m", embeddings=FakeEmbeddings()) as store:
        store.restore([kept(line, recompute=False, dimension=DIMENSION)])
        store.put(("notes", "tiny", "ann"), "k", {"text": "b"}, index=["text"])
        changed = store.records()[0]
        assert changed.created_at.isoformat() == TIME and changed.updated_at.isoformat() > TIME
