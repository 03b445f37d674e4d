"""Contract tests for embeddings; a subclass names the function that makes the embedding.

    from graph.conformance import EmbeddingContract

    class TestLetters(EmbeddingContract):
        make = staticmethod(letters.letters)

pytest then runs them on new embeddings.
"""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from memory.chroma.errors import BadStoreError
from memory.embeddings import identity
from memory.search.vectors import unit
from memory.store import ChromaStore

TEXTS = ["Space comedy", "space comedy", "A drama at sea", "", " ", "ü 🎬 字幕", "long " * 5_000]


class EmbeddingContract:
    """Tests of one embedding; a subclass names the function that makes it."""

    make: ClassVar[Callable[[], Embeddings]]

    @pytest.fixture
    def embedding(self) -> Embeddings:
        """Return a new embedding."""
        return type(self).make()

    def test_it_says_who_it_is(self, embedding: Embeddings) -> None:
        """A memory stores the name of its embedding and refuses any other."""
        name, dimension = identity(embedding)
        assert name and dimension > 0 and identity(type(self).make()) == (name, dimension)

    def test_every_text_has_a_vector_of_that_many_finite_numbers(self, embedding: Embeddings) -> None:
        """Titles and notes may contain any characters."""
        vectors = np.array(embedding.embed_documents(TEXTS))
        assert vectors.shape == (len(TEXTS), identity(embedding)[1]) and np.isfinite(vectors).all()
        assert embedding.embed_documents([]) == []

    def test_a_text_has_the_same_vector_in_whatever_company(self, embedding: Embeddings) -> None:
        """Batches depend on the visits that run at once; if vectors did too, no study could be repeated."""
        together = embedding.embed_documents(TEXTS)
        assert embedding.embed_documents(TEXTS[::-1]) == together[::-1]
        assert [embedding.embed_documents([text])[0] for text in TEXTS] == together
        assert [embedding.embed_query(text) for text in TEXTS] == [embedding.embed_query(text) for text in TEXTS]
        assert type(self).make().embed_documents(TEXTS) == together

    def test_many_threads_may_ask_at_once(self, embedding: Embeddings) -> None:
        """All visits of a process share one embedding."""
        alone = embedding.embed_documents(TEXTS)
        with ThreadPoolExecutor(8) as pool:
            assert all(found == alone for found in pool.map(lambda _: embedding.embed_documents(TEXTS), range(16)))

    def test_different_texts_are_told_apart(self, embedding: Embeddings) -> None:
        """With one vector for all texts, every search would find every record."""
        one, other = unit(embedding.embed_documents([TEXTS[0], TEXTS[2]]))
        assert float(one @ other) < 0.999

    def test_a_memory_finds_a_text_by_itself(self, embedding: Embeddings) -> None:
        """Finding a text by itself is the least that recall needs."""
        with ChromaStore(embeddings=embedding) as store:
            for number, text in enumerate(TEXTS):
                store.put(("notes",), str(number), {"text": text}, index=["text"])
            found = store.search(("notes",), query=TEXTS[2], limit=1)[0]
            assert found.key == "2"

    def test_a_memory_made_with_it_refuses_others(self, embedding: Embeddings, tmp_path: Path) -> None:
        """Vectors of two embeddings cannot be compared."""
        with ChromaStore(tmp_path / "memory", embeddings=embedding) as store:
            store.put(("notes",), "1", {"text": TEXTS[0]}, index=["text"])
        name, dimension = identity(embedding)
        with pytest.raises(BadStoreError, match=re.escape(name)):
            ChromaStore(tmp_path / "memory", embeddings=DeterministicFakeEmbedding(size=dimension))
