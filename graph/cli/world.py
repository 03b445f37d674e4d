"""Commands of `billp world`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from graph.console import JsonOption, SeedOption, err, out, print_json
from sim.errors import BadInputError

# Each command imports the graph, Chroma and the models when it needs them, so that --help and errors are quick.

worlds = typer.Typer(help="List, show, build and import worlds.", no_args_is_help=True, rich_markup_mode=None)


@worlds.command("list")
def world_list(as_json: JsonOption = False) -> None:
    """List the built worlds, and the sources for new ones."""
    from memory.home import home
    from sim.data.sources import SOURCES

    folder = home() / "worlds"
    built = (
        sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        if folder.is_dir()
        else []
    )
    if as_json:
        print_json({"built": built, "sources": sorted(SOURCES)})
        return
    typer.echo("built:   " + (", ".join(built) or "none yet"))
    typer.echo("sources: " + ", ".join(sorted(SOURCES)) + "  (`billp world build NAME --from SOURCE`)")


@worlds.command("show")
def world_show(name: Annotated[str, typer.Argument(help="Name of the world.")], as_json: JsonOption = False) -> None:
    """Describe a world, and why its users leave."""
    from graph.cli.progress import print_world
    from nodes.tools.open_world import load_world
    from sim.metrics.world_summary import describe

    print_world(out, describe(load_world(name)), as_json)


@worlds.command("build")
def world_build(
    name: Annotated[str, typer.Argument(help="Name of the world.")],
    source: Annotated[str, typer.Option("--from", help="Source of the ratings; NAME if not given.")] = "",
    seed: SeedOption = 0,
    cut: Annotated[
        Literal["random", "time"], typer.Option(help="How to split the ratings: at random, or by time.")
    ] = "random",
    min_reward_quantile: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Users leave after a reward below this quantile of their own rewards, instead of below 2.",
        ),
    ] = None,
    path: Annotated[
        Path | None, typer.Option(help="Folder of a published data set (movielens, steam, amazon).")
    ] = None,
    ratings: Annotated[
        Path | None, typer.Option(help="File of ratings (steam, amazon, or csv: CSV, TSV, Parquet).")
    ] = None,
    items: Annotated[Path | None, typer.Option(help="File of items, for the same sources as --ratings.")] = None,
    columns: Annotated[
        str,
        typer.Option(
            help="Columns for csv: user=userId,item=movieId,rating=…,time=… (ratings), id=…,title=…,genres=… (items)."
        ),
    ] = "",
    k_core: Annotated[
        int, typer.Option(min=0, help="Keep only users and items with at least this many kept ratings; 0 to keep all.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Build a world from ratings.

    An existing world of that name is replaced.
    """
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
    dataset: Annotated[Literal["steam", "amazon"], typer.Option(help="One of the authors' two environments.")],
    folder: Annotated[Path, typer.Option("--dir", help="Folder with all of the authors' files.")],
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Import a world of the original.

    Rewards and distances are the authors' own. An existing world of that name is replaced.
    """
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
        list[Path], typer.Argument(help="Files of recorded runs of the original; all six kinds are read.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Check the code against recorded runs.

    The runs are those of the original. Exit code 1 if a record contradicts the code.
    """
    from graph.cli.check_recorded import check_recorded, report_lines
    from sim.original.runs import read_recorded

    found = check_recorded(read_recorded(files))
    if as_json:
        print_json({"agrees": found.agrees, **found.model_dump(mode="json")})
    else:
        for line in report_lines(found):
            typer.echo(line)
    if not found.agrees:
        raise typer.Exit(1)


def column_map(text: str) -> dict[str, str]:
    """Return the columns of a table by field, from the value of `--columns`.

    Raises:
        BadInputError: The text is not of the form `user=userId,item=movieId`.
    """
    pairs = [part.split("=", 1) for part in text.split(",")] if text else []
    if not all(len(pair) == 2 and pair[0].strip() and pair[1].strip() for pair in pairs):
        raise BadInputError(f"--columns {text[:80]!r} is no list of FIELD=COLUMN: write user=userId,item=movieId,…")
    return {pair[0].strip(): pair[1].strip() for pair in pairs}
