from typing import Any

from graph.report.html import report_page
from graph.report.replies import ReplyCounts, count_replies, useless, useless_by_role, warnings
from tests.unit.graph.report.test_html import VISITS, row, study, words


def visit(*outcomes: dict[str, str]) -> dict[str, Any]:
    return {"steps": [{"outcomes": one} for one in outcomes]}


def counts(ok: int = 0, repaired: int = 0, asked_again: int = 0, fallback: int = 0) -> ReplyCounts:
    return ReplyCounts(ok=ok, repaired=repaired, asked_again=asked_again, fallback=fallback)


def test_replies_are_counted_by_role_over_all_rounds_of_all_visits() -> None:
    visits = [
        visit({"planner": "ok", "actor": "fallback"}, {"planner": "repaired", "actor": "asked_again"}),
        visit({"planner": "ok"}),
        {"steps": [{}]},
    ]
    found = count_replies(visits)
    assert found == {"planner": counts(ok=2, repaired=1), "actor": counts(asked_again=1, fallback=1)}
    assert useless(found) == (1, 5) and useless_by_role(found) == "actor 1 of 2"
    assert count_replies([]) == {} and useless({}) == (0, 0) and useless_by_role({}) == ""


def test_words_that_an_edit_brought_are_no_replies() -> None:
    assert count_replies([visit({"planner": "excellent"})]) == {"planner": counts()}


def test_a_row_most_of_whose_replies_were_of_no_use_is_named() -> None:
    half, most = {"actor": counts(ok=2, fallback=2)}, {"actor": counts(ok=2, fallback=3), "critic": counts(ok=9)}
    assert warnings([("billp", half), ("react", {})]) == []
    assert warnings([("billp", half), ("react", most)]) == [
        "react: most replies were of no use (actor 3 of 5), so fallbacks were measured."
    ]


def test_the_report_says_first_that_fallbacks_were_measured_and_counts_them_in_a_column() -> None:
    most = row("billp", replies={"actor": counts(ok=2, fallback=3), "critic": counts(ok=5)})
    text = words(report_page(study(most, row("random")), VISITS))
    warning = "billp: most replies were of no use (actor 3 of 5), so fallbacks were measured."
    assert warning in text and text.index(warning) < text.index("Results")
    assert "3 (30%)" in text
    # Where every reply was of use, there is no such column.
    assert "no use" not in words(report_page(study(row("billp", replies={"actor": counts(ok=2)})), VISITS))
