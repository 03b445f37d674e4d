"""Time that a study takes: by its visits, its model and what runs at once."""

import pytest

from graph.study.estimate import ANSWER, ANSWERS_A_ROUND, RL_STEP, ROUND, Estimate, estimate
from graph.study.settings import StudySettings


def seconds(visits: int, processes: int = 1, **settings: object) -> Estimate:
    made = StudySettings.model_validate({"world": "tiny", "variants": ("billp", "react"), **settings})
    return estimate(made, visits, concurrency=8, processes=processes)


def test_visits_are_short_or_reach_the_limit() -> None:
    assert seconds(100) == pytest.approx((100 * 10 * ROUND, 100 * 100 * ROUND))
    assert seconds(100, max_steps=5) == pytest.approx((100 * 5 * ROUND,) * 2)


def test_more_processes_than_cells_do_not_help() -> None:
    assert seconds(100, processes=8) == seconds(100, processes=2)
    assert seconds(100, processes=2) == pytest.approx(tuple(one / 2 for one in seconds(100)))


def test_an_endpoint_answers_the_visits_of_a_cohort_at_once_up_to_the_concurrency() -> None:
    model = {"model": "openai:gpt-x"}
    assert seconds(100, context=model).least == pytest.approx(100 * 10 * ANSWER * ANSWERS_A_ROUND / 8)
    assert seconds(100, cohort=2, context=model).least == pytest.approx(100 * 10 * ANSWER * ANSWERS_A_ROUND / 2)


def test_each_training_of_reinforcement_learning_takes_its_steps() -> None:
    made = seconds(0, variants=("a2c", "dqn", "greedy"), seeds=3, rl_steps=1_000)
    assert made == pytest.approx((6 * 1_000 * RL_STEP,) * 2)


@pytest.mark.parametrize(
    ("least", "most", "text"),
    [
        (1.0, 20.0, "less than a minute"),
        (20.0, 80.0, "less than a minute to a minute"),
        (90.0, 600.0, "2 minutes to 10 minutes"),
        (3_600.0, 36_000.0, "60 minutes to 10 hours"),
    ],
)
def test_a_duration_is_told_in_whole_units(least: float, most: float, text: str) -> None:
    assert str(Estimate(least, most)) == text
