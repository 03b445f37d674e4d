"""Commands of `billp memory`."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from graph.console import JsonOption, err, out, print_json
from sim.plain_text import one_line, without_controls

if TYPE_CHECKING:
    from memory.lessons import MergedLesson

# Each command imports Chroma and the graph when it needs them, so that --help and errors are quick.

memory = typer.Typer(
    help="Inspect and manage the memory of visits.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
OfKind = Annotated[
    str | None,
    typer.Option(
        "--kind", help="Only records of this kind: lessons, experiences, values, statements, or a custom one."
    ),
]
InSpace = Annotated[str | None, typer.Option("--space", help="Only records of this space: WORLD, or people:WORLD.")]
OfUser = Annotated[str | None, typer.Option("--user", help="Only records of the user with this id.")]
OfRun = Annotated[str, typer.Option("--run", help="Read the memory of the study of this name.")]
OfCell = Annotated[
    str, typer.Option("--cell", help="Cell of the study, such as billp-0; required if the study has several.")
]
OfServer = Annotated[
    str,
    typer.Option(
        "--server", help="URL of a running LangGraph server to read through; its token is in BILLP_TOKEN, if any."
    ),
]
LESSON_COLUMNS = ("visits", "length", "lesson")
MAX_OPTION_NAME = 500
NUMERIC = {"records", "score", "visits", "length", "distance", "predicted", "reward", "advantage", "target", "ratings"}
KIND_COLUMNS: Mapping[str, Sequence[str]] = {
    "experiences": ("space", "user", "title", "distance", "reward", "advantage", "left", "plan"),
    "values": ("space", "user", "target", "distance", "after"),
    "profiles": ("space", "user", "ratings", "text"),
    "statements": ("space", "user", "said", "title", "rating", "text"),
}


@memory.command("list")
def memory_list(
    kind: OfKind = None,
    space: InSpace = None,
    user: OfUser = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of lines.")] = 50,
    run: OfRun = "",
    cell: OfCell = "",
    server: OfServer = "",
    as_json: JsonOption = False,
) -> None:
    """Count the records by kind, space and user."""
    from graph.cli.memory.select import RecordFilter, by_kind, checked_kind, counted, memory_to_read, parts_of

    with memory_to_read(run, cell, server) as store:
        counts = counted(RecordFilter(checked_kind(kind), space, user).records(store))
    totals = by_kind(counts)
    if as_json:
        rows = [parts_of(one)._asdict() | {"namespace": one, "records": number} for one, number in counts.items()]
        print_json({"records": sum(totals.values()), "kinds": totals, "namespaces": rows[:limit]})
        return
    typer.echo(totals_line(totals))
    if counts:
        rows = [{**parts_of(one)._asdict(), "records": number} for one, number in list(counts.items())[:limit]]
        print_table(("kind", "space", "user", "records"), rows)
    rest_line(len(counts) - limit, "lines")


@memory.command("search")
def memory_search(
    query: Annotated[str, typer.Argument(help="Text to search for.")],
    kind: OfKind = None,
    space: InSpace = None,
    user: OfUser = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Maximum number of records.")] = 10,
    run: OfRun = "",
    cell: OfCell = "",
    server: OfServer = "",
    as_json: JsonOption = False,
) -> None:
    """Search records by meaning.

    The score is the cosine similarity, at most 1.
    """
    from graph.cli.memory.select import RecordFilter, checked_kind, described, found, memory_to_read

    with memory_to_read(run, cell, server) as store:
        items = found(store, RecordFilter(checked_kind(kind), space, user), query, limit)
    if as_json:
        print_json([{"score": item.score, **described(item)} for item in items])
        return
    if not items:
        typer.echo("nothing found")
        return
    rows = [
        {"score": f"{item.score:.3f}", **described(item), "record": summary(item.namespace[0], item.value)}
        for item in items
    ]
    print_table(("score", "kind", "space", "user", "record"), rows)


@memory.command("show")
def memory_show(
    kind: Annotated[
        str,
        typer.Argument(help="Kind of records: lessons, experiences, values, statements, profiles, or a custom one."),
    ],
    space: InSpace = None,
    user: OfUser = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of lines.")] = 50,
    history: Annotated[
        bool, typer.Option("--history", help="Show below each lesson those that it replaced. Lessons only.")
    ] = False,
    run: OfRun = "",
    cell: OfCell = "",
    server: OfServer = "",
    as_json: JsonOption = False,
) -> None:
    """Show the records of a kind.

    Lessons are sorted by the number of visits that taught them, other records by time, newest first. Lessons that
    others replaced are left out. Profiles are derived from statements.
    """
    from sim.errors import BadInputError

    if history and kind != "lessons":
        raise BadInputError("--history is for lessons: `billp memory show lessons --history`")
    from graph.cli.memory.select import RecordFilter, checked_kind, described, memory_to_read, newest_first, profiles

    with memory_to_read(run, cell, server) as store:
        wanted = RecordFilter(checked_kind(kind), space, user)
        records = wanted.records(store)
        if kind == "profiles":
            records = [*profiles(wanted._replace(kind="statements").records(store)), *records]
    if kind == "lessons":
        show_lessons(records, limit, as_json, history=history)
        return
    shown = [described(one) for one in newest_first(records)[:limit]]
    if as_json:
        print_json(shown)
        return
    if not shown:
        typer.echo(f"no {kind}")
        return
    columns = KIND_COLUMNS.get(kind) or own_columns(shown[0]["value"])
    print_table(columns, [{**cells(kind, one["value"]), **one} for one in shown])
    rest_line(len(records) - limit, kind)


def own_columns(value: Mapping[str, Any]) -> list[str]:
    """Return the table columns for records of a custom role."""
    return ["space", "user", *(name for name in value if name not in ("kind", "visit", "user_id", "situation"))]


def show_lessons(records: Sequence[Any], limit: int, as_json: bool, *, history: bool) -> None:
    """Show the lessons, space by space, sorted by the number of visits that taught them, highest first.

    With `history`, each lesson is followed by those that it replaced, directly or through other lessons.
    """
    from graph.cli.memory.select import lessons_by_space

    spaces, foreign = lessons_by_space(records)
    if as_json:
        print_json(
            [
                {"space": one.space, **lesson_line(each), **({"replaced": replaced_lines(each)} if history else {})}
                for one in spaces
                for each in one.lessons[:limit]
            ]
        )
        return
    if not spaces:
        typer.echo("no lessons")
    for one in spaces:
        typer.echo(f"different lessons in the space {one_line(one.space)}: {len(one.lessons)}")
        lines: list[dict[str, Any]] = []
        for each in one.lessons[:limit]:
            lines.append(lesson_line(each))
            if history:
                lines += [line | {"text": f"    {line['text']}"} for line in replaced_lines(each)]
        cells_of = ((line["support"], f"{line['length']:.1f}", line["text"]) for line in lines)
        print_table(LESSON_COLUMNS, [dict(zip(LESSON_COLUMNS, row, strict=True)) for row in cells_of])
        rest_line(len(one.lessons) - limit, "lessons")
    if foreign:
        typer.echo(f"records that are not lessons: {foreign} (`billp memory export` includes them)")


def lesson_line(lesson: "MergedLesson") -> dict[str, Any]:
    """Return a lesson as JSON."""
    return {"text": lesson.text, "support": lesson.support, "length": lesson.length}


def replaced_lines(lesson: "MergedLesson") -> list[dict[str, Any]]:
    """Return the lessons that a lesson replaced as JSON, each with the visits that said just this."""
    from memory.lessons import merge_lessons

    said = [one._replace(lesson=one.lesson.model_copy(update={"replaces": []})) for one in lesson.replaced]
    return [lesson_line(one) for one in merge_lessons(said)]


@memory.command("export")
def memory_export(
    file: Annotated[Path, typer.Argument(help="File to write, or - for standard output.")],
    kind: OfKind = None,
    space: InSpace = None,
    user: OfUser = None,
    embeddings: Annotated[bool, typer.Option("--embeddings", help="Also write the vectors.")] = False,
    run: OfRun = "",
    cell: OfCell = "",
) -> None:
    """Export records as JSON Lines.

    Each record is one line.
    """
    from graph.cli.memory.files import export_file, export_memory
    from graph.cli.memory.select import RecordFilter, checked_kind, readable_memory
    from graph.variants import known_kinds

    # The classes of custom records define the fields by which recall finds them.
    known_kinds()
    with readable_memory(run, cell) as store:
        records = RecordFilter(checked_kind(kind), space, user).records(store)
        with progress_bar("Exporting", len(records)) as progress:
            if str(file) == "-":
                refused = export_memory(store, records, sys.stdout, embeddings, progress)
            else:
                with export_file(file) as stream:
                    refused = export_memory(store, records, stream, embeddings, progress)
    typer.echo(f"records exported: {len(records):,}", err=True)
    if refused:
        typer.echo(f"invalid records among them, which `billp memory import` would refuse: {refused:,}", err=True)


@memory.command("import")
def memory_import(
    file: Annotated[Path, typer.Argument(help="File that `billp memory export` wrote.")],
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute new vectors instead of using those in the file.")
    ] = False,
) -> None:
    """Import records from a file.

    If a line is invalid, no record is imported.
    """
    from graph.cli.memory.files import check_lines, import_memory
    from graph.cli.memory.select import writable_memory
    from graph.variants import known_kinds
    from memory.embeddings import shared_embeddings

    known_kinds()
    # Check the file before the memory is opened, so that an invalid file leaves no files.
    with err.status(f"Checking {file} …"):
        count = check_lines(file, shared_embeddings(), recompute)
    with writable_memory() as store, progress_bar("Importing", count) as progress:
        import_memory(file, store, recompute, progress)
    typer.echo(f"records imported: {count:,}")


@memory.command("import-recorded")
def memory_import_recorded(
    file: Annotated[Path, typer.Argument(help="File of the original's memory, of the Actor or the Critic.")],
    space: Annotated[
        str,
        typer.Option(
            "--space", help="Space of the imported records; visits recall from the space named after their world."
        ),
    ],
    user: Annotated[
        str, typer.Option("--user", help="User id of the imported records; the file has none.")
    ] = "recorded",
    world: Annotated[
        str,
        typer.Option(
            "--world", help="World whose catalogue adds ids and genres, and separates titles that contain commas."
        ),
    ] = "",
) -> None:
    """Import a memory of the original.

    Records of its Actor become experiences, those of its Critic become values.
    """
    from graph.cli.memory.files import recorded_records, write_recorded
    from graph.cli.memory.select import writable_memory
    from nodes.tools.open_world import load_world

    checked_label("--space", space)
    checked_label("--user", user)
    records = recorded_records(file, user, load_world(world).catalogue if world else None)
    with writable_memory() as store, progress_bar("Importing", len(records)) as progress:
        write_recorded(records, space, store, progress)
    typer.echo(f"{records[0].value.kind} imported into the space {space}: {len(records):,}")


@memory.command("check")
def memory_check(
    kind: OfKind = None,
    space: InSpace = None,
    user: OfUser = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of lines.")] = 50,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the invalid records.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find invalid records.

    A record is invalid if a value is out of bounds, or if its title or genres differ from the item's. Recall skips
    records with values out of bounds. Exit code 1 if invalid records are found and not deleted.
    """
    from graph.cli.memory.check import described_fault, faults, removed
    from graph.cli.memory.select import RecordFilter, checked_kind, readable_memory

    with readable_memory("", "") as store:
        records = RecordFilter(checked_kind(kind), space, user).records(store)
        found = faults(records)
        if as_json:
            print_json({"records": len(records), "faults": [described_fault(one) for one in found]})
        else:
            typer.echo(f"records checked: {len(records):,}; invalid: {len(found):,}")
            if found:
                print_table(("kind", "space", "user", "key", "why"), [described_fault(one) for one in found[:limit]])
            rest_line(len(found) - limit, "records")
        if found and remove and (yes or agreed(f"records to delete: {len(found):,}")):
            with progress_bar("Deleting", len(found)) as progress:
                for done in removed(store, found):
                    progress(done)
        elif found:
            raise typer.Exit(1)


