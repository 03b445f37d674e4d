"""Warnings of a study: each for its fault, and none without it."""

from typing import Any

import pytest

from graph.study.results import RowKey
from graph.study.settings import StudySettings
from graph.study.warnings import outlook_warnings, settings_warnings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train": 10, "cohort": 10}, "--train 10 is not above --cohort 10: all train visits are of one cohort"),
        ({"train": 5, "cohort": 10, "variants": ("outlook_only",)}, "--train 5 is not above --cohort 10"),
        ({"train": 0}, "--train 0: nothing is learned"),
        ({"train": 0, "learn_at_test": True}, ""),
        ({"train": 11, "cohort": 10}, ""),
        ({"train": 5, "cohort": 10, "variants": ("act_only", "react", "random")}, ""),
    ],
)
def test_settings_by_which_little_is_learned_are_told_to_learners(settings: dict[str, Any], words: str) -> None:
    found = settings_warnings(StudySettings.model_validate({"world": "tiny", "variants": ("billp",)} | settings))
    assert len(found) == bool(words) and all(words in one for one in found)


OUTLOOK = RowKey("billp_outlook", None, "full")


def told(key: RowKey, *risks: float | None, groups: Any = None, **settings: Any) -> list[str]:
    """Return the warnings about a row with a visit for each risk, whose last round alone has it."""
    visits = [{"steps": [{"risk": None}, {"risk": risk}]} for risk in risks]
    row = {**key._asdict(), "reliability": groups}
    study = StudySettings(world="tiny", variants=("billp_outlook",), **settings)
    return outlook_warnings(study, {key: visits}, [row])


def test_visits_without_any_risk_had_no_outlook() -> None:
    (found,) = told(OUTLOOK, None, 0.2, None)
    assert found.startswith("billp_outlook: its outlook was not used in 2 of 3 visits")
    assert told(OUTLOOK, 0.2, 0.1) == []
    (prior,) = told(OUTLOOK._replace(memory="prior"), None)
    assert prior.startswith("billp_outlook (prior): its outlook was not used in 1 of 1 visits")


def test_a_variant_without_outlook_is_not_warned_about() -> None:
    assert told(RowKey("billp", None, "full"), None) == []
    assert told(OUTLOOK._replace(without="outlook"), None) == []
    assert told(OUTLOOK._replace(without="shortlist"), None) == []
    assert told(OUTLOOK, None, context={"choices": "free"}) == []


def group(risk: float, left: float, rounds: int = 5) -> dict[str, Any]:
    return {"risk": risk, "left": left, "left_ci": [0.0, 1.0], "rounds": rounds}


def test_an_outlook_that_is_upside_down_is_told_with_its_worst_group() -> None:
    (found,) = told(OUTLOOK, 0.1, groups=[group(0.04, 1.0), group(0.5, 0.2, 20)])
    assert "of the 5 rounds to which it gave a risk of 4%, 100% ended the visit" in found
    assert told(OUTLOOK, 0.1, groups=[group(0.04, 0.0), group(0.5, 0.6)]) == []
    # The leave rate of a single group is its share, so nothing can be nearer.
    assert told(OUTLOOK, 0.1, groups=[group(0.1, 0.3)]) == []
