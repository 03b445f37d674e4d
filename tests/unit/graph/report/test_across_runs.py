"""Comparison of several runs: means and t intervals computed by hand, and refusal of runs that cannot be compared."""

import re
from typing import Any

import pytest
from rich.console import Console

from graph.report.across_runs import FinishedRun, compare_runs
from graph.report.across_tables import as_json, captions, comparison_tables, markdown
from graph.report.setting_differences import settings_by_name
from graph.report.terminal import name_of
from sim.errors import BadInputError
from tests.unit.graph.report.test_html import learned, row

SETTINGS = {"world": "w", "variants": ["billp"], "train": 40, "cohort": 10, "context": {"model": "rules", "gamma": 0.5}}
# Means 13, 5 and 8 and −1; half-widths of three values: t · s / √3 with t = 4.302653.
BILLP, GREEDY, LEARNED = (10.0, 12.0, 17.0), (5.0, 5.0, 5.0), (8.0, -1.0, -10.0)
HALF_BILLP = 4.302653 * (13 / 3) ** 0.5
HALF_LEARNED = 4.302653 * (81 / 3) ** 0.5


def difference(value: float) -> dict[str, Any]:
    return {"difference": value, "ci": [value - 1, value + 1], "users": 2}


def finished(number: int, *rows: dict[str, Any], **settings: Any) -> FinishedRun:
    """Return the run of a cut by its number, with rows beside those of `billp` and `greedy`."""
    own = [
        row("billp", total_reward=BILLP[number], learned=difference(LEARNED[number]), gap_closed=0.25 * (number - 1)),
        row("greedy", total_reward=GREEDY[number], minus_billp=difference(GREEDY[number] - BILLP[number])),
        *rows,
    ]
    named: dict[str, Any] = {name_of(one): one for one in own}
    changed = SETTINGS | {"world": f"cut{number}"} | settings
    nothing: dict[str, Any] = dict.fromkeys(named, {})
    return FinishedRun(
        f"run-{number}", f"cut{number}", f"sum{number}", "No LLM.", settings_by_name(changed), named, nothing
    )


def printed(*runs: FinishedRun, **options: Any) -> str:
    console = Console(width=80, record=True)
    for table in comparison_tables(compare_runs(runs, **options)):
        console.print(table)
    return console.export_text()


def test_means_and_intervals_are_those_computed_by_hand() -> None:
    changed = row("billp", memory="empty", total_reward=1.0)
    part = row("billp_outlook", without="lessons", total_reward=2.0, minus_full=difference(-3.0))
    found = compare_runs([finished(number, changed, part) for number in range(3)], minus="billp")
    rows = {name_of(one.row): one.figures for one in found.rows}
    assert list(rows) == ["billp", "greedy", "billp (empty)", "billp_outlook without lessons"]
    total, learned, gap = (rows["billp"][name] for name in ("total reward", "learned", "gap closed"))
    assert total is not None and learned is not None and gap is not None
    assert (total.values, total.mean) == (list(BILLP), 13.0)
    assert total.ci == pytest.approx([13 - HALF_BILLP, 13 + HALF_BILLP], abs=1e-4)
    assert (learned.values, learned.mean) == (list(LEARNED), -1.0)
    assert learned.ci == pytest.approx([-1 - HALF_LEARNED, -1 + HALF_LEARNED], abs=1e-4)
    assert gap.values == [-0.25, 0.0, 0.25]
    # The figure of `--minus` is that of each run; `billp` has none against itself.
    minus = rows["greedy"]["minus billp"]
    assert minus is not None and minus.values == [-5.0, -7.0, -12.0] and minus.mean == -8.0
    assert rows["billp"]["minus billp"] is None
    lessons = rows["billp_outlook without lessons"]
    assert lessons["minus full"] is not None and lessons["minus full"].values == [-3.0] * 3
    assert lessons["minus full"].ci == [-3.0, -3.0] and lessons["learned"] is None
    assert found.remarks == ["Intervals: Student's t (95%) over 3 runs.", "No LLM."]


