"""Command `billp view`: memory and studies in the browser."""

from typing import Annotated

import typer

# The command imports the server itself, so that --help and errors are quick.


def view_command(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 for a free one.")] = 8090,
) -> None:
    """Show memory and studies in the browser, without a LangGraph server.

    The page can delete records. Ctrl-C stops it; until then, no other command can open the memory that it shows.
    """
    from graph.web.view import serve_view

    serve_view(port, lambda address: typer.echo(f"memory and studies: {address} until Ctrl-C"))
