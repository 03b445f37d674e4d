"""Tables of a comparison of runs, for the terminal and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from graph.report.across_runs import ComparedRow, FigureOverRuns, RunComparison
from graph.report.schema import Row
from graph.report.terminal import name_of, row_label

# Number of runs in one table: more would not fit into 80 columns.
RUNS_IN_TABLE = 5
_LEGENDS: Mapping[str, str] = {
    "total reward": "summed over a visit",
    "minus billp": "difference in total reward, paired by user in each run",
    "learned": "difference from the same agent with an empty memory and its models at their prior",
    "minus full": "difference from the agent with all parts; below 0, the part is worth something",
    "last visits": "total reward of the last test visits, after what the earlier ones taught",
    "last minus first": "their difference from the first test visits, which are of other users",
    "gap closed by the last": "the same for the last test visits, among their users",
    "gap closed": "from the best rule of the run (0%) to the oracle (100%)",
}


def comparison_tables(comparison: RunComparison) -> list[Table]:
    """Return a table for each figure, 80 columns wide: the mean over runs with its interval, and each run."""
    tables = []
    for figure, rows in _measured(comparison):
        for first in range(0, len(comparison.runs), RUNS_IN_TABLE):
            tables.append(_table(figure, rows, range(len(comparison.runs))[first : first + RUNS_IN_TABLE]))
    return tables


def captions(comparison: RunComparison) -> list[str]:
    """Return the lines below the tables: the runs by number, the meaning of the figures, and the remarks."""
    numbered = [f"{number} {run.name} (world {run.world})" for number, run in enumerate(comparison.runs, 1)]
    legends = [f"{figure}: {_legend(figure)}." for figure, _ in _measured(comparison)]
    return [f"Runs: {', '.join(numbered)}.", " ".join(legends), *comparison.remarks]


def markdown(comparison: RunComparison) -> str:
    """Return the tables as Markdown, one line a run, with the mean below."""
    parts = []
    for figure, rows in _measured(comparison):
        # Each column says its whole name, so none needs the one before it.
        rows = [row for row in rows if row.figures[figure]]
        names, means = [_markdown_name(row.row) for row in rows], _of(figure, rows)
        lines = [f"**{figure}**: {_legend(figure)}.", "", _line("run", names), _line("---", ["---"] * len(rows))]
        for number, run in enumerate(comparison.runs):
            lines.append(_line(f"`{run.name}`", [_signed(_text(figure, of.values[number])) for of in means]))
        heading = "mean" if means[0].ci is None else "mean (95% interval)"
        lines.append(_line(heading, [_signed(_mean(figure, of)) for of in means]))
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "\n".join(comparison.remarks)])


def as_json(comparison: RunComparison) -> dict[str, Any]:
    """Return the comparison for programs: the runs, and each row with its figures; null for a missing one."""
    return {
        "runs": [{"name": run.name, "world": run.world, "world_checksum": run.checksum} for run in comparison.runs],
        "rows": [
            {
                **{name: one.row[name] for name in ("variant", "without", "memory")},
                **{
                    figure.replace(" ", "_"): None if of is None else {"runs": of.values, "mean": of.mean, "ci": of.ci}
                    for figure, of in one.figures.items()
                },
            }
            for one in comparison.rows
        ],
        "remarks": list(comparison.remarks),
    }


def _measured(comparison: RunComparison) -> list[tuple[str, list[ComparedRow]]]:
    """Return the figures that a row has, each with the rows that have it and the rows under which these stand."""
    found = []
    for figure in comparison.figures:
        having = [row.row for row in comparison.rows if row.figures[figure]]
        shown = {key for row in having for key in (_key(row), (row["variant"], row["without"], "full"))}
        shown |= {(row["variant"], None, "full") for row in having}
        if having:
            found.append((figure, [row for row in comparison.rows if _key(row.row) in shown]))
    return found


def _key(row: Row) -> tuple[str, str | None, str]:
    return row["variant"], row["without"], row["memory"]


def _of(figure: str, rows: Sequence[ComparedRow]) -> list[FigureOverRuns]:
    return [of for row in rows if (of := row.figures[figure]) is not None]


def _table(figure: str, rows: Sequence[ComparedRow], runs: range) -> Table:
    table = Table(
        title=figure,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0),
    )
    table.add_column("variant", no_wrap=True)
    means = _of(figure, rows)
    # Runs that do not fit stand in further tables.
    if runs.start == 0:
        table.add_column("mean" if means[0].ci is None else "mean\n(95% interval)", justify="right", no_wrap=True)
    for run in runs:
        table.add_column(str(run + 1), justify="right", no_wrap=True)
    for row in rows:
        if of := row.figures[figure]:
            mean = [_mean(figure, of)] if runs.start == 0 else []
            table.add_row(row_label(row.row), *mean, *(_text(figure, of.values[run]) for run in runs))
        else:
            table.add_row(row_label(row.row))
    return table


def _legend(figure: str) -> str:
    return _LEGENDS.get(figure, "difference in total reward")


def _mean(figure: str, of: FigureOverRuns) -> str:
    if of.ci is None:
        return _text(figure, of.mean)
    low, high = (_text(figure, bound, digits=0) for bound in of.ci)
    return f"{_text(figure, of.mean)} ({low} to {high})"


def _text(figure: str, value: float, digits: int = 1) -> str:
    # The option `z` makes 0 of −0.
    if figure.startswith("gap closed"):
        return f"{value:z.0%}"
    return f"{value:z.{digits}f}" if figure in ("total reward", "last visits") else f"{value:+z.{digits}f}"


def _markdown_name(row: Row) -> str:
    return f"`{row['variant']}`{name_of(row).removeprefix(row['variant'])}"


def _signed(number: str) -> str:
    return number.replace("-", "−")


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"