def test_the_tables_show_each_run_beside_the_mean() -> None:
    text = printed(*(finished(number) for number in range(3)), minus="greedy")
    lines = [line.split() for line in text.splitlines()]
    assert ["billp", "13.0", "(4", "to", "22)", "10.0", "12.0", "17.0"] in lines
    assert ["billp", "-1.0", "(-23", "to", "+21)", "+8.0", "-1.0", "-10.0"] in lines
    assert ["billp", "0%", "(-62%", "to", "62%)", "-25%", "0%", "25%"] in lines
    assert ["billp", "+8.0", "(-1", "to", "+17)", "+5.0", "+7.0", "+12.0"] in lines
    assert "minus greedy" in text and "minus full" not in text
    found = captions(compare_runs([finished(number) for number in range(3)], minus="greedy"))
    assert found[0] == "Runs: 1 run-0 (world cut0), 2 run-1 (world cut1), 3 run-2 (world cut2)."
    assert "minus greedy: difference in total reward." in found[1] and "minus full" not in found[1]


def test_a_row_stands_under_the_one_that_names_its_variant() -> None:
    outlook = row("billp_outlook", total_reward=4.0)
    part = row("billp_outlook", without="lessons", minus_full=difference(-3.0))
    changed = part | {"memory": "prior", "minus_full": difference(-2.0)}
    lines = printed(*(finished(number, outlook, part, changed) for number in range(3))).splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip() == "minus full")
    labels = [re.split(r"\s[-+\d]", line)[0].rstrip() for line in lines[start:]]
    found = [label for label in labels if label.strip() in ("billp", "billp_outlook", "no lessons", "prior")]
    assert found[:3] == [" billp_outlook", "   no lessons", "     prior"]


def test_markdown_has_a_line_for_each_run() -> None:
    changed = row("billp", memory="empty", total_reward=1.0)
    text = markdown(compare_runs([finished(number, changed) for number in range(3)]))
    assert (
        "**total reward**: summed over a visit.\n\n"
        "| run | `billp` | `greedy` | `billp` (empty) |\n"
        "| --- | --- | --- | --- |\n"
        "| `run-0` | 10.0 | 5.0 | 1.0 |\n"
        "| `run-1` | 12.0 | 5.0 | 1.0 |\n"
        "| `run-2` | 17.0 | 5.0 | 1.0 |\n"
        "| mean (95% interval) | 13.0 (4 to 22) | 5.0 (5 to 5) | 1.0 (1 to 1) |\n"
    ) in text
    assert "| mean (95% interval) | −1.0 (−23 to +21) |\n" in text
    assert text.endswith("Intervals: Student's t (95%) over 3 runs.\nNo LLM.")


def test_the_last_visits_are_a_figure_of_runs_that_learn_at_test() -> None:
    runs = []
    for number, (last, gained, gap) in enumerate(((90.0, 70.0, 0.4), (95.0, 60.0, 0.5), (100.0, 50.0, 0.9))):
        own = learned(20.0, last, difference=gained, ci=None, gap_closed=gap)
        runs.append(finished(number, row("outlook_only", **own)))
    (found,) = [one.figures for one in compare_runs(runs).rows if one.row["variant"] == "outlook_only"]
    last_visits, gains, gaps = (found[name] for name in ("last visits", "last minus first", "gap closed by the last"))
    assert last_visits is not None and gains is not None and gaps is not None
    assert (last_visits.values, gains.values, gaps.values) == ([90.0, 95.0, 100.0], [70.0, 60.0, 50.0], [0.4, 0.5, 0.9])
    half = 4.302653 * 5 / 3**0.5
    assert last_visits.ci == pytest.approx([95 - half, 95 + half], abs=1e-4)
    lines = [line.split() for line in printed(*runs).splitlines()]
    assert ["outlook_only", "95.0", "(83", "to", "107)", "90.0", "95.0", "100.0"] in lines
    assert ["outlook_only", "+60.0", "(+35", "to", "+85)", "+70.0", "+60.0", "+50.0"] in lines
    assert ["outlook_only", "60%", "(-6%", "to", "126%)", "40%", "50%", "90%"] in lines


def test_two_runs_have_a_mean_and_no_interval_with_the_reason() -> None:
    found = compare_runs([finished(number) for number in range(2)])
    total = found.rows[0].figures["total reward"]
    assert total is not None and (total.mean, total.ci) == (11.0, None)
    assert found.remarks[0] == "No interval: it needs at least 3 runs."
    assert "| mean | 11.0 | 5.0 |" in markdown(found)
    assert "interval" not in printed(*found.runs)


