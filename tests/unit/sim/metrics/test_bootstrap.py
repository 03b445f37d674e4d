import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t

from sim.arrays import Doubles
from sim.metrics.bootstrap import interval, mean_interval, percentiles, resamples


def test_resamples_are_the_same_draws_in_blocks_of_bounded_size() -> None:
    # The seed is part of the tables that are published.
    expected = np.random.default_rng(20_240_714).integers(7, size=(2_000, 7))
    assert np.array_equal(np.concatenate(list(resamples(7))), expected)
    assert [drawn.shape for drawn in resamples(1_500)] == [(1_333, 1_500), (667, 1_500)]
    # At least one at a time, however many users there are.
    assert next(resamples(2_000_001)).shape == (1, 2_000_001)


def test_percentiles_bound_the_middle_95_of_100() -> None:
    assert percentiles(list(range(1_001))) == [pytest.approx(25.0), pytest.approx(975.0)]


def interval_of(sums: Doubles, counts: Doubles) -> list[float]:
    found = mean_interval(sums, counts)
    assert found is not None
    return found


def by_t(half: float, freedom: int) -> float:
    return half * float(student_t.ppf(0.975, freedom))


def test_an_interval_of_one_run_is_as_wide_as_students() -> None:
    # Normal quantiles have no skew, so the percentiles lie as far off as Student's interval of ten users says.
    values = norm.ppf((np.arange(10) + 0.5) / 10) * 30 + 100
    found = interval_of(values[None], np.ones((1, 10)))
    half = by_t(values.std(ddof=1) / 10**0.5, 9)
    assert found == [pytest.approx(100 - half, rel=0.03), pytest.approx(100 + half, rel=0.03)]


def test_an_interval_is_of_the_pooled_mean() -> None:
    # Twenty users with one visit of 1, and twenty with three visits that make 12: 13 / 4 in all.
    sums, counts = (
        np.repeat([[1.0, 12.0]], 20, axis=0).reshape(1, 40),
        np.repeat([[1.0, 3.0]], 20, axis=0).reshape(1, 40),
    )
    found = interval_of(sums, counts)
    assert found[0] < 13 / 4 < found[1]
    # Delta method: the sum of (y - 3.25 n) over users, over 80 visits; each user is off by 2.25.
    half = by_t(2.25 * 40**0.5 / 80 * (40 / 39) ** 0.5, 39)
    assert np.diff(found)[0] == pytest.approx(2 * half, rel=0.06)


def test_runs_that_differ_for_all_users_alike_widen_the_interval_by_students_of_the_runs() -> None:
    runs = np.array([-3.0, -1.0, 1.0, 3.0])
    found = interval_of(np.repeat(50 + runs[:, None], 20, axis=1), np.ones((4, 20)))
    half = by_t(runs.std(ddof=1) / 2, 3)
    assert found == [pytest.approx(50 - half, rel=0.05), pytest.approx(50 + half, rel=0.05)]


def test_runs_that_differ_no_more_than_their_users_explain_widen_nothing() -> None:
    # Every user gets each of two values in one of two runs, so the runs' means are the same.
    values = np.tile([[0.0, 10.0], [10.0, 0.0]], 15)
    assert interval_of(values, np.ones_like(values)) == [pytest.approx(5.0)] * 2


def test_a_visit_that_is_missing_in_one_run_counts_in_the_others() -> None:
    sums, counts = np.full((2, 12), 7.0), np.ones((2, 12))
    sums[0, 3] = counts[0, 3] = 0
    assert interval_of(sums, counts) == [pytest.approx(7.0)] * 2


def test_fewer_than_ten_users_get_no_interval() -> None:
    assert mean_interval(np.arange(9.0)[None], np.ones((1, 9))) is None
    assert mean_interval(np.arange(10.0)[None], np.ones((1, 10))) is not None


def test_resamples_without_a_value_are_left_out() -> None:
    def of_first_user(weights: Doubles, run: int | None) -> Doubles:
        return np.where(weights[:, 0] > 0, 4.0, np.nan)

    assert interval(of_first_user, 1, 10) == [4.0, 4.0]
