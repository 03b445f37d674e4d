"""Tables of a study's results for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from graph.ablation import MEANING, named, part_worth, setting_of
from graph.report.columns import (
    COMPARISON_COLUMNS,
    DETAIL_COLUMNS,
    EFFORT_COLUMNS,
    MAIN_COLUMNS,
    Column,
    interval_note,
    shown_columns,
    signed_with_interval,
)
from graph.report.replies import warnings
from graph.report.schema import CohortReward, Row, best_rule
from sim.leave import LEAVE_REASONS
from sim.metrics.bootstrap import FEWEST_USERS

END_REASONS = (*LEAVE_REASONS, "stayed")


def results_table(results: Mapping[str, Any]) -> Table:
    """Return the rows of results.json as a table for the terminal, 80 columns wide."""
    first = results["rows"][0]
    ends = _ends(results)
    table = Table(
        title=(
            f"{first['visits']} visits of {first['split']} users in the world {results['world']}, "
            f"after {results['settings']['train']} train visits in cohorts of {results['settings']['cohort']}. "
            f"Model: {results['model']}."
        ),
        title_justify="left",
        caption=" ".join([f"ended: {' / '.join(ends)} (at the limit).", *_remarks(results), results["note"]]),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0),
    )
    columns = shown_columns(MAIN_COLUMNS, results["rows"])
    _add_columns(table, columns)
    table.add_column("ended", justify="right", no_wrap=True)
    for row in results["rows"]:
        table.add_row(
            row_label(row),
            *(column.narrow_cell(row) for column in columns),
            "/".join(str(row["leave_reasons"][reason]) for reason in ends),
        )
    return table


def comparison_table(results: Mapping[str, Any]) -> Table | None:
    """Return the comparison of the variants as a table, 80 columns wide; None if nothing can be compared."""
    return _table_of(COMPARISON_COLUMNS, results)


def detail_table(results: Mapping[str, Any]) -> Table | None:
    """Return the items and the Critic's predictions as a table, 80 columns wide."""
    return _table_of(DETAIL_COLUMNS, results)


def effort_table(results: Mapping[str, Any]) -> Table | None:
    """Return what each variant took, visits of tuning and training and its calls, as a table, 80 columns wide."""
    return _table_of(EFFORT_COLUMNS, results)


