"""Finished studies under BILLP_HOME, as the page shows them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from graph.report.schema import JsonMapping, Results, read_results
from graph.report.terminal import name_of
from graph.report.verdict import verdict_sentences
from graph.study.run import REPORT, RESULTS, finished_folders, finished_run, run_folder
from graph.web.study_visits import LISTS_KEPT, visits_by_row
from memory.home import home
from sim.errors import BadInputError
from sim.metrics.summary import paired


def finished_runs() -> list[dict[str, Any]]:
    """Return the finished studies by name; a damaged one with its fault."""
    return [_listed(folder) for folder in finished_folders(home() / "runs")]


def _listed(folder: Path) -> dict[str, Any]:
    file = folder / RESULTS
    try:
        return _described(folder, _read(file, file.stat().st_mtime_ns))
    except (BadInputError, OSError) as error:
        return {"name": folder.name, "report": (folder / REPORT).is_file(), "fault": str(error)}


@lru_cache(maxsize=LISTS_KEPT)
def _read(file: Path, changed: int) -> Results:
    """Return the results in a file; with the time of its last change, so that a study run again is read again."""
    return read_results(file)


def _described(folder: Path, results: Results) -> dict[str, Any]:
    provenance = results.get("provenance")
    return {
        "name": folder.name,
        "report": (folder / REPORT).is_file(),
        "world": results["world"],
        "model": results["model"],
        "ended": provenance["ended"] if provenance else None,
        "verdict": " ".join(verdict_sentences(results)),
    }


def rows_of(name: str) -> dict[str, Any]:
    """Return the rows of a finished study.

    Raises:
        BadInputError: The study is unknown, unfinished or damaged.
    """
    results = _results(name)
    return _described(run_folder(name), results) | {
        "note": results["note"],
        "rows": [_row(row) for row in results["rows"]],
    }


def _results(name: str) -> Results:
    file = finished_run(run_folder(name)) / RESULTS
    return _read(file, file.stat().st_mtime_ns)


def _row(row: JsonMapping) -> dict[str, Any]:
    return {
        "variant": name_of(row),
        "visits": row["visits"],
        "length": row["length"],
        "total_reward": row["total_reward"],
        "total_reward_ci": row["total_reward_ci"],
        "mean_reward": row["mean_reward"],
    }


def report_file(name: str) -> Path:
    """Return the report of a finished study.

    Raises:
        BadInputError: The study is unknown, or has no report.
    """
    file = finished_run(run_folder(name)) / REPORT
    if not file.is_file():
        raise BadInputError(f"the run {name!r} has no report: run `billp report {name}`")
    return file


def compared(name: str, other: str) -> dict[str, Any]:
    """Return the rows of two studies side by side; of one world, with the differences user by user.

    Raises:
        BadInputError: A study is unknown, unfinished or damaged.
    """
    one, two = _results(name), _results(other)
    same_world = one.get("world_checksum") is not None and one.get("world_checksum") == two.get("world_checksum")
    visits = [visits_by_row(run) for run in (name, other)] if same_world else []
    rows = []
    second = {name_of(row): row for row in two["rows"]}
    for row in one["rows"]:
        variant = name_of(row)
        if variant in second:
            rows.append(
                {
                    "variant": variant,
                    "one": _row(row),
                    "two": _row(second[variant]),
                    "difference": _difference(variant, visits),
                }
            )
    return {"one": name, "two": other, "same_world": same_world, "rows": rows}


def _difference(variant: str, visits: Sequence[Mapping[str, Sequence[JsonMapping]]]) -> dict[str, Any] | None:
    """Return the paired difference of a row's users; None for runs of different worlds or without common users."""
    if not visits:
        return None
    try:
        return dict(paired(*(one.get(variant, []) for one in visits)))
    except BadInputError:
        return None
