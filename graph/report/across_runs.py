"""Comparison of several finished runs, usually of one cut of the same data each: means and intervals over runs.

A bootstrap over the users of one run says nothing about another cut of the ratings, or another training. Runs on worlds
of their own hold both, so their means are compared by Student's t interval.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graph.report.schema import RULE_BASELINES, FirstAndLast, Row, read_results
from graph.report.setting_differences import setting_differences, settings_by_name
from graph.report.terminal import name_of
from sim.errors import BadInputError
from sim.metrics.summary import PairedDifference
from sim.metrics.t_interval import FEWEST_VALUES, t_interval

# Settings that decide which rows a run has, and change no row: runs are compared by the rows that all have.
_FREE_SETTINGS = frozenset(
    ("world", "variants", "ablate", "memory", "curve", "curve_users", "visits_per_user", "recall")
)
# Number of differing settings that a message names.
_MOST_NAMED = 5


class FinishedRun(NamedTuple):
    """Results of a finished run."""

    name: str
    world: str
    checksum: str
    """Checksum of the world."""
    note: str
    settings: Mapping[str, Any]
    """Settings by name."""
    rows: Mapping[str, Row]
    """Rows by display name."""
    own_settings: Mapping[str, Any]
    """Settings of variants that differ from the study's, by display name of the row."""

    @property
    def rules(self) -> set[str]:
        """Rules that take part; the gap to the oracle starts at the best of them."""
        return {row["variant"] for row in self.rows.values()} & set(RULE_BASELINES)


class FigureOverRuns(NamedTuple):
    """A figure of a row in each run, with its mean over the runs."""

    values: list[float]
    mean: float
    ci: list[float] | None
    """Student's t interval (95%) of the mean over runs; None for fewer than three runs."""


class ComparedRow(NamedTuple):
    """Row that all runs have, with its figures; None for a figure that it lacks in a run."""

    row: Row
    """Row of the first run."""
    figures: Mapping[str, FigureOverRuns | None]


class RunComparison(NamedTuple):
    """Comparison of runs by the rows that all have."""

    runs: Sequence[FinishedRun]
    figures: Sequence[str]
    """Names of the figures, in the order of their tables."""
    rows: Sequence[ComparedRow]
    remarks: Sequence[str]
    """Sentences about the intervals, and about rows and figures that are left out."""


def read_finished(name: str, file: Path) -> FinishedRun:
    """Read the results.json of a finished run.

    Raises:
        BadInputError: The file is damaged or from another version.
        OSError: The file cannot be read.
    """
    results = read_results(file)
    if "world_checksum" not in results:
        raise BadInputError(f"{file} is from another version (it lacks the checksum of the world): run the study again")
    # The checked content has only the settings and fields that a report shows.
    raw = json.loads(file.read_bytes())
    return FinishedRun(
        name,
        results["world"],
        results["world_checksum"],
        results["note"],
        settings_by_name(raw["settings"]),
        {name_of(row): row for row in results["rows"]},
        {name_of(row): row.get("settings", {}) for row in raw["rows"]},
    )


def compare_runs(runs: Sequence[FinishedRun], minus: str = "", mixed: bool = False) -> RunComparison:
    """Compare runs by the rows that all have.

    Args:
        runs: At least two runs, each of a world of its own.
        minus: Display name of a row; the difference of each row from it is one more figure.
        mixed: Whether the runs may have different settings.

    Raises:
        BadInputError: There are too few runs, two of them have one world or different settings, they have no row in
            common, or none has the row of `minus`.
    """
    if len(runs) < 2:
        raise BadInputError("there is nothing to compare with: name at least two runs")
    _check_worlds(runs)
    first, *others = runs
    common = [name for name in first.rows if all(name in run.rows for run in others)]
    differing = _differences(runs, common)
    if differing and not mixed:
        raise BadInputError(f"{differing}: compare runs of equal settings, or add `--mixed`")
    if not common:
        raise BadInputError("the runs have no variant in common: compare runs of the same variants")
    if minus and minus not in common:
        raise BadInputError(f"--minus {minus}: not all runs have this row; choose one of {', '.join(common)}")
    gaps = all(run.rules == first.rules for run in others)
    figures = _figures(minus, gaps)
    rows = [
        ComparedRow(
            first.rows[name],
            {figure: _over_runs([measure(run.rows[name], run) for run in runs]) for figure, measure in figures.items()},
        )
        for name in common
    ]
    remarks = _remarks_on(runs, common, gaps) + ([f"Mixed: {differing}."] if differing else [])
    return RunComparison(runs, list(figures), rows, remarks)


