"""`ChromaStore` on a real Chroma server, shared by several stores."""

import asyncio
import json
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import chromadb
import httpx
import pytest
from chromadb.api.models.Collection import Collection
from langgraph.store.base import PutOp

from memory.chroma.errors import BadRecordError, BadStoreError, StoreError
from memory.store import ChromaStore
from tests.servers import serving_chroma
from tests.stores import FakeEmbeddings, chroma


@pytest.fixture
def store(chroma_url: str) -> Iterator[ChromaStore]:
    with chroma(chroma_url) as store:
        store.batch([PutOp(item.namespace, item.key, None) for item in store.search((), limit=10_000)])
        yield store


def test_stores_on_one_server_see_each_others_writes(store: ChromaStore, chroma_url: str) -> None:
    with chroma(chroma_url) as other:
        store.put(("a", "b", "u"), "k", {"x": "red", "y": "blue"}, index=["x", "y"])
        assert other.search(("a", "b"), query="blue")[0].score == 1.0
        other.put(("a", "b", "u"), "k", {"x": "green", "y": "white"}, index=["x", "y"])
        found = store.search(("a", "b"), query="white")
        assert [(item.value["x"], item.score) for item in found] == [("green", 1.0)]
        assert store.search(("a", "b"), query="blue")[0].score != 1.0
        other.delete(("a", "b", "u"), "k")
        assert store.search(()) == [] and store.list_namespaces() == []


@pytest.mark.slow
def test_search_is_exact_with_ties_by_key(store: ChromaStore) -> None:
    store.batch([PutOp(("a", "b", f"u{n % 3}"), f"{n:03d}", {"t": f"{n % 20}"}, ["t"]) for n in range(300)])
    found = store.search(("a", "b"), query="7", limit=6)
    expected = sorted((f"u{n % 3}", f"{n:03d}") for n in range(300) if n % 20 == 7)[:6]
    assert [(item.namespace[2], item.key) for item in found] == expected
    found = store.search(("a", "b", "u1"), query="7", limit=3)
    assert [item.key for item in found] == [key for user, key in expected if user == "u1"][:3] or len(found) == 3
    assert {item.namespace[2] for item in found} == {"u1"} and [item.score for item in found] == [1.0] * 3


async def test_clients_that_write_one_record_at_once_leave_a_whole_one(store: ChromaStore, chroma_url: str) -> None:
    async with chroma(chroma_url) as other:
        for turn in range(5):
            await asyncio.gather(
                *(
                    client.aput(("a", "b"), "k", {"x": f"x{turn}{name}", "y": f"y{turn}{name}"}, ["x", "y"])
                    for name, client in (("one", store), ("other", other))
                )
            )
            item = await store.aget(("a", "b"), "k")
            assert item
            for text in item.value.values():
                found = await other.asearch(("a", "b"), query=text)
                assert [(one.key, one.score) for one in found] == [("k", 1.0)]


def test_another_embedding_is_refused(store: ChromaStore, chroma_url: str) -> None:
    with pytest.raises(BadStoreError, match="created with the embedding fake"):
        ChromaStore(chroma_url, embeddings=FakeEmbeddings("another"))


