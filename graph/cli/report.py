"""Command `billp report`: the page of a finished run, rebuilt from its results and visits."""

import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from sim.errors import BadInputError


def report_command(name: Annotated[str, typer.Argument(help="Name of the run.")]) -> None:
    """Rebuild report.html of a finished run from its results.json and visits.jsonl."""
    from graph.study.run import run_folder

    typer.echo(f"report: {os.path.relpath(rebuild_report(run_folder(name)))}")


def rebuild_report(folder: Path) -> Path:
    """Write the page of the finished run in `folder`, and return its file.

    Raises:
        BadInputError: The run is unknown or unfinished, or its files are damaged or from another version.
        OSError: A file of the run cannot be read or written.
    """
    from graph.report.html import report_page
    from graph.report.schema import read_results, read_visits
    from graph.study.run import REPORT, RESULTS, finished_run
    from graph.study.workers import VISITS
    from sim.atomic_files import write_atomic

    finished_run(folder)
    results, visits = read_results(folder / RESULTS), read_visits(folder / VISITS)
    found = Counter((line["variant"], line["without"], line["memory"], line["split"]) for line in visits)
    for row in results["rows"]:
        if found[row["variant"], row["without"], row["memory"], row["split"]] != row["visits"]:
            raise BadInputError(f"{folder / VISITS} lacks visits of {row['variant']}: run the study again")
    page = folder / REPORT
    write_atomic(page, report_page(results, visits))
    return page
