"""Command `billp episode`."""

import asyncio
import json
from typing import Annotated

import typer

from graph.cli.console import AsJson, ModelName, Seed, SetOption, WorldName, err, out

# Each command imports the graph, Chroma and the models when it needs them, so that --help and errors are quick.


def episode_command(
    user: Annotated[str, typer.Option("--user", help="Id of the user; empty for the world's first dev user.")] = "",
    world: WorldName = "",
    variant: Annotated[str, typer.Option(help="Variant of the agent.")] = "billp",
    model: ModelName = "rules",
    seed: Seed = 0,
    max_steps: Annotated[int, typer.Option(min=1, max=2_000, help="Most rounds.")] = 20,
    history: Annotated[
        list[str] | None,
        typer.Option(help="A title liked before, for a user whom the world does not know; repeatable."),
    ] = None,
    memory: Annotated[bool, typer.Option(help="Recall from BILLP_HOME/memory, and write into it.")] = True,
    assignments: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last visit that was stopped; all else is as it was.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Watch one visit round by round."""
    from graph.cli.progress import EpisodeView, narrate
    from graph.context_overrides import context_of
    from graph.local_run import LocalVisit, resume_episode, run_episode
    from graph.variants import settings_schema
    from nodes.state import VisitInput

    view = EpisodeView(err if as_json else out, quiet=as_json)
    if resume:
        begun, output = asyncio.run(resume_episode(view))
    else:
        visit = VisitInput(world=world, user_id=user, history=history or [], seed=seed, max_steps=max_steps)
        context = context_of(model, assignments or [], schema=settings_schema([variant]))
        begun = LocalVisit(variant=variant, visit=visit, context=context, remember=memory)
        output = asyncio.run(run_episode(begun, view))
    used = begun.context.model
    if as_json:
        typer.echo(
            json.dumps({"model": used, "variant": begun.variant, **output.model_dump(mode="json")}, ensure_ascii=False)
        )
    else:
        narrate(out, output, used)
