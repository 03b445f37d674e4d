"""Features of `ChromaStore` beyond LangGraph's stores, on every kind of it."""

import asyncio
import doctest
import inspect
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import PutOp

from memory.chroma.errors import BadRecordError
from memory.chroma.layout import CHUNK
from memory.store import ChromaStore
from tests.processes import run
from tests.servers import serving_chroma
from tests.stores import DIMENSION

ROOT = Path(__file__).parents[2]


def test_former_vectors_are_gone_after_a_replacement(ours: ChromaStore) -> None:
    ours.put(("a", "b"), "k", {"x": "red", "y": "blue"}, index=["x", "y"])
    ours.put(("a", "b"), "k", {"x": "green"}, index=["x"])
    assert [item.score == 1.0 for item in ours.search(("a", "b"), query="blue")] == [False]
    assert [item.score for item in ours.search(("a", "b"), query="green")] == [1.0]
    ours.put(("a", "b"), "k", {"x": "green"}, index=False)
    assert [item.score for item in ours.search(("a", "b"), query="green")] == [None]


def test_records_are_handed_out_and_taken_back_as_they_are_kept(ours: ChromaStore) -> None:
    ours.put(("a", "b", "v"), "two", {"x": "red", "y": "blue"}, index=["x", "y"])
    ours.put(("a", "b", "u"), "none", {"x": "green"}, index=False)
    ours.put(("a", "c"), "one", {"x": "green"})
    records = ours.records()
    assert [one.key for one in records] == ["none", "two", "one"] and ours.records(("a", "c")) == records[2:]
    vectors = ours.vectors(records)
    assert [one.shape for one in vectors] == [(0, DIMENSION), (2, DIMENSION), (1, DIMENSION)]
    kept = [one.kept(own) for one, own in zip(records, vectors, strict=True)]
    ours.batch([PutOp(one.namespace, one.key, None) for one in records])
    assert ours.records() == [] and [len(one) for one in ours.vectors(records)] == [0, 0, 0]
    ours.restore(kept)
    again = ours.records()
    assert [one.item() for one in again] == [one.item() for one in records]
    assert [one.tobytes() for one in ours.vectors(again)] == [one.tobytes() for one in vectors]
    assert ours.search(("a", "b"), query="blue")[0].score == 1.0


def test_ties_come_by_namespace_and_key(ours: ChromaStore) -> None:
    places = [(user, key) for user in ("u2", "u1", "u3") for key in ("b", "a")]
    for user, key in places:
        ours.put(("t", "x", user), key, {"text": "same", "of": user}, index=["text"])
    found = ours.search(("t", "x"), query="same", limit=4)
    assert [(item.namespace[2], item.key) for item in found] == sorted(places)[:4]


def test_lone_surrogates_are_kept(ours: ChromaStore) -> None:
    ours.put(("s", "\ud800"), "\udfff", {"text": "\ud800"})
    found = ours.search(("s",), query="\ud800")
    assert [(item.namespace, item.key, item.value) for item in found] == [
        (("s", "\ud800"), "\udfff", {"text": "\ud800"})
    ]


def test_what_is_no_json_is_refused_and_nothing_written(ours: ChromaStore) -> None:
    with pytest.raises(BadRecordError, match="JSON types only"):
        ours.batch([PutOp(("a", "b"), "good", {}), PutOp(("a", "b"), "bad", {"x": object()}, False)])
    assert ours.search(()) == []


async def test_writes_from_many_tasks_all_arrive(ours: ChromaStore) -> None:
    async def write(task: int) -> None:
        await ours.abatch(
            [PutOp(("c", "x", f"u{task}"), str(n), {"a": f"{task}", "b": f"{n}"}, ["a", "b"]) for n in range(15)]
        )
        # All tasks write this record: at the end it must be complete, whichever write came last.
        await ours.aput(("c", "x", "all"), "shared", {"a": f"red {task}", "b": f"blue {task}"}, ["a", "b"])

    await asyncio.gather(*(write(task) for task in range(4)))
    assert len(await ours.asearch(("c", "x"), limit=99)) == 61
    shared = await ours.aget(("c", "x", "all"), "shared")
    assert shared
    for text in shared.value.values():
        assert (await ours.asearch(("c", "x", "all"), query=text))[0].score == 1.0


