"""Bootstrap over users: how far a number would vary with other users of the same kind."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.arrays import Doubles, Positions

RESAMPLES = 2_000
LEVEL = 0.95
# Fixed, so that a table computed twice from the same visits is the same to the byte.
_SEED = 20_240_714
# Resampling is done in blocks of about this many drawn users, which bounds its memory.
_BLOCK = 2_000_000


def resamples(users: int) -> Iterator[Positions]:
    """Give the 2,000 resamples in blocks: numbers of users drawn with replacement, shape (any, users)."""
    rng = np.random.default_rng(_SEED)
    block = max(1, _BLOCK // users)
    for first in range(0, RESAMPLES, block):
        yield rng.integers(users, size=(min(block, RESAMPLES - first), users))


def percentiles(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return the bounds between which the middle 95% of the values lie."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def mean_interval(sums: Doubles, counts: Doubles) -> list[float]:
    """Return the 95% percentile bootstrap interval of sum(sums) / sum(counts), resampling users.

    Args:
        sums: A sum for each user.
        counts: What each user's sum is over.
    """
    means = [sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for drawn in resamples(len(sums))]
    return percentiles(np.concatenate(means))
