"""Plots of a report: their room for the names of many lines."""

import warnings
from collections.abc import Sequence

import pytest

from graph.report.plots import draw_cohorts, draw_curves, draw_values
from graph.report.schema import CohortReward, CurvePoint

NAMES = [f"{name} ({memory})" for name in ("billp_outlook", "outlook_only") for memory in ("full", "prior", "shuffled")]


@pytest.mark.parametrize("count", [1, 8, 24])
def test_a_plot_has_room_for_its_lines_and_their_names(count: int) -> None:
    names = [f"{NAMES[number % len(NAMES)]} {number}" for number in range(count)]
    cohorts: Sequence[CohortReward] = [
        {"first_visit": 1, "last_visit": 20, "users": 20, "total_reward": 20.0, "total_reward_ci": [10.0, 30.0]}
    ]
    points: Sequence[CurvePoint] = [{"train_visits": 0, "total_reward": 20.0, "total_reward_ci": None}]
    with warnings.catch_warnings():
        # Matplotlib warns where it finds no room.
        warnings.simplefilter("error")
        draw_cohorts(dict.fromkeys(names, cohorts), {"oracle": 30.0})
        draw_curves(dict.fromkeys(names, points))
        draw_values(dict.fromkeys(names, [(0.5, 0.1, 10)]))
