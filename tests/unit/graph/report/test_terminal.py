"""Tables of a study in a terminal: whole in 80 columns, however large the numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from graph.ablation import PARTS, WHOLE
from graph.report.columns import EFFORT_COLUMNS
from graph.report.terminal import (
    ablation_table,
    comparison_table,
    detail_table,
    effort_table,
    learning_table,
    results_table,
)
from tests.unit.graph.report.test_html import MEASURED, learned, row, study

ENDS = {"repeat": 120, "similar": 4_485, "disliked": 109, "chose": 0, "stayed": 1_106}
DIFFERENCE = {"difference": -1_113.2, "ci": [-1_200.5, -1_000.5], "users": 2}
LARGE = MEASURED | {
    **{
        "minus_billp": DIFFERENCE,
        "learned": DIFFERENCE,
        "total_reward": 1_234.5,
        "total_reward_ci": [1_100.5, 1_300.5],
    },
    **{"length": 1_234.5, "prompt_tokens_per_step": 12_345.0, "calls_per_step": 14.5, "leave_reasons": ENDS},
    **{"tuning_visits": 12_520, "training_steps": 1_000_000, "training_visits": 150_000},
    **learned(1_234.5, 2_345.5, difference=1_111.0, ci=[1_000.5, 1_200.5], gap_closed=-1.23),
    "replies": {"actor": {"ok": 22_222, "repaired": 0, "asked_again": 0, "fallback": 11_111}},
}
ROWS = [
    row("diverse_greedy", **LARGE),
    *(row(WHOLE, **LARGE, memory=memory) for memory in ("full", "prior", "empty")),
    *(
        row(WHOLE, **LARGE, minus_full=DIFFERENCE, without=part, memory=memory)
        for part in PARTS
        for memory in ("full", "prior", "empty")
    ),
]


@pytest.mark.parametrize(
    "make", [results_table, comparison_table, detail_table, effort_table, ablation_table, learning_table]
)
def test_no_table_is_cut_off_in_80_columns(make: Callable[[Mapping[str, Any]], Table | None]) -> None:
    table = make(study(*ROWS))
    assert table is not None
    text = printed(table)
    assert "…" not in text and max(map(len, text.splitlines())) <= 80


def test_the_effort_is_shown_in_full() -> None:
    table = effort_table(study(*ROWS))
    assert table is not None and len(table.columns) == 1 + len(EFFORT_COLUMNS)
    text = printed(table)
    whole = ["diverse_greedy", "12520", "1000000", "150000", "12345", "14.5", "11111", "(33%)"]
    assert whole in map(str.split, text.splitlines())
    assert "tuning visits: train visits by which a rule was tuned." in " ".join(text.split())


def test_the_last_visits_stand_beside_the_first() -> None:
    rows = [
        row("billp", **learned(20.0, 90.0, difference=70.0, ci=[50.0, 90.0], gap_closed=0.4)),
        row("billp", memory="prior", **learned(21.0, 19.0, difference=-2.0, ci=[-9.0, 5.0], gap_closed=-0.1)),
        row("genre_greedy", total_reward=50.0, **learned(40.0, 60.0, difference=20.0, ci=[1.0, 39.0], gap_closed=0.0)),
        # All last visits of this one failed.
        row("react", by_cohort=[]),
    ]
    table = learning_table(study(*rows))
    assert table is not None
    text = printed(table)
    lines = [line.split() for line in text.splitlines()]
    assert ["variant", "1", "to", "20", "81", "to", "100", "(95%", "interval)", "by", "the", "last"] in lines
    assert ["billp", "20.0", "90.0", "+70.0", "(+50", "to", "+90)", "40%"] in lines
    assert ["prior", "21.0", "19.0", "-2.0", "(-9", "to", "+5)", "-10%"] in lines
    assert "react" not in text
    told = " ".join(text.split())
    assert "the difference of a rule or of the oracle, which do not learn, is theirs." in told
    assert "from genre_greedy (0%) to the oracle (100%)" in told and "No interval" not in told
    few = learning_table(study(row("billp", **learned(20.0, 90.0, difference=70.0, ci=None, gap_closed=None))))
    assert few is not None and "No interval: it needs 10 users on both sides." in " ".join(printed(few).split())
    assert learning_table(study(row("billp"))) is None


def printed(table: Table) -> str:
    console = Console(width=80, record=True)
    console.print(table)
    return console.export_text()
