"""Verdict of a study in two sentences, for each outcome."""

from typing import Any

import pytest

from graph.report.html import report_page
from graph.report.verdict import verdict_sentences
from tests.unit.graph.report.test_html import VISITS, line, row, study, words

LEAD = {"variant": "billp", "runner_up": "random", "difference": 9.75, "ci": [-5.25, 24.0], "users": 40}
MEMORY = {"variant": "billp", "control": "prior", "difference": 93.0, "ci": [72.0, 115.0], "users": 40}
ROWS = (row("random", total_reward=90.0), row("billp", total_reward=99.75))


def sentences(*rows: dict[str, Any], lead: Any = LEAD, memory: Any = MEMORY, **more: Any) -> list[str]:
    settings = more.pop("settings", {})
    results: Any = study(*(rows or ROWS))
    results["settings"] |= settings
    return verdict_sentences(results | {"verdict": {"lead": lead, "memory": memory, "remembers": True} | more})


@pytest.mark.parametrize(
    ("lead", "said"),
    [
        (LEAD, "9.8 more (95% interval -5.2 to +24.0) than random, the next best, which may be chance."),
        (LEAD | {"ci": [5.25, 24.0]}, "9.8 more (95% interval +5.2 to +24.0) than random, the next best."),
        (LEAD | {"ci": None}, "9.8 more (no interval: fewer than 10 users) than random, the next best, which may be"),
    ],
)
def test_the_leader_is_told_with_its_lead_and_interval(lead: Any, said: str) -> None:
    assert sentences(lead=lead)[0].startswith(f"billp is ahead: it collects a total reward of 99.8 a visit, {said}")


def test_the_oracle_is_no_leader_and_equals_are_none() -> None:
    oracle = row("oracle", total_reward=430.0)
    assert sentences(*ROWS, oracle)[0].startswith("billp is ahead of all but the oracle: it collects")
    assert sentences(row("random"), row("billp"), lead=LEAD | {"difference": 0.0, "ci": [0.0, 0.0]})[0] == (
        "No variant is ahead: billp and random both collect a total reward of 7.0 a visit."
    )
    assert sentences(row("billp"), oracle, lead=None)[0] == (
        "billp collects a total reward of 7.0 a visit; no other compares."
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "Memory mattered: billp with its memory collects 93.0 more (95% interval +72.0 to +115.0)"),
        (
            {"difference": -19.0, "ci": [-35.0, -3.0]},
            "Memory did harm: billp with its memory collects 19.0 less (95% interval +3.0 to +35.0)",
        ),
        (
            {"difference": -19.0, "ci": [-60.0, 21.0]},
            "Whether memory mattered is undecided: billp with its memory collects 19.0 less "
            "(95% interval -21.0 to +60.0)",
        ),
    ],
)
def test_memory_mattered_did_harm_or_is_undecided(change: dict[str, Any], said: str) -> None:
    end = ", which may be chance" if "undecided" in said else ""
    assert sentences(memory=MEMORY | change)[1] == (
        f"{said} than the same agent with nothing learned (control prior){end}."
    )
    assert "with an empty memory (control empty)" in sentences(memory=MEMORY | change | {"control": "empty"})[1]


def test_a_study_that_cannot_tell_says_why() -> None:
    assert sentences(memory=None)[1] == "Whether memory mattered was not measured: run the study with --memory prior."
    assert "(--train 0)" in sentences(memory=None, settings={"train": 0})[1]
    assert "not measured" in sentences(memory=None, settings={"train": 0, "learn_at_test": True})[1]
    assert sentences(memory=None, remembers=False)[1] == "Memory takes no part: no variant of this study has one."


def test_the_page_begins_with_the_verdict() -> None:
    verdict = {"lead": LEAD | {"variant": "billp"}, "memory": MEMORY, "remembers": True}
    text = words(report_page(study(*ROWS) | {"verdict": verdict}, [*VISITS, line("random", 5.0)]))
    assert "Study of the world tiny billp is ahead: it collects a total reward of 99.8 a visit, 9.8 more" in text
    # Numbers have a minus sign, and options their dashes.
    assert "(95% interval −5.2 to +24.0)" in text
    undecided = verdict | {"memory": None}
    assert "with --memory prior." in words(report_page(study(*ROWS) | {"verdict": undecided}, VISITS))