@memory.command("forget")
def memory_forget(
    user: Annotated[str, typer.Option("--user", help="Id of the user.")],
    space: Annotated[str | None, typer.Option("--space", help="Delete only the records of this space.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete all records of a user.

    Then verify that none are left, and list other files with data of the user.
    """
    from graph.cli.memory.erase import check_forgotten, elsewhere, forget
    from graph.cli.memory.select import RecordFilter, by_kind, counted, readable_memory

    with readable_memory("", "") as store:
        records = RecordFilter(None, space, user).records(store)
        everything = len(store.records())
        if not records:
            typer.echo(f"no records of user {one_line(user)}{within(space)}")
        else:
            question = f"user {one_line(user)}{within(space)}: {totals_line(by_kind(counted(records)))}"
            if yes:
                typer.echo(question)
            elif not agreed(question):
                typer.echo("nothing was deleted")
                raise typer.Exit(1)
            with progress_bar("Rewriting", everything) as progress:
                forget(records, store, progress)
    if records:
        check_forgotten(user, space, everything - len(records))
        typer.echo(f"records deleted: {len(records):,}; verified: none left")
    for line in elsewhere(user):
        typer.echo(f"not deleted: {one_line(line)}")
    typer.echo("not checked: exported files, copies, threads of a LangGraph server, and the ratings of worlds")


def agreed(question: str) -> bool:
    """Ask the person at the terminal, and return whether they agree.

    Raises:
        BadInputError: No person is at the terminal.
    """
    from sim.errors import BadInputError

    if sys.stdin is None or not sys.stdin.isatty():
        raise BadInputError(f"{question}; no terminal to ask for confirmation: add --yes to delete them")
    return typer.confirm(f"{question}. Delete them?")


def within(space: str | None) -> str:
    """Describe the searched spaces."""
    return "" if space is None else f" in the space {one_line(space)}"


def checked_label(option: str, text: str) -> None:
    """Check the name of a space or user.

    Raises:
        BadInputError: The name is invalid.
    """
    from sim.errors import BadInputError

    if not 0 < len(text) <= MAX_OPTION_NAME or not text.isprintable():
        raise BadInputError(f"{option}: write a name of 1 to {MAX_OPTION_NAME} printable characters")


def cells(kind: str, value: Mapping[str, Any]) -> dict[str, str]:
    """Return the table cells of a record, whose content may have been edited to anything."""
    texts = {name: cell(part) for name, part in value.items()}
    last = str(value.get("situation") or "").splitlines()
    profile = {"text": " · ".join(str(value.get("text", "")).splitlines())} if kind == "profiles" else {}
    ratings = value.get("ratings")
    return (
        texts
        | profile
        | {"after": last[-1] if last else "", "ratings": str(len(ratings)) if isinstance(ratings, dict) else "–"}
    )


def cell(part: Any) -> str:
    """Return a part of a record as a table cell."""
    if isinstance(part, bool):
        return "yes" if part else "no"
    if isinstance(part, float):
        return f"{part:.2f}"
    if isinstance(part, list):
        return ", ".join(map(str, part))
    return "–" if part is None else str(part)


def summary(kind: str, value: Mapping[str, Any]) -> str:
    """Return a record as one text."""
    if kind == "experiences":
        shown = cells("experiences", value)
        return f"{shown.get('title')}: advantage {shown.get('advantage')}, left: {shown.get('left')}"
    if kind == "values":
        shown = cells("values", value)
        return f"{shown.get('target')} after {shown['after']}"
    return str(value["text"]) if "text" in value else json.dumps(value, ensure_ascii=False)


def totals_line(totals: Mapping[str, int]) -> str:
    """Describe the number of records by kind."""
    kinds = ", ".join(f"{one_line(kind)} {number:,}" for kind, number in totals.items())
    return f"records {sum(totals.values()):,}{f' ({kinds})' if kinds else ''}"


def rest_line(rest: int, what: str) -> None:
    """Print the number of lines that are not shown."""
    if rest > 0:
        typer.echo(f"{rest:,} more {what}: show them with a higher `--limit`")


def print_table(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as a table, with numbers aligned to the right."""
    columns = list(columns)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in NUMERIC else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(without_controls(str(row.get(name, "–")))) for name in columns))
    out.print(table)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows the progress in records, on a terminal only."""
    columns = (TextColumn(what), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=err, disable=not err.is_terminal, transient=True)
    with progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)
