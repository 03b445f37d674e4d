"""Semantic index of a catalogue. Each label is embedded once for each world."""

import asyncio
import os
import secrets
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory.chroma.errors import BadStoreError
from memory.embeddings import LineMean
from memory.search.scoring import contenders, exact_scores, products
from memory.search.vectors import Vector, unit

# Labels embedded between two progress reports.
LABELS_AT_ONCE = 64
# Most labels that are searched in the event loop, in some 1 ms.
LABELS_IN_LOOP = 20_000


class CatalogueIndex:
    """Exact semantic search for items, in memory.

    A catalogue never changes, so it needs no store: writing 2,245 titles into one took four seconds of each start.

    Args:
        labels: Item ids with the text to embed for each, in catalogue order.
        embeddings: Embedding of labels and queries. Load the labels first with `prime_labels`.
    """

    def __init__(self, labels: Mapping[str, str], embeddings: LineMean) -> None:
        self._ids = list(labels)
        self._vectors = unit(embeddings.embed_documents(list(labels.values())))
        self._embeddings = embeddings

    async def nearest(self, text: str, k: int) -> list[str]:
        """Return the ids of the `k` items nearest in meaning to `text`, the nearest first; ties by id."""
        query = unit(await self._embeddings.aembed_query(text))
        if len(self._ids) <= LABELS_IN_LOOP:
            return self._nearest(query, k)
        return await asyncio.to_thread(self._nearest, query, k)

    def _nearest(self, query: Vector, k: int) -> list[str]:
        rows = contenders(products(self._vectors, query), k)
        scores = exact_scores(self._vectors[rows], query)
        found = sorted((-score, self._ids[row]) for score, row in zip(scores, rows.tolist(), strict=True))
        return [item_id for _, item_id in found[:k]]


def prime_labels(
    labels: Sequence[str], embeddings: LineMean, file: Path, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Load the vectors of all labels into the cache of `embeddings`.

    Args:
        labels: Text to embed for each item.
        embeddings: Embedding of the labels.
        file: File of the vectors. If it does not hold them yet, they are computed, and written to it if its folder
            allows that.
        progress: Called with the number of labels embedded so far.

    Raises:
        BadStoreError: The file cannot be written.
    """
    vectors = _read(file, labels, embeddings.name)
    if vectors is None:
        parts = []
        for start in range(0, len(labels), LABELS_AT_ONCE):
            parts += embeddings.embed_documents(list(labels[start : start + LABELS_AT_ONCE]))
            progress(len(parts))
        vectors = np.asarray(parts, dtype=np.float32)
        if os.access(file.parent, os.W_OK):
            _write(file, labels, embeddings.name, vectors)
    embeddings.prime(labels, vectors)


def _read(file: Path, labels: Sequence[str], embedding: str) -> NDArray[np.float32] | None:
    """Return the saved vectors. None if they have other labels or another embedding, or if the file is damaged."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            same = str(kept["embedding"]) == embedding and kept["labels"].tolist() == list(labels)
            return np.asarray(kept["vectors"], dtype=np.float32) if same else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _write(file: Path, labels: Sequence[str], embedding: str, vectors: NDArray[np.float32]) -> None:
    part = file.with_name(f".{file.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with part.open("wb") as stream:
            np.savez(stream, embedding=np.array(embedding), labels=np.array(labels), vectors=vectors)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadStoreError(
            f"{file} cannot be written ({error.strerror}): free space, or choose another folder"
        ) from error