def test_many_runs_stand_in_tables_of_80_columns() -> None:
    runs = []
    for number in range(12):
        run = finished(number % 3, row("billp_outlook", without="experiences", total_reward=1_234.5))
        runs.append(run._replace(name=f"run-{number}", checksum=f"sum{number}"))
    text = printed(*runs, minus="billp_outlook without experiences")
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    assert text.count("1234.5") == 1 + 12 and "12" in text.split()


def test_rows_and_gaps_that_not_all_runs_have_are_left_out_and_named() -> None:
    other = row("random", total_reward=3.0, gap_closed=0.5)
    found = compare_runs([finished(0, other), finished(1), finished(2, other)])
    assert [name_of(one.row) for one in found.rows] == ["billp", "greedy"]
    assert "gap closed" not in found.rows[0].figures
    assert "Left out, since not all runs have them: random." in found.remarks
    assert "No gap closed: the runs have different rules." in found.remarks


def test_a_figure_that_one_run_lacks_is_left_out_of_that_row() -> None:
    runs = [finished(number, row("react", learned=difference(1.0) if number else None)) for number in range(3)]
    (found,) = [one for one in compare_runs(runs).rows if one.row["variant"] == "react"]
    assert found.figures["learned"] is None and found.figures["total reward"] is not None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"train": 100, "cohort": 20},
            r"'run-0' and 'run-2' have different settings \(train: 40 and 100; cohort: 10 and 20\)",
        ),
        ({"context": {"model": "openai:x", "gamma": 0.5}}, r"\(context.model: 'rules' and 'openai:x'\)"),
        ({"final": True}, r"\(final: False and True\)"),
    ],
)
def test_runs_of_different_settings_are_compared_on_request_alone(changes: dict[str, Any], why: str) -> None:
    runs = [finished(number, final=False) for number in range(2)] + [finished(2, **{"final": False} | changes)]
    with pytest.raises(BadInputError, match=why) as caught:
        compare_runs(runs)
    assert str(caught.value).endswith("compare runs of equal settings, or add `--mixed`")
    (remark,) = [one for one in compare_runs(runs, mixed=True).remarks if one.startswith("Mixed: ")]
    assert str(caught.value).startswith(remark.removeprefix("Mixed: ").removesuffix("."))


def test_settings_that_only_select_rows_may_differ() -> None:
    other = finished(1, variants=["billp", "greedy"], memory=["full", "empty"], visits_per_user=3, curve=2)
    assert len(compare_runs([finished(0, memory=["full"], visits_per_user=1, curve=0), other]).rows) == 2


def test_a_variant_with_other_settings_of_its_own_is_named() -> None:
    other = finished(1)
    changed = other._replace(own_settings={**other.own_settings, "billp": {"hints": 2}})
    with pytest.raises(BadInputError, match=r"\(settings of billp\)"):
        compare_runs([finished(0), changed])


def test_what_cannot_be_compared_is_refused_in_a_line() -> None:
    one, two = finished(0), finished(1)
    with pytest.raises(BadInputError, match="name at least two runs"):
        compare_runs([one])
    with pytest.raises(BadInputError, match="the runs 'run-0' and 'again' are of one world, 'cut0'"):
        compare_runs([one, two, one._replace(name="again")], mixed=True)
    with pytest.raises(BadInputError, match="--minus random: not all runs have this row; choose one of billp, greedy"):
        compare_runs([one, two], minus="random")
    with pytest.raises(BadInputError, match="no variant in common"):
        compare_runs([one, two._replace(rows={}, own_settings={})])


def test_programs_get_all_digits() -> None:
    found = as_json(compare_runs([finished(number) for number in range(3)]))
    assert found["runs"][1] == {"name": "run-1", "world": "cut1", "world_checksum": "sum1"}
    assert found["rows"][0]["total_reward"]["ci"] == pytest.approx([13 - HALF_BILLP, 13 + HALF_BILLP], abs=1e-4)
    assert (found["rows"][1]["learned"], found["rows"][1]["variant"]) == (None, "greedy")
