"""Commands of `billp world`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from graph.cli.world_build import world_build
from graph.console import JsonOption, SeedOption, err, out, print_json

# Each command imports the graph, Chroma and the models when it needs them, so that --help and errors are quick.

worlds = typer.Typer(help="List, show, build and import worlds.", no_args_is_help=True, rich_markup_mode=None)
worlds.command("build")(world_build)


@worlds.command("list")
def world_list(as_json: JsonOption = False) -> None:
    """List the built worlds, and the sources for new ones."""
    from memory.home import home
    from sim.data.sources import SOURCES
    from sim.world.storage import allows_known, saved_worlds

    folder = home() / "worlds"
    built = saved_worlds(folder)
    allowing = [name for name in built if allows_known(folder / name)]
    if as_json:
        print_json({"built": built, "allow_known": allowing, "sources": sorted(SOURCES)})
        return
    marked = [f"{name} (known items allowed)" if name in allowing else name for name in built]
    typer.echo("built:   " + (", ".join(marked) or "none yet"))
    typer.echo("sources: " + ", ".join(sorted(SOURCES)) + "  (`billp world build NAME --from SOURCE`)")


@worlds.command("show")
def world_show(
    name: Annotated[str, typer.Argument(help="Name of the world; lists the worlds if not given.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Describe a world, and why its users leave."""
    if not name:
        world_list(as_json)
        return
    from graph.cli.progress import print_world
    from nodes.tools.open_world import load_world
    from sim.metrics.world_summary import describe

    print_world(out, describe(load_world(name)), as_json)


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
