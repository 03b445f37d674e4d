"""Search by Chroma's index if the vectors are not cached: over-fetched candidates, ranked exactly."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from memory.chroma.cache import Scored, best_of
from memory.chroma.connection import Table
from memory.chroma.layout import StoredRecord
from memory.search.scoring import SCORE_MARGIN, exact_scores
from memory.search.vectors import Vector

FEW = 2_000
"""Rows up to which a search is exact, whether the vectors are cached or not."""
OVERFETCH = 400
"""Rows requested from the index first in a larger collection. The answer is nearly exact."""
SLICE = 100
"""Candidates whose vectors are fetched at a time."""

Resolve = Callable[[Sequence[str]], Mapping[str, StoredRecord]]
"""Returns the records of row ids, without outdated and filtered rows."""


def search_index(
    collection: Table,
    query: Vector,
    where: dict[str, Any] | None,
    wanted: int,
    resolve: Resolve,
    first: int = FEW,
) -> list[Scored]:
    """Return at least the best `wanted` records with their exact scores, in any order, or all if there are fewer.

    Args:
        collection: Collection to search; its space is the inner product of vectors of length 1.
        query: (d,), of length 1 or 0.
        where: Chroma's metadata filter with at most one equality, since others are slow.
        wanted: Number of records needed.
        resolve: Returns the records of the rows found.
        first: Rows requested from the index first.
    """
    fetched = max(first, 4 * wanted)
    if fetched > first:
        fetched = min(fetched, max(first, collection.count()))
    while True:
        answer = collection.query(
            query_embeddings=query[np.newaxis], n_results=fetched, where=where, include=["distances"]
        )
        ids, distances = answer["ids"][0], (answer["distances"] or [[]])[0]
        is_all = len(ids) < fetched
        lost = _lost_rows(collection, where, ids, fetched) if is_all else []
        rough = [1.0] * len(lost) + [1.0 - distance for distance in distances]
        found = _rank(collection, query, [*lost, *ids], rough, wanted, resolve)
        if len(found) >= wanted or is_all:
            return found
        fetched *= 4


def _lost_rows(collection: Table, where: dict[str, Any] | None, ids: list[str], most: int) -> list[str]:
    """Return rows that the index should have found: among equal vectors and deleted rows its graph loses some."""
    if where is None and collection.count() <= len(ids):
        return []
    known = set(ids)
    return [row for row in collection.get(where=where, include=[], limit=most)["ids"] if row not in known]


def _rank(
    collection: Table, query: Vector, ids: list[str], rough: list[float], wanted: int, resolve: Resolve
) -> list[Scored]:
    """Score the candidates, best first, until no further one can be among the best `wanted`."""
    rows: list[tuple[StoredRecord, float]] = []
    found: list[Scored] = []
    for start in range(0, len(ids), SLICE):
        if len(found) >= wanted:
            worst = sorted((score for _, score in found if score is not None), reverse=True)[wanted - 1]
            if rough[start] < worst - SCORE_MARGIN:
                break
        owners = resolve(ids[start : start + SLICE])
        vectors = fetch_vectors(collection, list(owners))
        scores = exact_scores(stacked(list(vectors.values()), len(query)), query)
        rows.extend((owners[row], score) for row, score in zip(vectors, scores, strict=True))
        found = best_of(rows)
    return found


def search_few(collection: Table, query: Vector, records: Sequence[StoredRecord]) -> list[Scored]:
    """Return a small number of indexed `records` with their exact scores, in any order."""
    owners = {row: record for record in records for row in (record.main_row, *record.vector_rows)}
    ids = list(owners)
    vectors: dict[str, Vector] = {}
    for start in range(0, len(ids), SLICE):
        vectors |= fetch_vectors(collection, ids[start : start + SLICE])
    scores = exact_scores(stacked(list(vectors.values()), len(query)), query)
    return best_of((owners[row], score) for row, score in zip(vectors, scores, strict=True))


def fetch_vectors(collection: Table, ids: list[str]) -> dict[str, Vector]:
    """Return the vectors of the existing rows among `ids`."""
    if not ids:
        return {}
    page = collection.get(ids=ids, include=["embeddings"])
    return dict(zip(page["ids"], as_matrix(page["embeddings"]), strict=True))


def stacked(vectors: Sequence[Vector], dimension: int) -> Vector:
    """Return `vectors` as rows, (n, dimension), n = 0 included."""
    return np.array(vectors, dtype=np.float32).reshape(-1, dimension)


def as_matrix(embeddings: Any) -> Vector:
    """Return Chroma's embeddings as vectors, (n, d), the float32 numbers that were stored."""
    return np.asarray(embeddings if embeddings is not None else [], dtype=np.float32)
