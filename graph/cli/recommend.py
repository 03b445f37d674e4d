"""Command `billp recommend`."""

import asyncio
from typing import Annotated, Any

import typer

from graph.cli.console import ModelName, WorldName, checked, out

# Each command imports the graph, Chroma and the models when it needs them, so that --help and errors are quick.


def recommend_command(
    user: Annotated[str, typer.Option("--user", help="Your name; profile and memories are kept under it.")] = "guest",
    world: WorldName = "",
    like: Annotated[list[str] | None, typer.Option(help="A title that you like; repeatable.")] = None,
    wishes: Annotated[str, typer.Option(help="What you would like, in your own words: 'slow films, no horror'.")] = "",
    model: ModelName = "rules",
    max_steps: Annotated[int, typer.Option(min=1, max=2_000, help="Most rounds.")] = 20,
    server: Annotated[str, typer.Option(help="URL of a LangGraph server to visit instead of this process.")] = "",
) -> None:
    """Be the user yourself: get recommendations, rate them, say what you want."""
    from graph.cli.person import converse, here, there
    from graph.cli.progress import ask_person
    from nodes.context import Context
    from nodes.llm.models import check_model

    context = checked(lambda: Context(model=model))
    if not server:
        check_model(model)
    given = {"world": world, "user_id": user, "history": like or [], "wishes": wishes, "max_steps": max_steps}

    async def visit() -> dict[str, Any]:
        async with there(server, context) if server else here(context) as conversation:
            return await converse(conversation, given, lambda question: ask_person(out, question))

    output = asyncio.run(visit())
    out.print(f"{output['length']} rounds. Until next time: what you said and rated is remembered.", highlight=False)
