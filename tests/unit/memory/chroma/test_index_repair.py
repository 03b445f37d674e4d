"""Index repair: an unreadable index is rebuilt from the records, even if a kill interrupts the repair."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.api.collection_configuration import CreateCollectionConfiguration
from chromadb.errors import InternalError
from langgraph.store.base import PutOp

from memory.chroma import backend
from memory.chroma.errors import BadStoreError, StoreError
from memory.chroma.index_repair import OPEN_MARK, TO_REBUILD
from memory.store import ChromaStore
from tests.processes import run
from tests.stores import DIMENSION, FakeEmbeddings, chroma

ROOT = Path(__file__).resolve().parents[4]
RECORDS = 150
WHERE = ("notes", "w", "ann")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Memory with its index in files: records with zero, one or two vectors, and a vector row without a record."""
    folder = tmp_path_factory.mktemp("built") / "memory"
    often: CreateCollectionConfiguration = {"hnsw": {"space": "ip", "batch_size": 50, "sync_threshold": 50}}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backend, "INDEX", often)
        with chroma(folder) as store:
            for number in range(RECORDS):
                store.put(WHERE, str(number), {"texts": texts(number), "other": "x"}, index=["texts[*]"])
            store.put(("other", "w"), "1", {"text": "elsewhere"}, index=["text"])
            left = "f" * 32
            store.backend.table(WHERE[:2]).upsert(
                ids=[f"{left}-t-1"], embeddings=[1.0] * DIMENSION, metadatas=[{"owner": left}]
            )
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "memory"))


def texts(number: int) -> list[str]:
    return [f"{number}/{part}" for part in range(number % 3)]


def whole(store: ChromaStore) -> bool:
    """Return whether every record exists, each text finds its own record with score 1, and the vectors are complete."""
    found: dict[str, Any] = {item.key: item.value for item in store.search(WHERE, limit=999)}
    assert found == {str(number): {"texts": texts(number), "other": "x"} for number in range(RECORDS)}
    for number in range(RECORDS):
        for text in texts(number):
            best, second = store.search(WHERE, query=text, limit=2)
            assert (best.key, best.score) == (str(number), 1.0) and second.score is not None and second.score < 1.0
    assert store.search(("other",), query="elsewhere")[0].score == 1.0
    return sum(len(vectors) for vectors in store.vectors(store.records(WHERE))) == sum(
        len(texts(number)) for number in range(RECORDS)
    )


def index_of(folder: Path) -> Path:
    return max(folder.glob("*/data_level0.bin"), key=lambda file: file.stat().st_size).parent


