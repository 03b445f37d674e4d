"""Command `billp recommend`."""

import asyncio
import io
import sys
from typing import Annotated, Any

import typer

from graph.console import STOPPED, MaxStepsOption, ModelOption, WorldOption, checked, err, out
from sim.errors import BadInputError

# Each command imports the graph, Chroma and the models when it needs them, so that --help and errors are quick.


def recommend_command(
    user: Annotated[
        str, typer.Option("--user", help="Your name, under which profile and memories are saved.")
    ] = "guest",
    world: WorldOption = "",
    like: Annotated[list[str] | None, typer.Option(help="Title that you like. Repeatable.")] = None,
    wishes: Annotated[str, typer.Option(help="Your wishes in your own words, such as 'slow films, no horror'.")] = "",
    model: ModelOption = "rules",
    max_steps: MaxStepsOption = 20,
    server: Annotated[
        str, typer.Option(help="URL of a LangGraph server that runs the visit; this process if not given.")
    ] = "",
) -> None:
    """Be the user: get recommendations, and rate them."""
    if sys.stdin is None:
        raise BadInputError("standard input is closed: answer in a terminal, or write the answers into a pipe")
    if isinstance(sys.stdin, io.TextIOWrapper):
        # A pasted byte of another encoding is no reason to end the visit.
        sys.stdin.reconfigure(errors="replace")
    if err.is_terminal:
        err.print("Getting ready…")
    from graph.cli.person.conversation import converse, local_conversation, server_conversation
    from graph.cli.person.view import PersonView
    from nodes.context import Context
    from nodes.llm.models import check_model
    from nodes.llm.tracing import bound_traces

    context = checked(lambda: Context(model=model))
    if not server:
        check_model(model)
        bound_traces()
    given = {"world": world, "user_id": user, "history": like or [], "wishes": wishes, "max_steps": max_steps}

    async def visit() -> dict[str, Any]:
        async with server_conversation(server, context) if server else local_conversation(context) as conversation:
            return await converse(conversation, given, view.ask)

    view = PersonView(out, user, world, wishes)
    output = asyncio.run(visit())
    view.finish(output["length"])
    if view.stopped:
        raise typer.Exit(STOPPED)
