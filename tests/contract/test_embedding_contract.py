"""Embedding contract: the bundled embedding passes, and faulty embeddings fail."""

import threading
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from graph.conformance import EmbeddingContract
from memory.chroma.env import chosen_embedding
from memory.chroma.errors import BadStoreError
from memory.embeddings import LineMean, MiniLM
from tests.stores import FakeEmbeddings


class TestMiniLM(EmbeddingContract):
    make = MiniLM


class TestLineMean(EmbeddingContract):
    make = staticmethod(lambda: LineMean(MiniLM()))


class InCompany(FakeEmbeddings):
    """Faulty: a vector depends on the other texts of the call."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors = np.array(super().embed_documents(texts))
        centred: list[list[float]] = (vectors - vectors.mean(axis=0)).tolist() if len(texts) else []
        return centred


class OneAtATime(FakeEmbeddings):
    """Faulty: cannot be called by two threads at once."""

    def __init__(self) -> None:
        super().__init__()
        self._working = threading.Lock()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if not self._working.acquire(blocking=False):
            raise RuntimeError("busy")
        try:
            for _ in range(20):
                vectors = super().embed_documents(texts)
            return vectors
        finally:
            self._working.release()


class Nobody(FakeEmbeddings):
    """Faulty: each instance has another name."""

    def __init__(self) -> None:
        super().__init__(name=str(id(self)))
        alive.append(self)


class Blind(FakeEmbeddings):
    """Faulty: all texts have the same vector."""

    def embed_query(self, text: str) -> list[float]:
        return super().embed_query("")


class Undefined(FakeEmbeddings):
    """Faulty: divides by the number of letters, so an empty text gets no finite vector."""

    def embed_query(self, text: str) -> list[float]:
        return [value / len(text) if text else float("nan") for value in super().embed_query(text)]


alive: list[Any] = []


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (InCompany, EmbeddingContract.test_a_text_has_the_same_vector_in_whatever_company),
        (OneAtATime, EmbeddingContract.test_many_threads_may_ask_at_once),
        (Nobody, EmbeddingContract.test_it_says_who_it_is),
        (Blind, EmbeddingContract.test_different_texts_are_told_apart),
        (Undefined, EmbeddingContract.test_every_text_has_a_vector_of_that_many_finite_numbers),
    ],
)
def test_an_embedding_that_breaks_the_contract_is_found_out(broken: type[Embeddings], test: Any) -> None:
    class Good(EmbeddingContract):
        make = FakeEmbeddings

    class Broken(EmbeddingContract):
        make = broken

    test(Good(), FakeEmbeddings())
    with pytest.raises((AssertionError, RuntimeError)):
        test(Broken(), broken())


def test_an_embedding_that_nobody_brings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BILLP_EMBEDDING", raising=False)
    assert chosen_embedding() is None
    monkeypatch.setenv("BILLP_EMBEDDING", "nobodys")
    with pytest.raises(BadStoreError, match="unknown embedding 'nobodys': install the package that provides it"):
        chosen_embedding()
