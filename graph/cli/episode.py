"""Command `billp episode`."""

import asyncio
from typing import Annotated

import typer

from graph.console import (
    JsonOption,
    MaxStepsOption,
    ModelOption,
    RecordOption,
    ReplayMissingOption,
    ReplayOption,
    SeedOption,
    SetOption,
    WorldOption,
    err,
    out,
    print_json,
)

# Each command imports the graph, Chroma and the models when it needs them, so that --help and errors are quick.


def episode_command(
    user: Annotated[str, typer.Option("--user", help="Id of the user; the world's first dev user if not given.")] = "",
    world: WorldOption = "",
    variant: Annotated[
        str, typer.Option(help="Variant of the agent: its name, or FILE.py:NAME; the method of the paper is `billp`.")
    ] = "billp_outlook",
    model: ModelOption = "rules",
    seed: SeedOption = 0,
    max_steps: MaxStepsOption = 20,
    history: Annotated[
        list[str] | None,
        typer.Option(help="Title that the user liked before, for a user unknown to the world. Repeatable."),
    ] = None,
    memory: Annotated[bool, typer.Option(help="Read and write the memory in BILLP_HOME/memory.")] = True,
    assignments: SetOption = None,
    record: RecordOption = None,
    replay: ReplayOption = None,
    replay_missing: ReplayMissingOption = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the last stopped visit, with the settings it was started with.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run one visit, and show it round by round."""
    from graph.cli.progress import EpisodeView, narrate
    from graph.context_overrides import context_of
    from graph.local_run import LocalVisit, resume_episode, run_episode
    from graph.variant_files import load_variants
    from graph.variants import settings_schema
    from nodes.llm.recording import use_record
    from nodes.llm.tracing import bound_traces
    from nodes.state import VisitInput
    from nodes.tools.brought_titles import brought_titles
    from nodes.tools.open_world import default_world, open_world_now

    bound_traces()
    use_record(record, replay, replay_missing)
    (variant,) = load_variants([variant])
    view = EpisodeView(err if as_json else out, quiet=as_json)
    if resume:
        started, output = asyncio.run(resume_episode(view))
    else:
        visit = VisitInput(world=world, user_id=user, history=history or [], seed=seed, max_steps=max_steps)
        context = context_of(model, assignments or [], schema=settings_schema([variant]))
        brought = brought_titles(open_world_now(world or default_world()), history) if history else None
        if brought and brought.items:
            # Without a known title the visit is refused.
            view.notes += brought.lines
        started = LocalVisit(variant=variant, visit=visit, context=context, remember=memory)
        output = asyncio.run(run_episode(started, view))
    used = started.context.model
    if as_json:
        print_json({"model": used, "variant": started.variant, **output.model_dump(mode="json")})
    else:
        narrate(out, output, used)
