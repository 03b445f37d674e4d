"""Student's t interval, compared with the tables of a textbook and with its coverage."""

import numpy as np
import pytest

from sim.metrics.t_interval import t_interval


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        # t·s/√n with t = 4.302653 (2 degrees of freedom), s² = (9 + 1 + 16) / 2.
        ([10.0, 12.0, 17.0], 13.0, 4.302653 * (13 / 3) ** 0.5),
        # t = 2.776445 (4 degrees of freedom), s² = 10 / 4.
        ([1.0, 2.0, 3.0, 4.0, 5.0], 3.0, 2.776445 * 0.5**0.5),
        ([7.5, 7.5, 7.5], 7.5, 0.0),
    ],
)
def test_bounds_are_those_computed_by_hand(values: list[float], mean: float, half: float) -> None:
    assert t_interval(values) == pytest.approx([mean - half, mean + half], abs=1e-5)


def test_fewer_than_three_values_have_no_interval() -> None:
    assert t_interval([]) is None and t_interval([1.0]) is None and t_interval([1.0, 2.0]) is None


def test_19_of_20_intervals_hold_the_mean() -> None:
    rng = np.random.default_rng(0)
    held = [low <= 3 <= high for low, high in filter(None, map(t_interval, rng.normal(3, 2, (2_000, 5)).tolist()))]
    # Three standard errors of a share of 95% in 2,000 draws are 1.5%.
    assert len(held) == 2_000 and abs(np.mean(held) - 0.95) < 0.015
