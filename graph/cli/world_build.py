"""Command `billp world build`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from graph.console import JsonOption, SeedOption, err, out, print_json
from sim.errors import BadInputError, MissingOptionsError

# The command imports the graph, Chroma and the models when it needs them, so that --help and errors are quick.

if TYPE_CHECKING:
    from sim.data.ratings import Ratings
    from sim.data.source import SourceFiles

_Path = Annotated[Path | None, typer.Option(help="Folder of a published data set (movielens, steam, amazon).")]
_Ratings = Annotated[
    Path | None, typer.Option(help="File of ratings (steam, amazon, or csv: CSV, TSV, Parquet or a folder of it).")
]
_Items = Annotated[Path | None, typer.Option(help="File of items, for the same sources as --ratings.")]
_Columns = Annotated[
    str,
    typer.Option(
        help="Columns for csv: user=userId,item=movieId,rating=…,time=… (ratings), id=…,title=…,genres=…,year=…,"
        "description=… (items). Without id, item names the column of both tables."
    ),
]
_Scale = Annotated[
    str,
    typer.Option(
        metavar="LOW-HIGH|thumbs|plays",
        help="Scale of the ratings for csv: bounds such as 1-10, `thumbs` for likes and dislikes, or `plays` for plays "
        "or hours, which count by their quintile among those of the item; 0.5-5 if not given.",
    ),
]
_DropZeros = Annotated[
    bool, typer.Option("--drop-zeros", help="Leave out ratings of 0, which mean that there is no rating.")
]
_Categories = Annotated[
    str,
    typer.Option(
        metavar="COLUMN|decades|clusters",
        help="Categories of items without genres, or with too many: the most frequent values of a column of csv and "
        "Other, decades, or clusters of the logs' factors named by typical titles.",
    ),
]
_Most = Annotated[int, typer.Option(min=2, max=200, help="Number of categories from --categories.")]
_Core = Annotated[
    int, typer.Option(min=0, help="Keep only users and items with at least this many kept ratings; 0 to keep all.")
]
_Quantile = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Users leave after a reward below this quantile of their own rewards, instead of below 2."
    ),
]


def world_build(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the world.")],
    source: Annotated[str, typer.Option("--from", help="Source of the ratings; NAME if not given.")] = "",
    seed: SeedOption = 0,
    cut: Annotated[
        Literal["random", "time"], typer.Option(help="How to split the ratings: at random, or by time.")
    ] = "random",
    min_reward_quantile: _Quantile = None,
    path: _Path = None,
    ratings: _Ratings = None,
    items: _Items = None,
    columns: _Columns = "",
    scale: _Scale = "",
    drop_zeros: _DropZeros = False,
    categories: _Categories = "",
    most: _Most = 20,
    k_core: _Core = 0,
    allow_known: Annotated[
        bool, typer.Option("--allow-known", help="Allow recommending items that the user's history holds.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the files, say what is taken and left out, and write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a world from ratings.

    An existing world of that name is replaced.
    """
    from graph.cli.progress import embed_with_progress, print_world, reading_progress
    from nodes.tools.open_world import world_folder
    from sim.data.categories import BY_CLUSTER
    from sim.data.source import SourceFiles
    from sim.metrics.world_summary import describe
    from sim.world import World

    folder, mapped = world_folder(name), column_map(columns)
    with reading_progress(err) as progress:
        given = SourceFiles(path, ratings, items, mapped, scale, drop_zeros, categories, most, progress)
        kept = _read(context, source or name, seed, given, k_core)
    if dry_run:
        _print_taken(kept, as_json)
        return
    with err.status(f"Fitting the world {name} to {len(kept):,} ratings …"):
        world = World.build(
            name,
            kept,
            seed=seed,
            min_reward_quantile=min_reward_quantile,
            cut=cut,
            allow_known=allow_known,
            clusters=most if categories == BY_CLUSTER else 0,
        )
    # Runs before the world is moved into place: a failure leaves no files.
    world.save(folder, lambda fresh: embed_with_progress(err, world, fresh))
    with err.status("Visiting dev users to see why they leave …"):
        description = describe(world)
    print_world(out, description, as_json)


def _read(context: typer.Context, source: str, seed: int, given: "SourceFiles", k_core: int) -> "Ratings":
    """Return the ratings of a source, or of their k-core.

    Raises:
        BadInputError: The files cannot be used. If further options would help, the message ends with the command.
    """
    from sim.data.sources import load_ratings
    from sim.world.splitting import keep_core

    try:
        read = load_ratings(source, seed, given)
    except MissingOptionsError as error:
        note = f" ({error.note})" if error.note else ""
        raise BadInputError(f"{error.fault}; run{note}: {_command(context, source, error.options)}") from error
    return keep_core(read, k_core) if k_core else read


def _command(context: typer.Context, source: str, options: tuple[str, ...]) -> str:
    """Return the command that was given, with further options; an option replaces the one given before."""
    parts = ["billp", "world", "build", context.params["name"], "--from", source]
    replaced = {"--from", *(one.partition("=")[0] for one in options)}
    for parameter in context.command.params:
        value, flag = context.params.get(parameter.name or ""), parameter.opts[0]
        if not flag.startswith("--") or flag in replaced or value == parameter.default:
            continue
        # A value that begins with a sign, such as the scale -5-5, would look like an option.
        text = str(value)
        parts += [flag] if value is True else [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return shlex.join([*parts, *options])


def _print_taken(ratings: "Ratings", as_json: bool) -> None:
    """Print what a world would take of its source."""
    from graph.cli.progress import counted
    from sim.world.splitting import keep_rated

    kept = keep_rated(ratings)
    taken: dict[str, Any] = {
        "users": len(kept.user_ids),
        "items": len(kept.catalogue),
        "ratings": len(kept),
        "genres": list(kept.catalogue.genres),
        "with_year": sum(item.year is not None for item in kept.catalogue),
        "with_description": sum(item.description is not None for item in kept.catalogue),
        "left_out": dict(kept.left_out),
        "read_as": dict(kept.read_as),
    }
    if as_json:
        print_json(taken)
        return
    items = f"{taken['items']:,} items ({taken['with_year']:,} with a year, {taken['with_description']:,} described)"
    lines = [
        f"taken     {taken['ratings']:,} ratings of {taken['users']:,} users and {items}",
        f"left out  {counted(kept.left_out)}",
        f"read as   {counted(kept.read_as)}",
        f"genres    {len(kept.catalogue.genres)}: {', '.join(kept.catalogue.genres)}",
        "Nothing was written.",
    ]
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def column_map(text: str) -> dict[str, str]:
    """Return the columns of a table by field, from the value of `--columns`.

    Raises:
        BadInputError: The text is not of the form `user=userId,item=movieId`.
    """
    pairs = [part.split("=", 1) for part in text.split(",")] if text else []
    if not all(len(pair) == 2 and pair[0].strip() and pair[1].strip() for pair in pairs):
        raise BadInputError(f"--columns {text[:80]!r} is no list of FIELD=COLUMN: write user=userId,item=movieId,…")
    return {pair[0].strip(): pair[1].strip() for pair in pairs}