def test_credentials_are_sent_and_never_named(chroma_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with tempfile.TemporaryDirectory() as folder:
        with serving_chroma(Path(folder)) as own:
            store = chroma(own.url.replace("//", "//me:p%40ss@"))
            store.put(("a", "b"), "k", {})
        with pytest.raises(
            StoreError, match=rf"The memory at {own.url} failed \(.*\): check that the server runs"
        ) as caught:
            store.get(("a", "b"), "k")
        assert "p%40ss" not in str(caught.value) and "p@ss" not in str(caught.value)
        store.close()
        # After the server has ended, its data can be opened as a folder.
        with chroma(folder) as here:
            assert [item.key for item in here.search(("a",))] == ["k"]


@pytest.mark.parametrize(
    "known",
    [{"/api/v1/version": "0.4.24"}, {"/api/v2/version": "2.1.0"}],
    ids=["older", "newer"],
)
def test_a_server_of_another_major_version_is_named(known: dict[str, str]) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(known.get(self.path, {"detail": "Not Found"})).encode()
            self.send_response(200 if self.path in known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            (version,) = known.values()
            with pytest.raises(BadStoreError, match=rf"has version {version}: install version 1\.x there") as caught:
                chroma(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert "\n" not in str(caught.value)


async def test_large_records_that_are_put_at_once_are_kept_as_each_alone_is(store: ChromaStore) -> None:
    large = {f"large {n}": {"text": "x" * 5_000_000, "n": n} for n in range(9)}
    ops = [PutOp(("a", "b", "large"), key, value, False) for key, value in large.items()]
    await store.abatch([*ops, PutOp(("a", "b", "large"), "small", {"n": 9}, False)])
    await asyncio.gather(
        *(store.aput(("a", "b", "at once"), key, value, index=False) for key, value in large.items()),
        store.aput(("a", "b", "at once"), "small", {"n": 9}, index=False),
    )
    for label in ("large", "at once"):
        for key, value in (*large.items(), ("small", {"n": 9})):
            item = await store.aget(("a", "b", label), key)
            assert item and item.value == value


@pytest.mark.slow
async def test_a_record_too_large_for_the_server_is_named_and_takes_no_other_along(store: ChromaStore) -> None:
    huge = {"text": '"' * 25_000_000}
    waiting = [store.aput(("a", "b"), "huge", huge, index=False)]
    waiting += [store.aput(("a", "b"), f"{n}", {"n": n}, index=False) for n in range(5)]
    failed = await asyncio.gather(*waiting, return_exceptions=True)
    assert failed[1:] == [None] * 5
    assert isinstance(failed[0], BadRecordError) and "'huge' in ('a', 'b')" in str(failed[0])
    assert "put smaller values" in str(failed[0]) and "\n" not in str(failed[0])
    assert sorted(item.key for item in await store.asearch(("a", "b"))) == ["0", "1", "2", "3", "4"]


@pytest.mark.slow
def test_rows_that_a_server_takes_one_by_one_alone_are_written_so(
    store: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with a smaller size limit for requests than Chroma's, as behind a proxy."""
    upsert = Collection.upsert

    def strict(self: Collection, **rows: Any) -> None:
        if len(rows["ids"]) > 1 or "too much" in str(rows["metadatas"]):
            answer = httpx.Response(413, request=httpx.Request("POST", "http://proxy/"))
            answer.raise_for_status()
        upsert(self, **rows)

    monkeypatch.setattr(Collection, "upsert", strict)
    ops = [PutOp(("a", "b"), f"{n}", {"x": f"{n}", "y": f"more {n}"}, ["x", "y"]) for n in range(4)]
    with pytest.raises(BadRecordError, match=r"'5' in \('a', 'b'\)"):
        store.batch([*ops, PutOp(("a", "b"), "5", {"x": "too much"}, ["x"])])
    assert [item.key for item in store.search(("a", "b"))] == ["0", "1", "2", "3"]
    assert store.search(("a", "b"), query="more 2")[0].score == 1.0


def test_a_client_whose_server_lost_its_collections_works_again(store: ChromaStore, chroma_url: str) -> None:
    store.put(("a", "b"), "k", {"n": 1})
    host, port = chroma_url.removeprefix("http://").split(":")
    for step in (
        lambda: store.get(("a", "b"), "k"),
        lambda: store.search(("a", "b"), query="n") or None,
        lambda: store.search((), limit=5) or None,
        lambda: store.list_namespaces() or None,
        lambda: store.sweep_ttl() or None,
        lambda: store.put(("a", "b"), "k", {"n": 2}),
        lambda: store.delete(("a", "b"), "k"),
    ):
        store.put(("a", "b"), "before", {"n": 0})
        with chromadb.HttpClient(host, int(port)) as other:  # type: ignore[attr-defined]
            for collection in other.list_collections():
                other.delete_collection(collection.name)
        assert step() is None
        store.put(("a", "b"), "k", {"n": 3})
        item = store.get(("a", "b"), "k")
        assert item and item.value == {"n": 3}
        with pytest.raises(BadStoreError, match="created with the embedding fake"):
            ChromaStore(chroma_url, embeddings=FakeEmbeddings("another"))
