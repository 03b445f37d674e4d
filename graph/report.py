"""Results as a table."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def results_table(results: Mapping[str, Any]) -> Table:
    """Return the rows of results.json as a table for the terminal."""
    table = Table(
        title=f"World {results['world']}, model {results['model']}, {results['rows'][0]['split']} users",
        caption=results["note"] or None,
    )
    table.add_column("variant", no_wrap=True)
    for heading in ("visits", "length", "mean reward", "total reward", "95% interval", "tokens/step", "calls/step"):
        table.add_column(heading, justify="right")
    table.add_column("left because", no_wrap=True)
    for row in results["rows"]:
        low, high = row["total_reward_ci"]
        table.add_row(
            row["variant"],
            str(row["visits"]),
            f"{row['length']:.1f}",
            f"{row['mean_reward']:.2f}",
            f"{row['total_reward']:.1f}",
            f"{low:.1f} to {high:.1f}",
            f"{row['prompt_tokens_per_step']:.0f}",
            f"{row['calls_per_step']:.1f}",
            ", ".join(f"{reason} {count}" for reason, count in row["leave_reasons"].items() if count),
        )
    return table
