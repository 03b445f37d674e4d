"""Student's t interval for the mean of a few independent values, such as one figure of several worlds."""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from sim.metrics.bootstrap import LEVEL

# Two values would give an interval of 6.4 times their distance to either side, which says nothing.
FEWEST_VALUES = 3


def t_interval(values: Sequence[float]) -> list[float] | None:
    """Return the 95% interval of Student's t for the mean of independent values.

    Returns:
        mean ± t·s/√n, with the standard deviation s (divisor n − 1) and the 97.5% quantile t of n − 1 degrees of
        freedom; None for fewer than three values.

    Examples:
        >>> [round(bound, 2) for bound in t_interval([1.0, 2.0, 3.0])]
        [-0.48, 4.48]
    """
    count = len(values)
    if count < FEWEST_VALUES:
        return None
    mean = float(np.mean(values))
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / np.sqrt(count))
    return [mean - half, mean + half]
