"""Bootstrap over users: confidence intervals for a metric under a new draw of users."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.arrays import Doubles, Positions

RESAMPLES = 2_000
LEVEL = 0.95
# Fixed, so that the same visits give the same table, byte for byte.
_SEED = 20_240_714
# A block holds about this many drawn users, which bounds the memory used.
_BLOCK = 2_000_000


def resamples(users: int) -> Iterator[Positions]:
    """Yield the 2,000 resamples in blocks: row numbers of users drawn with replacement, shape (any, users)."""
    rng = np.random.default_rng(_SEED)
    block = max(1, _BLOCK // users)
    for first in range(0, RESAMPLES, block):
        yield rng.integers(users, size=(min(block, RESAMPLES - first), users))


def percentiles(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return the bounds of the middle 95% of the values."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def mean_interval(sums: Doubles, counts: Doubles) -> list[float]:
    """Return the 95% percentile bootstrap interval of sum(sums) / sum(counts), with users resampled.

    Args:
        sums: Sum of each user.
        counts: Number of values in each user's sum.
    """
    means = [sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1) for drawn in resamples(len(sums))]
    return percentiles(np.concatenate(means))
