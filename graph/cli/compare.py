"""Command `billp compare`: several finished runs, usually of one cut of the same data each."""

from typing import Annotated

import typer

from graph.console import JsonOption, out, print_json


def compare_command(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Names of two or more runs, each of a world of its own.")
    ],
    minus: Annotated[
        str,
        typer.Option(
            metavar="VARIANT",
            help="Also show the difference in total reward from this variant in each run. It can be any row of all "
            "runs, such as 'billp (empty)'.",
        ),
    ] = "",
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Compare runs of different settings too; the tables name a difference.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print tables in Markdown, with one line for each run.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare studies over several worlds, such as cuts of the same ratings.

    Each figure of the variants that all runs have is shown for each run, with the mean over the runs and the 95%
    interval of Student's t (from 3 runs on). It holds the luck of the cut and of the training, which the intervals of a
    single study do not.
    """
    from graph.report.across_runs import compare_runs, read_finished
    from graph.report.across_tables import as_json as json_of
    from graph.report.across_tables import captions, comparison_tables, markdown
    from graph.study.run import RESULTS, finished_run, run_folder

    folders = [finished_run(run_folder(name)) for name in names]
    comparison = compare_runs([read_finished(folder.name, folder / RESULTS) for folder in folders], minus, mixed)
    if as_json:
        print_json(json_of(comparison))
    elif as_markdown:
        typer.echo(markdown(comparison))
    else:
        for table in comparison_tables(comparison):
            out.print(table)
        for line in captions(comparison):
            out.print(line, highlight=False, markup=False)