def damaged(folder: Path, file: str, part: float) -> None:
    """Truncate a file of the index to a part of its size, and leave the folder marked as open, as a kill does."""
    cut = index_of(folder) / file
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * part)])
    (folder / OPEN_MARK).touch()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("header.bin", 0.5),
        ("data_level0.bin", 0.0),
        ("data_level0.bin", 0.5),
        ("data_level0.bin", 0.95),
        ("link_lists.bin", 0.0),
        ("link_lists.bin", 0.5),
        ("index_metadata.pickle", 0.5),
    ],
)
def test_an_unreadable_index_is_made_anew_and_said(
    folder: Path, file: str, part: float, caplog: pytest.LogCaptureFixture
) -> None:
    damaged(folder, file, part)
    with chroma(folder) as store:
        assert whole(store)
        # By now the vector row without a record is deleted.
        rows = [row for labels in store.backend.labels_of_all() for row in store.backend.table(labels).get()["ids"]]
        assert len(rows) > RECORDS and not any("-t-" in row for row in rows)
        store.put(WHERE, "0", {"texts": ["new"], "other": "x"}, index=["texts[*]"])
        assert store.search(WHERE, query="new")[0].score == 1.0
    (said,) = caplog.messages
    assert f"The index of the memory in {folder} is unreadable" in said and "are computed again" in said
    caplog.clear()
    with chroma(folder) as store:
        assert store.search(WHERE, query="new")[0].score == 1.0
    assert not caplog.messages and not {OPEN_MARK, TO_REBUILD} & {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("closed", [True, False])
def test_a_torn_size_makes_no_file_of_gigabytes(folder: Path, closed: bool, caplog: pytest.LogCaptureFixture) -> None:
    links = index_of(folder) / "link_lists.bin"
    before = links.stat().st_size
    content = bytearray(links.read_bytes())
    # As found after a real kill: another number in place of the size of an element's links.
    content[:4] = (1_353_687_424).to_bytes(4, "little")
    links.write_bytes(content)
    if not closed:
        (folder / OPEN_MARK).touch()
    with chroma(folder) as store:
        assert whole(store)
        store.batch([PutOp(WHERE, str(number), {"texts": texts(number), "other": "x"}) for number in range(RECORDS)])
    assert all(file.stat().st_size < 2 * before for file in folder.glob("*/link_lists.bin"))
    assert len(caplog.messages) == 1


def test_one_index_of_several_is_made_anew(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with chroma(folder) as store:
        store.batch([PutOp(("more", "w"), str(number), {"text": f"more {number}"}, ["text"]) for number in range(60)])
    damaged(folder, "data_level0.bin", 0.0)
    with chroma(folder) as store:
        assert whole(store) and store.search(("more",), query="more 7")[0].key == "7"
    assert len(caplog.messages) == 1


def test_after_a_kill_an_index_that_is_whole_stays(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / OPEN_MARK).touch()
    with chroma(folder) as store:
        assert whole(store)
    assert not caplog.messages


class Failing(FakeEmbeddings):
    """Embedding that fails at its second call, like a process killed between the two."""

    calls = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("killed")
        return super().embed_documents(texts)


def test_mending_that_was_interrupted_begins_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory.chroma.index_repair.ROWS_AT_ONCE", 40)
    damaged(folder, "data_level0.bin", 0.5)
    with pytest.raises(StoreError, match="killed"):
        ChromaStore(folder, embeddings=Failing())
    assert (folder / TO_REBUILD).exists()
    with chroma(folder) as store:
        assert whole(store)


def test_the_index_of_another_chroma_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    client = chromadb.PersistentClient(folder)
    theirs = client.create_collection("m-" + "0" * 32, configuration={"hnsw": {"sync_threshold": 10, "batch_size": 5}})
    theirs.upsert(ids=[str(number) for number in range(30)], embeddings=np.eye(30, dtype=np.float32))
    client.close()  # type: ignore[attr-defined]
    damaged(folder, "header.bin", 0.5)
    with pytest.raises(BadStoreError, match="holds other collections"):
        chroma(folder)
    assert index_of(folder).exists() and not (folder / TO_REBUILD).exists()


def test_after_a_failure_of_chroma_the_next_opening_looks_at_its_indexes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise InternalError("database or disk is full")

    with chroma(folder) as store:
        with monkeypatch.context() as patched:
            patched.setattr("chromadb.api.models.Collection.Collection.upsert", full)
            with pytest.raises(StoreError, match="disk is full"):
                store.put(WHERE, "0", {"texts": ["new"]}, index=["texts[*]"])
        index = index_of(folder) / "index_metadata.pickle"
    index.write_bytes(index.read_bytes()[:-9])
    with chroma(folder) as store:
        assert whole(store)
    assert len(caplog.messages) == 1 and not (folder / OPEN_MARK).exists()


def test_a_check_that_somebody_stops_condemns_no_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / OPEN_MARK).touch()
    stopped = subprocess.CompletedProcess[str]([], -signal.SIGINT, "", "")
    with monkeypatch.context() as patched:
        patched.setattr("memory.chroma.index_check.subprocess.run", lambda *args, **kwargs: stopped)
        with pytest.raises(BadStoreError, match="could not be checked after a kill .*: open it again"):
            chroma(folder)
    assert index_of(folder).exists() and (folder / OPEN_MARK).exists() and not (folder / TO_REBUILD).exists()
    with chroma(folder) as store:
        assert whole(store)


def test_what_lies_in_the_working_directory_is_not_run(folder: Path, tmp_path: Path, caplog: Any) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "memory.py").write_text("raise SystemExit('a stranger')")
    (folder / OPEN_MARK).touch()
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tests.stores import chroma\n"
        "with chroma(sys.argv[2]) as store: print(len(store.records()))"
    )
    done = run([sys.executable, "-P", "-c", program, ROOT, folder], cwd=elsewhere)
    assert done.returncode == 0 and int(done.stdout) == RECORDS + 1, done.stderr


def test_a_text_without_direction_is_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Directionless(FakeEmbeddings):
        def embed_query(self, text: str) -> list[float]:
            return [0.0] * self.dimension if text == "none" else super().embed_query(text)

    with ChromaStore(tmp_path / "memory", embeddings=Directionless()) as store:
        store.put(WHERE, "1", {"text": "none"}, index=["text"])
    (tmp_path / "memory" / OPEN_MARK).touch()
    with ChromaStore(tmp_path / "memory", embeddings=Directionless()) as store:
        assert store.get(WHERE, "1") is not None
    assert not caplog.messages


def test_the_mark_of_another_owner_is_left(folder: Path, tmp_path: Path) -> None:
    with chroma(folder):
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        (folder / OPEN_MARK).touch()
    assert (folder / OPEN_MARK).exists()
