"""The catalogue in Chroma, for semantic search; each label is embedded once, with the world."""

import os
import secrets
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from langgraph.store.base import PutOp
from numpy.typing import NDArray

from memory.chroma.errors import BadStoreError
from memory.embeddings import LineMean
from memory.store import ChromaStore

# Labels embedded between two reports of progress.
LABELS_AT_ONCE = 64


class CatalogueIndex:
    """Finds items by meaning.

    Args:
        name: Name of the world.
        labels: Item ids and what is embedded of each item, in catalogue order.
        embeddings: Embeds labels and queries; knows the labels best already (`prime_labels`).
    """

    def __init__(self, name: str, labels: Mapping[str, str], embeddings: LineMean) -> None:
        self._namespace = ("catalogue", name)
        self._store = ChromaStore(embeddings=embeddings)
        self._store.batch([PutOp(self._namespace, key, {"label": label}, ["label"]) for key, label in labels.items()])

    async def nearest(self, text: str, k: int) -> list[str]:
        """Return the ids of the `k` items nearest in meaning to `text`, the nearest first."""
        return [item.key for item in await self._store.asearch(self._namespace, query=text, limit=k)]

    def close(self) -> None:
        """Free the index."""
        self._store.close()


def prime_labels(
    labels: Sequence[str], embeddings: LineMean, file: Path, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Make the vectors of all labels known to `embeddings`.

    Args:
        labels: What is embedded of each item.
        embeddings: Embeds them.
        file: Holds the vectors; where it does not yet, they are computed and written there.
        progress: Is told how many are done.

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
        _write(file, labels, embeddings.name, vectors)
    embeddings.prime(labels, vectors)


def _read(file: Path, labels: Sequence[str], embedding: str) -> NDArray[np.float32] | None:
    """Return the kept vectors, or None where they are of other labels, another embedding, or damaged."""
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
        raise BadStoreError(f"{file} cannot be written ({error.strerror}): free or choose the place") from error
