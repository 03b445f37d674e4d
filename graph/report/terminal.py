"""Tables of a study's results for the terminal."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from graph.ablation import MEANING, named, part_worth, setting_of
from graph.report.schema import best_rule
from sim.leave import LEAVE_REASONS

END_REASONS = (*LEAVE_REASONS, "stayed")


def results_table(results: Mapping[str, Any]) -> Table:
    """Return the rows of results.json as a table for the terminal, 80 columns wide."""
    first = results["rows"][0]
    ends = _ends(results)
    table = Table(
        title=(
            f"{first['visits']} visits of {first['split']} users in the world {results['world']}, "
            f"after {results['settings']['train']} train visits. Model: {results['model']}."
        ),
        title_justify="left",
        caption=" ".join([f"ended: {' / '.join(ends)} (at the limit).", *_remarks(results), results["note"]]),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0),
    )
    table.add_column("variant", no_wrap=True)
    for heading in (
        "length",
        "reward\n(mean)",
        "total reward\n(95% interval)",
        "tokens\n/step",
        "calls\n/step",
        "ended",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results["rows"]:
        low, high = row["total_reward_ci"]
        table.add_row(
            _label(row),
            f"{row['length']:.1f}",
            f"{row['mean_reward']:.2f}",
            f"{row['total_reward']:.1f} ({low:.0f} to {high:.0f})",
            f"{row['prompt_tokens_per_step']:.0f}",
            f"{row['calls_per_step']:.1f}",
            "/".join(str(row["leave_reasons"][reason]) for reason in ends),
        )
    return table


def comparison_table(results: Mapping[str, Any]) -> Table:
    """Return the comparison of the variants as a table, 80 columns wide; columns without values are left out."""
    rows = results["rows"]
    shown = [one for one in _COMPARISONS if any(one.show(row) for row in rows)]
    legend = " ".join(one.legend for one in shown).replace("BEST_RULE", str(best_rule(rows)))
    table = Table(caption=legend, caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column("variant", no_wrap=True)
    for one in shown:
        table.add_column(one.heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(_label(row), *(one.show(row) for one in shown))
    return table


class _Comparison(NamedTuple):
    """Column of the comparison table."""

    heading: str
    legend: str
    show: Callable[[Mapping[str, Any]], str]
    """Function that returns the text of a row's cell; empty if missing."""


def _show_difference(row: Mapping[str, Any]) -> str:
    against = row["minus_billp"]
    return f"{against['difference']:+.1f} ({against['ci'][0]:+.0f} to {against['ci'][1]:+.0f})" if against else ""


def _show_gap(row: Mapping[str, Any]) -> str:
    return "" if row["gap_closed"] is None else f"{row['gap_closed']:.0%}"


def _show_prediction(what: str) -> Callable[[Mapping[str, Any]], str]:
    def show(row: Mapping[str, Any]) -> str:
        value = (row["critic"] or {}).get(what)
        return "" if value is None else f"{value:.2f}"

    return show


_COMPARISONS = (
    _Comparison(
        "minus billp\n(95% interval)", "minus billp: difference in total reward, paired by user.", _show_difference
    ),
    _Comparison(
        "gap\nclosed", "gap closed: how far from BEST_RULE, the best rule here, to the oracle (100%).", _show_gap
    ),
    _Comparison(
        "items", "items: different ones recommended, in all visits together.", lambda row: str(row["distinct_items"])
    ),
    _Comparison(
        "tail",
        "tail: share of recommendations from the less popular half of the catalogue.",
        lambda row: f"{row['tail_share']:.0%}",
    ),
    _Comparison("repeats", "repeats: rounds a visit with an item it had before.", lambda row: f"{row['repeats']:.1f}"),
    _Comparison(
        "critic\nAUC", "critic AUC: of low values for leaving at that round (0.5 is chance).", _show_prediction("auc")
    ),
    _Comparison(
        "critic\nrank",
        "critic rank: correlation of values with the return still to come.",
        _show_prediction("rank_correlation"),
    ),
)


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


def ablation_table(results: Mapping[str, Any]) -> Table | None:
    """Return the worth of each part of the agent, from the rows without it; None if no part was measured."""
    rows = [row for row in results["rows"] if row["minus_full"]]
    if not rows:
        return None
    table = Table(
        caption=f"worth: {MEANING[0].lower()}{MEANING[1:]}",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    table.add_column("part", no_wrap=True)
    table.add_column("switched off by", no_wrap=True)
    table.add_column("total reward\nwithout it", justify="right", no_wrap=True)
    table.add_column("worth\n(95% interval)", justify="right", no_wrap=True)
    for row in rows:
        is_worth, low, high = part_worth(row["minus_full"]["difference"], row["minus_full"]["ci"])
        table.add_row(
            part_of(row["without"], row["memory"]),
            setting_of(row["without"]),
            f"{row['total_reward']:.1f}",
            f"{is_worth:+.1f} ({low:+.0f} to {high:+.0f})",
        )
    return table


def part_of(part: str, memory: str) -> str:
    """Return the display name of a part in a table of parts, with the memory control if any."""
    return part if memory == "full" else f"{part} ({memory})"


def name_of(row: Mapping[str, Any]) -> str:
    """Return the display name of a row: its variant, the missing part, and the memory control."""
    name = named(row["variant"], row["without"])
    return name if row["memory"] == "full" else f"{name} ({row['memory']})"


def _label(row: Mapping[str, Any]) -> str:
    """Return the name of a row in a narrow table, where rows with less or changed memory follow the variant's own."""
    indent, name = ("", row["variant"]) if row["without"] is None else ("  ", f"no {row['without']}")
    return f"{indent}{name}" if row["memory"] == "full" else f"{indent}  {row['memory']}"


def _ends(results: Mapping[str, Any]) -> list[str]:
    """Return the reasons for a visit's end; `chose` only if it occurred, since most users follow the leave rule."""
    chose = any(row["leave_reasons"]["chose"] for row in results["rows"])
    return [end for end in END_REASONS if chose or end != "chose"]


def _remarks(results: Mapping[str, Any]) -> list[str]:
    """Return remarks on the results: failed visits, tuning and training, learning at test time, and total cost."""
    remarks = [f"{name_of(row)}: {row['failed']} visits failed." for row in results["rows"] if row["failed"]]
    tuned = [f"{row['variant']} {row['tuning_visits']:,}" for row in results["rows"] if row["tuning_visits"]]
    if tuned:
        remarks.append(f"Train visits that tuning took: {', '.join(tuned)}.")
    remarks += [
        f"{row['variant']}: trained for {row['training_steps']:,} steps, {row['training_visits']:,} visits."
        for row in results["rows"]
        if row["training_steps"]
    ]
    if results["settings"]["learn_at_test"]:
        remarks.append("Memory kept growing during these visits.")
    costs = [row["cost"] for row in results["rows"]]
    if None not in costs and sum(costs) > 0:
        remarks.append(f"All calls together cost ${sum(costs):.4f}.")
    return remarks
