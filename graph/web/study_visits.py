"""Visits of finished studies under BILLP_HOME: their list by row, and one of them with its rounds."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from graph.report.schema import JsonMapping, read_results, shown_visits, unreadable
from graph.report.terminal import name_of
from graph.study.run import RESULTS, finished_run, run_folder
from graph.study.workers import VISITS
from sim.errors import BadInputError

PAGE_OF_VISITS = 50
# Studies whose lists of visits are kept.
LISTS_KEPT = 4
_LISTED = ("user_id", "split", "seed", "length", "length_with_exit", "total_reward", "left", "leave_reason")
_SHOWN = (*_LISTED, "steps", "lessons", "usage")


class _Line(NamedTuple):
    """Line of visits.jsonl."""

    start: int
    """Place of its first byte in the file."""
    row: str
    about: dict[str, Any]


def listed_visits(name: str, row: str, pages: int) -> dict[str, Any]:
    """Return the first pages of the visits of a row of a finished study, their total number, and the names of the rows.

    Args:
        name: Name of the study.
        row: Display name of the row; empty for the first one.
        pages: Number of pages of `PAGE_OF_VISITS` visits.

    Raises:
        BadInputError: The study is unknown, unfinished or damaged, or has no such row.
    """
    lines = _lines_of(name)
    rows = list(dict.fromkeys(one.row for one in lines))
    if row and row not in rows:
        raise BadInputError(f"the study {name} has no visits of {row[:80]!r}: choose one of {', '.join(rows)}")
    wanted = row or (rows[0] if rows else "")
    found = [{"number": number} | one.about for number, one in enumerate(lines) if one.row == wanted]
    return {"rows": rows, "row": wanted, "total": len(found), "visits": found[: pages * PAGE_OF_VISITS]}


def visits_by_row(name: str) -> dict[str, list[dict[str, Any]]]:
    """Return the totals of the visits of a finished study by the display name of their row.

    Raises:
        BadInputError: The study is unknown, unfinished or damaged.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for one in _lines_of(name):
        found.setdefault(one.row, []).append(one.about)
    return found


def study_visit(name: str, number: int) -> dict[str, Any]:
    """Return a visit of a finished study with its rounds, without the records that it wrote.

    Args:
        name: Name of the study.
        number: Number of its line in visits.jsonl, from 0.

    Raises:
        BadInputError: The study is unknown, unfinished or damaged, or has no such visit.
    """
    lines = _lines_of(name)
    if not 0 <= number < len(lines):
        raise BadInputError(f"the study {name} has no visit {number}: it has {len(lines):,}, numbered from 0")
    file = run_folder(name) / VISITS
    try:
        with file.open("rb") as stream:
            stream.seek(lines[number].start)
            visit: JsonMapping = json.loads(stream.readline())
        list(shown_visits([visit]))
    except ValueError as error:
        raise BadInputError(unreadable(file, error, f", line {number + 1}")) from error
    results = read_results(file.with_name(RESULTS))
    about = {"study": name, "world": results["world"], "max_steps": results["settings"]["max_steps"]}
    return about | {"variant": lines[number].row} | {field: visit.get(field) for field in _SHOWN}


def _lines_of(name: str) -> tuple[_Line, ...]:
    file = finished_run(run_folder(name)) / VISITS
    return _lines(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=LISTS_KEPT)
def _lines(file: Path, changed: int) -> tuple[_Line, ...]:
    """Return the lines of a file; `changed` is the time of its last change, so that a study run again is read again."""
    found: list[_Line] = []
    start = 0
    with file.open("rb") as stream:
        for line in stream:
            try:
                visit = json.loads(line)
                about = {field: visit[field] for field in _LISTED} | {"rounds": len(visit["steps"])}
                found.append(_Line(start, name_of(visit), about))
            except (ValueError, LookupError, TypeError) as error:
                fault = error if isinstance(error, ValueError) else ValueError(f"no visit: {error}")
                raise BadInputError(unreadable(file, fault, f", line {len(found) + 1}")) from error
            start += len(line)
    return tuple(found)
