"""Command line `billp`."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
import typer.exceptions
from dotenv import load_dotenv
from pydantic import ValidationError
from rich.console import Console

from graph.cli.memory.commands import memory as memory_commands
from graph.cli.report import report_command
from memory.chroma.errors import BadStoreError, StoreError
from sim.errors import BadInputError, BillpError

# Each command imports the graph, Chroma and the models when it needs them, so that --help and errors are quick.

app = typer.Typer(
    help="BiLLP: a planner for long-term recommendation.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
worlds = typer.Typer(help="Worlds: catalogue, users and rewards.", no_args_is_help=True, rich_markup_mode=None)
app.command("report")(report_command)
app.add_typer(worlds, name="world")
app.add_typer(memory_commands, name="memory")

STOPPED = 130
# Default variants and baselines of a study.
COMPARED = (
    "act_only,react,reflexion,billp,billp_outlook,"
    "random,popular,greedy,diverse_greedy,genre_greedy,pop_greedy,outlook_only,oracle"
)
# Instructions to resume a stopped command.
GOES_ON = {"episode": ["`billp episode --resume` goes on"], "study": ["the same command goes on"]}
out = Console()
err = Console(stderr=True)
Made = TypeVar("Made")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
WorldName = Annotated[str, typer.Option("--world", help="Name of the world; empty for the default one.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the roles, a prompt also as @FILE; repeatable."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of what is drawn at random.")]


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Read `.env`, which may hold the address and key of a model endpoint."""
    load_dotenv(".env")


@worlds.command("list")
def world_list(as_json: AsJson = False) -> None:
    """List the worlds that are built, and the sources that one can be built from."""
    from memory.home import home
    from sim.data.sources import SOURCES

    folder = home() / "worlds"
    built = (
        sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        if folder.is_dir()
        else []
    )
    if as_json:
        typer.echo(json.dumps({"built": built, "sources": sorted(SOURCES)}))
        return
    typer.echo("built:   " + (", ".join(built) or "none yet"))
    typer.echo("sources: " + ", ".join(sorted(SOURCES)) + "  (`billp world build NAME --from SOURCE`)")


@worlds.command("show")
def world_show(name: Annotated[str, typer.Argument(help="Name of the world.")], as_json: AsJson = False) -> None:
    """Show what is in a world, and why users leave it."""
    from graph.cli.progress import print_world
    from nodes.tools.open_world import load_world
    from sim.metrics.world_summary import describe

    print_world(out, describe(load_world(name)), as_json)