def _check_worlds(runs: Sequence[FinishedRun]) -> None:
    seen: dict[str, FinishedRun] = {}
    for run in runs:
        former = seen.setdefault(run.checksum, run)
        if former is not run:
            raise BadInputError(
                f"the runs {former.name!r} and {run.name!r} are of one world, {run.world!r}, so they are no two cuts: "
                "leave out one of them"
            )


def _differences(runs: Sequence[FinishedRun], common: Sequence[str]) -> str:
    """Describe how the settings of the first run that differs from the first of all do so; empty if none differs."""
    first, *others = runs
    for other in others:
        one, two = (
            {name: of for name, of in run.settings.items() if name not in _FREE_SETTINGS} for run in (first, other)
        )
        found = setting_differences(one, two, " and ")
        found += [f"settings of {name}" for name in common if first.own_settings[name] != other.own_settings[name]]
        if found:
            more = f"; {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
            named = "; ".join(found[:_MOST_NAMED])
            return f"the runs {first.name!r} and {other.name!r} have different settings ({named}{more})"
    return ""


def _figures(minus: str, gaps: bool) -> dict[str, Callable[[Row, FinishedRun], float | None]]:
    """Return the functions of the figures by name, each of a row and its run."""
    figures: dict[str, Callable[[Row, FinishedRun], float | None]] = {
        "total reward": lambda row, _: row["total_reward"],
        "minus billp": lambda row, _: _difference(row["minus_billp"]),
        "learned": lambda row, _: _difference(row["learned"]),
        "minus full": lambda row, _: _difference(row["minus_full"]),
    }
    figures |= {
        "last visits": lambda row, _: _of_ends(row, lambda ends: ends["last"]["total_reward"]),
        "last minus first": lambda row, _: _of_ends(row, lambda ends: ends["difference"]),
    }
    if gaps:
        figures["gap closed"] = lambda row, _: row["gap_closed"]
        figures["gap closed by the last"] = lambda row, _: _of_ends(row, lambda ends: ends["gap_closed"])
    # The difference from `billp` is there already, paired by user.
    if minus and f"minus {minus}" not in figures:
        figures[f"minus {minus}"] = lambda row, run: _minus(row, run.rows[minus])
    return figures


def _minus(row: Row, other: Row) -> float | None:
    return None if row is other else row["total_reward"] - other["total_reward"]


def _of_ends(row: Row, measure: Callable[[FirstAndLast], float | None]) -> float | None:
    ends = row.get("first_and_last")
    return None if ends is None else measure(ends)


def _difference(of: PairedDifference | None) -> float | None:
    return None if of is None else of["difference"]


def _over_runs(values: Sequence[float | None]) -> FigureOverRuns | None:
    known = [value for value in values if value is not None]
    return FigureOverRuns(known, float(np.mean(known)), t_interval(known)) if len(known) == len(values) else None


def _remarks_on(runs: Sequence[FinishedRun], common: Sequence[str], gaps: bool) -> list[str]:
    count = len(runs)
    remarks = [
        f"Intervals: Student's t (95%) over {count} runs."
        if count >= FEWEST_VALUES
        else f"No interval: it needs at least {FEWEST_VALUES} runs."
    ]
    if missing := list(dict.fromkeys(name for run in runs for name in run.rows if name not in common)):
        remarks.append(f"Left out, since not all runs have them: {', '.join(missing)}.")
    if not gaps and any(row["gap_closed"] is not None for run in runs for row in run.rows.values()):
        remarks.append("No gap closed: the runs have different rules.")
    return remarks + list(dict.fromkeys(run.note for run in runs if run.note))
