"""Command `billp new-node`."""

from pathlib import Path
from typing import Annotated

import typer

# The command imports the variants and the templates itself, so that --help and errors are quick.


def new_node_command(
    name: Annotated[str, typer.Argument(help="Name of the role, such as fairness_guard.")],
    folder: Annotated[
        Path | None, typer.Option("--folder", help="New folder of the package; named after the role if not given.")
    ] = None,
) -> None:
    """Create a package with a new role.

    The package has the role's code, prompt and test, and a variant that uses the role.
    """
    from graph.cli.scaffold import write_node

    target = folder or Path(name)
    for file in write_node(name, target):
        typer.echo(str(file))
    typer.echo(
        f"\nThe role works already. In {target}, run `pip install -e .` to use it in `billp study --variants {name}`,\n"
        "`pytest` to test it, and `langgraph dev` to see its graph. docs/extend.md describes all parts of a role."
    )
