"""Confidence intervals under a new draw of users and of training runs.

The users of a study are the same in all of its training runs (seeds), so each value belongs to a user and a run. An
interval has two parts:

- *Users* are resampled with all their values of all runs (percentile bootstrap).
- *Training runs* are few, so their mean is drawn from a normal distribution instead. Its variance is the variance of
  the runs' estimates that the users in them do not explain, divided by the number of runs (the two-way variance of
  Cameron, Gelbach and Miller, Journal of Business & Economic Statistics 2011). A single run tells nothing of it.

A bootstrap of n users has (n - 1) / n of the variance, and the tails of a normal distribution. So the deviations of the
users from the estimate are stretched by the root of n / (n - 1), and their sum with the runs' by t / z, the ratio of
the 97.5% quantiles of Student's and the normal distribution, with Satterthwaite's degrees of freedom.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.arrays import Doubles, Mask, Positions

RESAMPLES = 2_000
LEVEL = 0.95
# With fewer users an interval would leave out the true value too often (tests/unit/sim/metrics/test_coverage.py).
FEWEST_USERS = 10
# Fixed, so that the same visits give the same table, byte for byte.
_SEED = 20_240_714
# A block holds about this many drawn users, which bounds the memory used.
_BLOCK = 2_000_000
# Resamples that show how much of the difference between training runs the users explain; a variance needs no more.
_EXPLAINING = 200


def resamples(users: int) -> Iterator[Positions]:
    """Yield the 2,000 resamples in blocks: row numbers of users drawn with replacement, shape (any, users)."""
    rng = np.random.default_rng(_SEED)
    block = max(1, _BLOCK // users)
    for first in range(0, RESAMPLES, block):
        yield rng.integers(users, size=(min(block, RESAMPLES - first), users))


def mean_interval(sums: Doubles, counts: Doubles) -> list[float] | None:
    """Return the 95% interval of sum(sums) / sum(counts); None with fewer than `FEWEST_USERS` users.

    Args:
        sums: Sum of the values of each training run and user, shape (runs, users).
        counts: Number of values in each sum, shape (runs, users).
    """

    def measure(weights: Doubles, run: int | None) -> Doubles:
        chosen = slice(None) if run is None else slice(run, run + 1)
        return _ratio(weights @ sums[chosen].sum(axis=0), weights @ counts[chosen].sum(axis=0))

    return interval(measure, *sums.shape)


def difference_interval(sums: Doubles, counts: Doubles, second: Mask) -> list[float] | None:
    """Return the 95% interval of a mean over some users minus that over the others; None with too few users.

    Args:
        sums: Sum of the values of each training run and user, shape (runs, users).
        counts: Number of values in each sum, shape (runs, users).
        second: Mask of the users whose mean is subtracted, shape (users,).

    Returns:
        None if either group has fewer than `FEWEST_USERS` users.
    """
    if min(int(second.sum()), int((~second).sum())) < FEWEST_USERS:
        return None

    def measure(weights: Doubles, run: int | None) -> Doubles:
        chosen = slice(None) if run is None else slice(run, run + 1)
        in_all, counted = sums[chosen].sum(axis=0), counts[chosen].sum(axis=0)
        first, other = (_ratio(weights @ (in_all * group), weights @ (counted * group)) for group in (~second, second))
        return first - other

    return interval(measure, *sums.shape)


def interval(measure: Callable[[Doubles, int | None], Doubles], runs: int, users: int) -> list[float] | None:
    """Return the 95% interval of a statistic over users and training runs; None with fewer than `FEWEST_USERS` users.

    Args:
        measure: Function of how often each user counts, shape (resamples, users), and of a training run, or None for
            all; it returns the statistic of each resample, shape (resamples,), NaN if it has none.
        runs: Number of training runs.
        users: Number of users.
    """
    if users < FEWEST_USERS:
        return None
    once = np.ones((1, users))
    (estimate,) = measure(once, None)
    of_runs = np.array([measure(once, run)[0] for run in range(runs)]) - estimate
    inflation = users / (users - 1)
    off, explained = [], 0.0
    for number, drawn in enumerate(resamples(users)):
        weights = np.stack([np.bincount(one, minlength=users) for one in drawn]).astype(np.float64)
        off.append(measure(weights, None) - estimate)
        if number == 0 and runs > 1:
            few, of_few = weights[:_EXPLAINING], off[0][:_EXPLAINING]
            noise = [measure(few, run) - estimate - of_few - of_runs[run] for run in range(runs)]
            explained = float(np.nanmean(np.square(noise))) * inflation
    by_users = np.concatenate(off) * inflation**0.5
    of_users, of_training = float(np.nanvar(by_users)), 0.0
    if runs > 1 and np.isfinite(of_runs).all():
        of_training = max(0.0, float(np.mean(of_runs**2)) - explained) / (runs - 1)
    total = of_users + of_training
    if not total:
        return [float(estimate), float(estimate)]
    freedom = total**2 / (of_users**2 / (users - 1) + of_training**2 / max(runs - 1, 1))
    draws = by_users + np.random.default_rng(_SEED).normal(0, of_training**0.5, len(by_users))
    low, high = percentiles(draws[np.isfinite(draws)])
    stretch = _t_over_z(freedom)
    return [float(estimate) + low * stretch, float(estimate) + high * stretch]


def percentiles(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Return the bounds of the middle 95% of the values."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def _ratio(sums: Doubles, counts: Doubles) -> Doubles:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / counts, dtype=np.float64)


def _t_over_z(freedom: float) -> float:
    from scipy.special import ndtri, stdtrit  # Imported here: SciPy takes a second, which would delay every command.

    above = (1 + LEVEL) / 2
    return float(stdtrit(freedom, above) / ndtri(above))