@worlds.command("build")
def world_build(
    name: Annotated[str, typer.Argument(help="Name of the world.")],
    source: Annotated[str, typer.Option("--from", help="Where its ratings come from; NAME if not given.")] = "",
    seed: Seed = 0,
    cut: Annotated[
        Literal["random", "time"], typer.Option(help="How ratings are cut into logs and tables.")
    ] = "random",
    min_reward_quantile: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Users leave below this quantile of their own rewards, not below 2."),
    ] = None,
    path: Annotated[
        Path | None, typer.Option(help="Folder of a published data set, for movielens, steam and amazon.")
    ] = None,
    ratings: Annotated[
        Path | None, typer.Option(help="File of ratings, for csv (CSV, TSV, Parquet), steam and amazon.")
    ] = None,
    items: Annotated[Path | None, typer.Option(help="File of items, for the same.")] = None,
    columns: Annotated[
        str,
        typer.Option(
            help="Columns of csv: user=userId,item=movieId,rating=…,time=…; and id=…,title=…,genres=… of items."
        ),
    ] = "",
    k_core: Annotated[
        int, typer.Option(min=0, help="Keep users and items that have so many ratings among those kept.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Build a world from ratings; one of that name is replaced."""
    from graph.cli.progress import embed_with_progress, print_world, reading_progress
    from nodes.tools.open_world import world_folder
    from sim.data.source import SourceFiles
    from sim.data.sources import load_ratings
    from sim.metrics.world_summary import describe
    from sim.world import World
    from sim.world.splitting import keep_core

    folder, mapped = world_folder(name), column_map(columns)
    with reading_progress(err) as progress:
        given = SourceFiles(path, ratings, items, mapped, progress)
        read = load_ratings(source or name, seed, given)
    with err.status(f"Fitting the world {name} to {len(read):,} ratings …"):
        kept = keep_core(read, k_core) if k_core else read
        world = World.build(name, kept, seed=seed, min_reward_quantile=min_reward_quantile, cut=cut)
    # Runs before the world is moved into place: a failure leaves no files.
    world.save(folder, lambda fresh: embed_with_progress(err, world, fresh))
    with err.status("Visiting dev users to see why they leave …"):
        description = describe(world)
    print_world(out, description, as_json)


@worlds.command("import-original")
def world_import_original(
    name: Annotated[str, typer.Argument(help="Name of the world.")],
    dataset: Annotated[Literal["steam", "amazon"], typer.Option(help="Which of the authors' two environments.")],
    folder: Annotated[Path, typer.Option("--dir", help="Folder with all of the authors' files.")],
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Make a world of the authors' own rewards and distances; one of that name is replaced."""
    from graph.cli.progress import embed_with_progress, print_world
    from nodes.tools.open_world import world_folder
    from sim.atomic_files import scratch_folder
    from sim.metrics.world_summary import describe
    from sim.original.world import import_original
    from sim.world import World

    target = world_folder(name)
    with scratch_folder(target) as scratch:
        with err.status(f"Reading {folder} …"):
            world = import_original(name, dataset, folder, scratch, seed=seed)
        # Runs before the world is moved into place: a failure leaves no files.
        world.save(target, lambda fresh: embed_with_progress(err, world, fresh))
    with err.status("Visiting dev users to see why they leave …"):
        description = describe(World.load(target))
    print_world(out, description, as_json)


@worlds.command("check-recorded")
def world_check_recorded(
    files: Annotated[
        list[Path], typer.Argument(help="Files of recorded runs of the original, of any of the six kinds.")
    ],
    as_json: AsJson = False,
) -> None:
    """Hold the code against recorded runs of the original; ends with 1 where something contradicts."""
    from graph.cli.check_recorded import check_recorded, report_lines
    from sim.original.runs import read_recorded

    found = check_recorded(read_recorded(files))
    if as_json:
        typer.echo(json.dumps({"agrees": found.agrees, **found.model_dump(mode="json")}, ensure_ascii=False))
    else:
        for line in report_lines(found):
            typer.echo(line)
    if not found.agrees:
        raise typer.Exit(1)


def comma_separated(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of names."""
    return tuple(one.strip() for one in text.split(",") if one.strip())


def column_map(text: str) -> dict[str, str]:
    """Return the columns of a table by field, from the value of `--columns`.

    Raises:
        BadInputError: The text is not of the form `user=userId,item=movieId`.
    """
    pairs = [part.split("=", 1) for part in text.split(",")] if text else []
    if not all(len(pair) == 2 and pair[0].strip() and pair[1].strip() for pair in pairs):
        raise BadInputError(f"--columns {text[:80]!r} does not say which is which; write user=userId,item=movieId,…")
    return {pair[0].strip(): pair[1].strip() for pair in pairs}


@app.command()
def episode(
    user: Annotated[str, typer.Option("--user", help="Id of the user; empty for the world's first dev user.")] = "",
    world: WorldName = "",
    variant: Annotated[str, typer.Option(help="Variant of the agent.")] = "billp",
    model: Annotated[str, typer.Option(help="Model of all roles: `rules`, `openai:NAME`, or a package's.")] = "rules",
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


@app.command()
def recommend(
    user: Annotated[str, typer.Option("--user", help="Your name; profile and memories are kept under it.")] = "guest",
    world: WorldName = "",
    like: Annotated[list[str] | None, typer.Option(help="A title that you like; repeatable.")] = None,
    wishes: Annotated[str, typer.Option(help="What you would like, in your own words: 'slow films, no horror'.")] = "",
    model: Annotated[str, typer.Option(help="Model of all roles: `rules`, `openai:NAME`, or a package's.")] = "rules",
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


@app.command()
def study(
    name: Annotated[str, typer.Option("--out", help="Name of the run: results go to BILLP_HOME/runs/NAME.")],
    variants: Annotated[str, typer.Option(help="Variants and baselines, separated by commas.")] = COMPARED,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Measure each part of the agent: `billp_outlook` without it, besides.")
    ] = False,
    world: WorldName = "",
    model: Annotated[str, typer.Option(help="Model of all roles: `rules`, `openai:NAME`, or a package's.")] = "rules",
    train: Annotated[int, typer.Option(min=0, help="Train visits of each variant and seed.")] = 40,
    test: Annotated[int, typer.Option(min=1, help="Users visited with what was learned.")] = 40,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    cohort: Annotated[int, typer.Option(min=1, help="Visits that learn together.")] = 20,
    max_steps: Annotated[int, typer.Option(min=1, max=2_000, help="Most rounds of a visit.")] = 100,
    rl_steps: Annotated[
        int, typer.Option(min=1, help="Steps that a2c, dqn and maskable_ppo learn from (extra `rl`).")
    ] = 100_000,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Visits of a variant and seed at once; changes no result.")
    ] = 8,
    processes: Annotated[int, typer.Option(min=0, help="Worker processes; 0 for one a core. Changes no result.")] = 0,
    memory: Annotated[
        str,
        typer.Option(help="Memories to visit with besides the full one: empty, shuffled, inverted; by commas."),
    ] = "full",
    curve: Annotated[
        int, typer.Option(min=0, help="Visit dev users after each so many train cohorts as well; 0 for never.")
    ] = 0,
    curve_users: Annotated[int, typer.Option(min=1, help="Dev users visited for each point of that curve.")] = 20,
    visits_per_user: Annotated[
        int, typer.Option(min=1, help="Visits for which the same users come back, learning between them.")
    ] = 1,
    recall: Annotated[
        str,
        typer.Option(
            help="Whose records serve users who come back, after the train visits: own, shared, both, none; by commas."
        ),
    ] = "own,shared,none",
    learn_at_test: Annotated[
        bool,
        typer.Option(
            "--learn-at-test", help="Let the visits after training teach too, cohort by cohort, as the original did."
        ),
    ] = False,
    assignments: SetOption = None,
    final: Annotated[
        bool, typer.Option("--final", help="Visit test users. Tune on dev users, then do this once.")
    ] = False,
    server: Annotated[
        str, typer.Option(help="URL of a LangGraph server that runs the visits; changes no result.")
    ] = "",
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Stop before calls of models have cost so many US dollars.")
    ] = None,
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Leave out visits that fail, where the study would stop.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where a study of that name was left unfinished.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let variants learn from train visits, and compare them on users whom they have not met.

    A study that was stopped goes on where it was when the same command is given again.
    """
    from graph.cli.progress import StudyView, embed_with_progress
    from graph.context_overrides import DECIDED_BY_STUDY, context_of
    from graph.report.terminal import ablation_table, comparison_table, results_table, returning_table
    from graph.study import run_study
    from graph.study.run import check_settings, check_variants, visits_done, visits_planned
    from graph.study.settings import StudySettings
    from graph.variants import settings_schema
    from nodes.tools.open_world import default_world

    named = comma_separated(variants)
    check_variants(named)
    context = context_of(model, assignments or [], DECIDED_BY_STUDY, settings_schema(named))
    given = {
        "world": world or default_world(),
        "ablate": ablate,
        "variants": named,
        "train": train,
        "test": test,
        "seeds": seeds,
        "cohort": cohort,
        "max_steps": max_steps,
        "rl_steps": rl_steps,
        "memory": comma_separated(memory),
        "curve": curve,
        "curve_users": curve_users,
        "visits_per_user": visits_per_user,
        "recall": comma_separated(recall),
        "learn_at_test": learn_at_test,
        "final": final,
        "context": context,
    }
    settings = checked(lambda: StudySettings.model_validate(given))
    done = 0 if fresh else visits_done(name)
    place = check_settings(settings)
    embed_with_progress(err, place)
    if done:
        err.print(f"The study {name} is unfinished: {done} visits are done.", highlight=False)
    with StudyView(err, settings.seeds, visits_planned(settings, place) - done) as progress:
        folder = run_study(
            settings,
            name,
            concurrency=concurrency,
            processes=processes or os.cpu_count() or 1,
            progress=progress,
            server=server,
            max_cost=max_cost,
            skip_failed=skip_failed,
            fresh=fresh,
        )
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(results, ensure_ascii=False))
    else:
        out.print(results_table(results))
        out.print(comparison_table(results))
        for table in (ablation_table(results), returning_table(results)):
            if table is not None:
                out.print(table)
        typer.echo(f"results: {os.path.relpath(folder / 'results.json')}")
        typer.echo(f"report: {os.path.relpath(folder / 'report.html')}")


@app.command("new-node")
def new_node(
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


@app.command("local-model")
def local_model(
    weights: Annotated[Path, typer.Argument(help="File of its weights, which `make local-model` fetches.")],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 for a free one.")] = 8080,
) -> None:
    """Serve the small language model SmolLM2 on this machine, as `openai:smollm2`, until Ctrl-C."""
    from nodes.llm.local_server import LOCAL_MODEL, serve_local_model

    def ready(address: str) -> None:
        typer.echo(
            f"{LOCAL_MODEL} answers at {address} until Ctrl-C. In another terminal:\n"
            f"    OPENAI_BASE_URL={address} billp episode --model openai:{LOCAL_MODEL}"
        )

    serve_local_model(weights, port, ready)


def checked(make: Callable[[], Made]) -> Made:
    """Return the result of `make`, with invalid settings reported in one line.

    Raises:
        BadInputError: A setting is invalid.
    """
    try:
        return make()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise BadInputError(f"{where}: {fault['msg']} (got {str(fault['input'])[:80]!r})") from error


def main() -> None:
    """Run the command, and print each error as one line on standard error.

    Exits with 0 after success, 1 after a failure, 2 after wrong usage, or 130 when stopped.
    """
    # Handle SIGTERM like Ctrl-C: files are complete or absent, and no child process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False) or 0
        if code == STOPPED:
            # Typer turns an interrupt into this exit code.
            command = next((one for one in sys.argv[1:] if one in GOES_ON), "")
            print("; ".join(["billp: stopped", *GOES_ON.get(command, ())]), file=sys.stderr)
        sys.exit(code)
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in sys.argv:
            raise
        message, code = explain(error)
        # No wrapping and no colour: programs and people search for this line.
        print(f"billp: {message}", file=sys.stderr)
        sys.exit(code)


def explain(error: BaseException) -> tuple[str, int]:
    """Return an error as one line, with its exit code."""
    if isinstance(error, typer.exceptions.TyperException):
        if type(error).__name__ == "NoArgsIsHelpError":
            return error.format_message(), error.exit_code
        return " ".join(error.format_message().split()), error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "stopped", STOPPED
    if isinstance(error, BadInputError | BadStoreError):
        return " ".join(str(error).split()), 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 2
    if isinstance(error, BillpError | StoreError):
        return " ".join(str(error).split()), 1
    return f"{type(error).__name__}: {' '.join(str(error).split())} (`billp --debug …` shows where)", 1
