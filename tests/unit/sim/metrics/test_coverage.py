"""Coverage of the intervals: how often they hold the true value, over simulated studies."""

import numpy as np
import pytest

from sim.metrics.bootstrap import mean_interval

STUDIES = 400
# Visits have skewed totals; users, visits and training runs all differ.
USER, VISIT, RUN = 60.0, 120.0, 25.0


def coverage(users: int, runs: int) -> float:
    """Return the share of simulated studies whose interval holds the true mean.

    A single run tells nothing of others, so its studies have no luck of the training to tell of.
    """
    rng = np.random.default_rng(users * 100 + runs)
    held = 0
    for _ in range(STUDIES):
        totals = rng.exponential(USER, users) + rng.exponential(VISIT, (runs, users))
        totals += rng.normal(0, RUN if runs > 1 else 0, (runs, 1))
        found = mean_interval(totals, np.ones_like(totals))
        assert found is not None
        held += found[0] <= USER + VISIT <= found[1]
    return held / STUDIES


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 8])
@pytest.mark.parametrize(("users", "at_least"), [(10, 0.89), (40, 0.90), (200, 0.90)])
def test_intervals_hold_the_true_mean_about_as_often_as_they_say(users: int, runs: int, at_least: float) -> None:
    assert at_least <= coverage(users, runs) <= 0.98


@pytest.mark.slow
def test_three_training_runs_hold_it_nearly_as_often() -> None:
    # Two degrees of freedom: the variance of three runs is at times far too small.
    assert 0.86 <= coverage(200, 3) <= 0.98
