"""Results as a table."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from sim.leave import LEAVE_REASONS

ENDS = (*LEAVE_REASONS, "stayed")


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
            row["variant"],
            f"{row['length']:.1f}",
            f"{row['mean_reward']:.2f}",
            f"{row['total_reward']:.1f} ({low:.0f} to {high:.0f})",
            f"{row['prompt_tokens_per_step']:.0f}",
            f"{row['calls_per_step']:.1f}",
            "/".join(str(row["leave_reasons"][reason]) for reason in ends),
        )
    return table


def _ends(results: Mapping[str, Any]) -> list[str]:
    """Return how visits may end; by the user's own choice only where some did, since most users follow the rule."""
    chose = any(row["leave_reasons"]["chose"] for row in results["rows"])
    return [end for end in ENDS if chose or end != "chose"]


def _remarks(results: Mapping[str, Any]) -> list[str]:
    """Return what has to be said besides: visits that are missing, other training, and what all cost."""
    remarks = [f"{row['variant']}: {row['failed']} visits failed." for row in results["rows"] if row["failed"]]
    remarks += [
        f"{row['variant']}: trained for {row['training_steps']:,} steps, {row['training_visits']:,} visits."
        for row in results["rows"]
        if "training_steps" in row
    ]
    costs = [row["cost"] for row in results["rows"]]
    if None not in costs and sum(costs) > 0:
        remarks.append(f"All calls together cost ${sum(costs):.4f}.")
    return remarks
