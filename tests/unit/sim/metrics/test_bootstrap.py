import numpy as np
import pytest

from sim.metrics.bootstrap import mean_interval, percentiles, resamples


def test_resamples_are_the_same_draws_in_blocks_of_bounded_size() -> None:
    # The seed is part of the tables that are published.
    expected = np.random.default_rng(20_240_714).integers(7, size=(2_000, 7))
    assert np.array_equal(np.concatenate(list(resamples(7))), expected)
    assert [drawn.shape for drawn in resamples(1_500)] == [(1_333, 1_500), (667, 1_500)]
    # At least one at a time, however many users there are.
    assert next(resamples(2_000_001)).shape == (1, 2_000_001)


def test_percentiles_bound_the_middle_95_of_100() -> None:
    assert percentiles(list(range(1_001))) == [pytest.approx(25.0), pytest.approx(975.0)]


def test_an_interval_is_of_the_pooled_mean() -> None:
    # Draws of two users: only the first (mean 1), only the second (mean 4), or both: (1 + 12) / (1 + 3).
    assert mean_interval(np.array([1.0, 12.0]), np.array([1.0, 3.0])) == [1.0, 4.0]
    assert mean_interval(np.array([3.0]), np.array([2.0])) == [1.5, 1.5]