def _table_of(names: Sequence[str], results: Mapping[str, Any]) -> Table | None:
    columns = shown_columns(names, results["rows"])
    if not columns:
        return None
    legend = " ".join(f"{column.name}: {column.legend}" for column in columns if column.legend)
    table = Table(caption=legend, caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    _add_columns(table, columns)
    for row in results["rows"]:
        table.add_row(row_label(row), *(column.narrow_cell(row) for column in columns))
    return table


def _add_columns(table: Table, columns: list[Column]) -> None:
    table.add_column("variant", no_wrap=True)
    for column in columns:
        table.add_column(column.narrow or column.heading, justify="right", no_wrap=True)


def returning_table(results: Mapping[str, Any]) -> Table | None:
    """Return the total reward of returning users, by number of the visit; None if the study has none."""
    rows = [row for row in results["rows"] if row.get("returning")]
    if not rows:
        return None
    visits = range(1, results["settings"]["visits_per_user"] + 1)
    table = Table(
        caption="Total reward of users who come back, by whose records they are served with, and number of the visit.",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    table.add_column("variant", no_wrap=True)
    table.add_column("recalled", no_wrap=True)
    for visit in visits:
        table.add_column(str(visit), justify="right")
    for row in rows:
        for recall in results["settings"]["recall"]:
            totals = [one["total_reward"] for one in row["returning"] if one["recall"] == recall]
            table.add_row(named(row["variant"], row["without"]), recall, *(f"{total:.1f}" for total in totals))
    return table


def learning_table(results: Mapping[str, Any]) -> Table | None:
    """Return the total reward of the last test visits against the first as a table, 80 columns wide.

    None if nothing was learned at test, or if all test visits were of one cohort.
    """
    rows = [row for row in results["rows"] if row.get("first_and_last")]
    if not rows:
        return None
    first, last = (visit_numbers(rows[0]["first_and_last"][end]) for end in ("first", "last"))
    table = Table(
        caption=" ".join(["Learning at test: total reward by number of the visit.", *learning_notes(rows)]),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0),
    )
    table.add_column("variant", no_wrap=True)
    for heading in (
        f"visits\n{first}",
        f"visits\n{last}",
        "last minus first\n(95% interval)",
        "gap closed\nby the last",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        ends = row["first_and_last"]
        table.add_row(
            row_label(row),
            *(f"{ends[end]['total_reward']:.1f}" for end in ("first", "last")),
            signed_with_interval(ends["difference"], ends["ci"], 0).replace(",", ""),
            "" if ends["gap_closed"] is None else f"{ends['gap_closed']:.0%}",
        )
    return table


def visit_numbers(cohort: CohortReward) -> str:
    """Return the numbers of the visits of a cohort, or of joined cohorts, as text."""
    return f"{cohort['first_visit']} to {cohort['last_visit']}"


def learning_notes(rows: Sequence[Row]) -> list[str]:
    """Return remarks on the last test visits against the first, and why they have no interval."""
    notes = [
        "First and last are different users: the difference of a rule or of the oracle, which do not learn, is theirs."
    ]
    if any(row["first_and_last"]["gap_closed"] is not None for row in rows):
        notes.append(f"Gap closed: from {best_rule(rows)} (0%) to the oracle (100%), among the last users.")
    if any(row["first_and_last"]["ci"] is None for row in rows):
        notes.append(f"No interval: it needs {FEWEST_USERS} users on both sides.")
    return notes


def ablation_table(results: Mapping[str, Any]) -> Table | None:
    """Return the worth of each part of the agent as a table, 80 columns wide; None if no part was measured."""
    rows = [row for row in results["rows"] if row["minus_full"]]
    if not rows:
        return None
    table = Table(
        caption=f"worth: {MEANING[0].lower()}{MEANING[1:]}",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0),
    )
    table.add_column("part", no_wrap=True)
    table.add_column("switched off by", no_wrap=True)
    table.add_column("total reward\nwithout it", justify="right", no_wrap=True)
    table.add_column("worth\n(95% interval)", justify="right", no_wrap=True)
    for row in rows:
        worth, interval = part_worth(row["minus_full"])
        table.add_row(
            part_of(row["without"], row["memory"]),
            setting_of(row["without"]).replace(" ", "\n"),
            f"{row['total_reward']:.1f}",
            signed_with_interval(worth, interval, 0).replace(",", ""),
        )
    return table


def part_of(part: str, memory: str) -> str:
    """Return the display name of a part in a table of parts, with the memory control if any."""
    return part if memory == "full" else f"{part} ({memory})"


def name_of(row: Mapping[str, Any]) -> str:
    """Return the display name of a row: its variant, the missing part, and the memory control."""
    name = named(row["variant"], row["without"])
    return name if row["memory"] == "full" else f"{name} ({row['memory']})"


def row_label(row: Mapping[str, Any]) -> str:
    """Return the name of a row in a narrow table, where rows with less or changed memory follow the variant's own."""
    indent, name = ("", row["variant"]) if row["without"] is None else ("  ", f"no {row['without']}")
    return f"{indent}{name}" if row["memory"] == "full" else f"{indent}  {row['memory']}"


def _ends(results: Mapping[str, Any]) -> list[str]:
    """Return the reasons for a visit's end; `chose` only if it occurred, since most users follow the leave rule."""
    chose = any(row["leave_reasons"]["chose"] for row in results["rows"])
    return [end for end in END_REASONS if chose or end != "chose"]


def _remarks(results: Mapping[str, Any]) -> list[str]:
    """Return remarks on the results: intervals, replies of no use, failed visits, learning at test time, cost."""
    remarks = [interval_note(results["settings"]["seeds"], results["rows"])]
    remarks += results.get("warnings", [])
    remarks += warnings([(name_of(row), row["replies"]) for row in results["rows"]])
    remarks += [f"{name_of(row)}: {row['failed']} visits failed." for row in results["rows"] if row["failed"]]
    if results["settings"]["learn_at_test"]:
        remarks.append("Memory kept growing during these visits.")
    costs = [row["cost"] for row in results["rows"]]
    if None not in costs and sum(costs) > 0:
        remarks.append(f"All calls together cost ${sum(costs):.4f}.")
    return remarks
