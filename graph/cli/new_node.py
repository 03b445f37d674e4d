"""Command `billp new-node`."""

from pathlib import Path
from typing import Annotated

import typer

# The command imports the variants and the templates itself, so that --help and errors are quick.


def new_node_command(
    name: Annotated[str, typer.Argument(help="What the role is called, such as fairness_guard.")],
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Folder to make; one of the role's name if not given.")
    ] = None,
) -> None:
    """Write a new role as a package of its own, with its prompt, its test and its place among the variants."""
    from graph.cli.scaffold import write_node

    target = folder or Path(name)
    for file in write_node(name, target):
        typer.echo(str(file))
    typer.echo(
        f"\nIt works as it is. In {target}, `pip install -e .` lets `billp study --variants {name}` find it,\n"
        "`pytest` tries it, and `langgraph dev` draws it. docs/extend.md says what a role can bring along."
    )
