"""Exact scores: the same for the same vectors, whatever their order, batch, process or way into memory."""

import numpy as np

from memory.search.vectors import Vector

DECIMALS = 6
"""Scores are rounded to this before ties are broken by key."""
SCORE_MARGIN = 1e-5
"""More than a fast float32 product and the rounding together can be off."""
_CHUNK = 4096


def exact_scores(vectors: Vector, query: Vector) -> list[float]:
    """Return the cosine similarity of each of `vectors`, (n, d), to `query`, (d,), all of length 1 or 0.

    BLAS sums a row differently by its place in the matrix. Here each row is summed on its own in float64 and
    rounded, so that equal vectors have equal scores and ties are ties everywhere.
    """
    exact_query = query.astype(np.float64)
    scores: list[float] = []
    for start in range(0, len(vectors), _CHUNK):
        products = vectors[start : start + _CHUNK].astype(np.float64) * exact_query
        # Adding 0.0 turns -0.0 into 0.0.
        scores.extend((np.round(products.sum(axis=1), DECIMALS) + 0.0).tolist())
    return scores


def contenders(scores: Vector, wanted: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the indices of all rows that may be among the best `wanted` once scored exactly.

    Args:
        scores: (n,), fast scores, off by less than `SCORE_MARGIN` / 2; -inf for rows that do not count.
        wanted: Rows that are wanted in the end.
    """
    if wanted >= len(scores):
        return np.flatnonzero(scores > -np.inf)
    worst = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    return np.flatnonzero((scores > -np.inf) & (scores >= worst - SCORE_MARGIN))
