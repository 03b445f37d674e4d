"""`ChromaStore`: same answers as LangGraph's own store, durable records, rejected invalid records."""

import asyncio
import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from chromadb.api.models.Collection import Collection
from langgraph.store.base import BaseStore, PutOp

import memory.store
from memory.chroma.backend import Backend
from memory.chroma.errors import BadRecordError, BadStoreError, StoreError
from memory.chroma.layout import CHUNK, Chunk, is_main_row, value_text
from memory.search.scoring import exact_scores
from memory.store import ChromaStore, create_store
from tests.processes import line_of, run, started
from tests.stores import DIMENSION, FakeEmbeddings, chroma


@contextmanager
def script(body: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program in a process of its own, with the fakes of this file, while the block runs."""
    head = "import sys\nfrom tests.unit.memory.test_store import *\n"
    command = [sys.executable, "-c", head + textwrap.dedent(body), *args]
    # A pipe that stays open: an inherited input at its end would let a script that waits for input finish.
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started(command, signal.SIGKILL, cwd=Path(__file__).parents[3], text=True, **pipes) as process:
        yield process


def listing(store: BaseStore) -> list[tuple[Any, ...]]:
    return [
        (item.namespace, item.key, item.value, item.created_at, item.updated_at) for item in store.search((), limit=99)
    ]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "memory"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Disk of 6 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk])
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted: {mounted.stderr.strip()}")
    yield disk
    # Lazily, since Chroma's threads close their files a moment after Chroma is closed.
    run(["umount", "-l", disk], check=True)


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

            upsert = Collection.upsert

            def fail_at_main_rows(self: Collection, ids: list[str], **rows: Any) -> None:
                if any(map(is_main_row, ids)):
                    raise OSError("disk full")
                upsert(self, ids=ids, **rows)

            with (
                monkeypatch.context() as patch,
                pytest.raises(StoreError, match=r"failed \(disk full\): check that the disk has space"),
            ):
                patch.setattr(Collection, "upsert", fail_at_main_rows)
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
        with script(body, str(folder)) as writer:
            done = [line_of(writer) for _ in range(5)][-1]
        with chroma(folder) as store:
            records = store.search(("k", "w"), limit=1000)
            assert int(done) + 2 <= len(records)
            for record in records:
                for text in (record.value["many"][0], record.value["many"][29]):
                    found = store.search(("k", "w"), query=text, limit=1000)
                    assert record.key in {item.key for item in found if item.score == 1.0}


class TestExactness:
    def texts(self) -> list[str]:
        # Many records with equal texts give ties at the limit of the search.
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

    @pytest.mark.slow
    @pytest.mark.parametrize(("limit", "few"), [(20_000, 0), (100, 2_000), (100, 0)], ids=["cache", "few", "index"])
    def test_the_same_answer_in_any_order_and_process(
        self, folder: Path, limit: int, few: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("memory.chroma.local.FEW", few)
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
        with script(body, str(folder / "2"), str(limit)) as other:
            given_answers.append([[tuple(found) for found in answer] for answer in json.loads(line_of(other))])
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
        with script(body, str(folder)) as holder:
            assert line_of(holder) == "open"
            with pytest.raises(BadStoreError, match="in use by another process"):
                chroma(folder)
            assert holder.poll() is None
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
        with pytest.raises(BadStoreError, match="is not a folder"):
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

    @pytest.mark.slow
    def test_a_full_disk_is_named_and_takes_nothing_that_was_kept(self, small_disk: Path) -> None:
        kept = 0
        with (
            chroma(small_disk / "memory") as store,
            pytest.raises(StoreError, match=r"its disk has \d+ kB left, so free space"),
        ):
            for kept in range(5_000):
                store.put(("a", "b"), str(kept), {"text": f"text {kept}", "long": "x" * 5_000}, index=["text"])
        run(["mount", "-o", "remount,size=30m", small_disk], check=True)
        with chroma(small_disk / "memory") as store:
            store.put(("a", "b"), "after", {"text": "room again"}, index=["text"])
            keys = {item.key for item in store.search(("a", "b"), limit=9_999)}
            # The failed write may have been stored.
            assert {str(number) for number in range(kept)} | {"after"} <= keys <= {*map(str, range(kept + 1)), "after"}
            for text, key in ((f"text {kept - 1}", str(kept - 1)), ("room again", "after")):
                found = store.search(("a", "b"), query=text, limit=1)[0]
                assert (found.key, found.score) == (key, 1.0)

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


class Shares:
    """Shares of work between which the event loop may run other tasks.

    Args:
        patch: Patches that count the work; a store opened from now on is counted.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        """Rows of each call to Chroma, which blocks all threads, and "pause" for each pause of its thread."""
        self.prepared: Counter[int] = Counter()
        """Values turned into JSON, by pass of the loop."""
        self.embedded_by: set[int] = set()
        """Threads that embedded documents."""
        self._loop, self._passes = asyncio.get_running_loop(), 0
        write = Backend.write

        def noted_write(backend: Backend, chunk: Chunk) -> None:
            self.calls.append(len(chunk.main_rows) + len(chunk.vector_rows))
            write(backend, chunk)

        def noted_text(*args: Any) -> str:
            self.prepared[self._passes] += 1
            return value_text(*args)

        def pause(seconds: float) -> None:
            assert seconds > 0
            self.calls.append("pause")

        patch.setattr(Backend, "write", noted_write)
        patch.setattr(memory.store, "value_text", noted_text)
        patch.setattr("memory.writer.time", SimpleNamespace(sleep=pause))
        self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        self._passes += 1
        self._loop.call_soon(self._pass)

    def embeddings(self) -> FakeEmbeddings:
        """Return embeddings that note the threads in which they run."""

        class Noted(FakeEmbeddings):
            def embed_documents(_, texts: list[str]) -> list[list[float]]:  # noqa: N805
                self.embedded_by.add(threading.get_ident())
                return super().embed_documents(texts)

        return Noted()

    def check(self, rows: int) -> None:
        """Check that so many rows were written in small shares, and that the loop embedded none of them itself."""
        calls = [one for one in self.calls if isinstance(one, int)]
        assert sum(calls) == rows and max(calls) <= CHUNK
        assert self.calls[::2] == calls and {*self.calls[1::2]} == {"pause"}
        assert self.embedded_by and threading.get_ident() not in self.embedded_by


async def test_a_hundred_at_once_write_few_rows_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = Shares(monkeypatch)
    async with ChromaStore(folder, embeddings=shares.embeddings()) as store:
        put = [store.aput(("k", "w", f"u{n}"), "new", {"t": f"new {n}", "u": f"{n}"}, ["t", "u"]) for n in range(100)]
        await asyncio.gather(*put)
        assert len(await store.asearch(("k", "w"), limit=1000)) == 100
    shares.check(200)
    # Waiting writes join into one call.
    assert len(shares.calls) < 100


async def test_a_cohort_is_written_few_rows_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = Shares(monkeypatch)
    async with ChromaStore(folder, embeddings=shares.embeddings()) as store:
        await store.abatch([PutOp(("k", "w", f"u{n % 9}"), str(n), {"t": f"text {n}"}, ["t"]) for n in range(600)])
        assert len(await store.asearch(("k", "w"), limit=1000)) == 600
    shares.check(600)
    assert sum(shares.prepared.values()) == 600 and max(shares.prepared.values()) <= memory.store.PREPARED_AT_ONCE


async def test_no_two_reads_are_answered_in_one_pass_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inline(FakeEmbeddings):
        async def aembed_query(self, text: str) -> list[float]:
            return self.embed_query(text)

    loop, answer = asyncio.get_running_loop(), Backend.answer
    passes, seen = [0], []

    def count() -> None:
        passes[0] += 1
        loop.call_soon(count)

    def noted(self: Backend, *args: Any) -> Any:
        seen.append(passes[0])
        return answer(self, *args)

    monkeypatch.setattr(Backend, "answer", noted)
    async with ChromaStore(None, embeddings=Inline()) as store:
        await store.aput(("a", "b"), "k", {"t": "red"})
        count()
        await asyncio.gather(*(store.asearch(("a", "b"), query=f"{n}") for n in range(50)))
    assert len(seen) == 50 and len(set(seen)) == 50


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
        # The last user has closed it, so the folder can be opened again.
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