@pytest.fixture
def own_url(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty server, since the shared test server is bound to another embedding."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving_chroma(tmp_path_factory.mktemp("chroma")) as server:
        yield server.url


SLOW = PutOp(("a", "b"), "k", {"text": "slow"})
QUICK = PutOp(("a", "b"), "k", {"text": "quick"})
BAD = PutOp(("a", "b"), "k", {"text": "slow bad"})
DELETE = PutOp(("a", "b"), "k", None)
MANY = [PutOp(("a", "b"), f"k{number}", {"text": "quick"}) for number in range(2 * CHUNK)]

CONCURRENT: dict[str, tuple[list[list[PutOp]], set[int], str | None]] = {
    "put": ([[SLOW], [QUICK]], set(), "quick"),
    "delete": ([[SLOW], [DELETE]], set(), None),
    "put after delete": ([[SLOW], [DELETE], [QUICK]], set(), "quick"),
    "put of a long batch": ([[*MANY, QUICK], [QUICK._replace(value={"text": "newer"})]], set(), "newer"),
    "long batch": ([[SLOW], [QUICK, *MANY]], set(), "quick"),
    "failed call": ([[BAD], [QUICK]], set(), "quick"),
    "failed call in between": ([[SLOW], [BAD], [QUICK]], set(), "quick"),
    "cancelled call": ([[SLOW], [QUICK]], {0}, "quick"),
    "cancelled call in between": ([[SLOW], [SLOW], [DELETE]], {1}, None),
    "cancelled last call": ([[SLOW], [QUICK]], {1}, "slow"),
}
"""Calls in the order in which they are made, the numbers of those to cancel, and the text that remains."""


@pytest.mark.parametrize("case", CONCURRENT)
async def test_the_last_of_concurrent_calls_for_a_record_wins(
    ours: ChromaStore, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def embed(texts: list[str]) -> list[list[float]]:
        for _ in range(50 if any("slow" in text for text in texts) else 0):
            await asyncio.sleep(0)
        if any("bad" in text for text in texts):
            raise ConnectionError
        return ours.embeddings.embed_documents(texts)

    monkeypatch.setattr(ours.embeddings, "aembed_documents", embed)
    made, cancelled, remains = CONCURRENT[case]
    calls: list[asyncio.Task[Any]] = [asyncio.create_task(ours.abatch(ops)) for ops in made]
    await asyncio.sleep(0)
    for number in cancelled:
        calls[number].cancel()
    for number, call in enumerate(calls):
        with suppress(ConnectionError, asyncio.CancelledError):
            await call
        assert call.cancelled() == (number in cancelled)
    item = await ours.aget(("a", "b"), "k")
    assert (item and item.value["text"]) == remains


async def test_concurrent_calls_for_other_records_do_not_wait(
    ours: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_embed = asyncio.Event()

    async def embed(texts: list[str]) -> list[list[float]]:
        if any("slow" in text for text in texts):
            await may_embed.wait()
        return ours.embeddings.embed_documents(texts)

    monkeypatch.setattr(ours.embeddings, "aembed_documents", embed)
    waiting = asyncio.create_task(ours.abatch([SLOW]))
    await asyncio.sleep(0)
    await ours.aput(("a", "b"), "other", {"text": "quick"})
    await asyncio.to_thread(ours.put, ("a", "b"), "k", {"text": "of another thread"})
    may_embed.set()
    await waiting
    assert {item.key: item.value["text"] for item in await ours.asearch(("a", "b"))} == {"k": "slow", "other": "quick"}


def test_the_examples_of_its_documentation_run_as_they_stand(
    tmp_path: Path, own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (inspect.getdoc(ChromaStore) or "").replace("http://127.0.0.1:8000", own_url)
    examples = doctest.DocTestParser().get_doctest(text, {"ChromaStore": ChromaStore}, "ChromaStore", None, 0)
    said: list[str] = []
    results = doctest.DocTestRunner().run(examples, out=said.append)
    assert results.failed == 0, "".join(said)
    assert results.attempted >= 7
    assert [path.name for path in tmp_path.iterdir()] == ["my-memory"]


def test_the_example_for_other_projects_runs_as_it_stands(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "memory.md").read_text(encoding="utf-8"), re.DOTALL)
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run([sys.executable, "-c", code], cwd=tmp_path, env=here)
    assert done.stdout == "{'text': 'likes tea'}\n", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["my-memory"]
