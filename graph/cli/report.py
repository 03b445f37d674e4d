"""Command `billp report`: the page of a finished run, rebuilt from its results and visits."""

import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from sim.errors import BadInputError


def report_command(name: Annotated[str, typer.Argument(help="Name of the run.")]) -> None:
    """Rebuild report.html of a finished run from its results.json, run.json and visits.jsonl."""
    from graph.study.run import run_folder

    typer.echo(f"report: {os.path.relpath(rebuild_report(run_folder(name)))}")


def rebuild_report(folder: Path) -> Path:
    """Write the page of the finished run in `folder`, and return its file.

    Raises:
        BadInputError: The run is unknown or unfinished, or its files are damaged or from another version.
        OSError: A file of the run cannot be read or written.
    """
    from graph.report.html import report_page
    from graph.report.run_record import read_run
    from graph.report.schema import read_results, read_visits
    from graph.study.run import REPORT, RESULTS, RUN
    from graph.study.workers import VISITS
    from sim.atomic_files import write_atomic

    finished_run(folder)
    results, visits = read_results(folder / RESULTS), read_visits(folder / VISITS)
    found = Counter((line["variant"], line["without"], line["memory"], line["split"]) for line in visits)
    for row in results["rows"]:
        if found[row["variant"], row["without"], row["memory"], row["split"]] != row["visits"]:
            raise BadInputError(f"{folder / VISITS} lacks visits of {row['variant']}: run the study again")
    page = folder / REPORT
    write_atomic(page, report_page(results, visits, read_run(folder / RUN)))
    return page


def finished_run(folder: Path) -> Path:
    """Return the folder of a run after a check that it is finished.

    Raises:
        BadInputError: The run is unknown or unfinished.
    """
    from graph.study.run import RESULTS
    from sim.atomic_files import unfinished_folder

    if (folder / RESULTS).is_file():
        return folder
    if unfinished_folder(folder).exists():
        raise BadInputError(f"the run {folder.name!r} is unfinished: run its `billp study` command again to finish it")
    names = sorted(file.parent.name for file in folder.parent.glob(f"[!.]*/{RESULTS}"))
    choose = f"choose one of {', '.join(names)}, or " if names else ""
    raise BadInputError(f"there is no run {folder.name!r}: {choose}run `billp study --out {folder.name}` first")
