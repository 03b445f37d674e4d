"""Command line `billp`."""

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
import typer.exceptions
from dotenv import load_dotenv

from graph.cli.compare import compare_command
from graph.cli.episode import episode_command
from graph.cli.local_model import local_model_command
from graph.cli.memory.commands import memory as memory_commands
from graph.cli.memory.lock_holder import lock_holder, server_address
from graph.cli.new_node import new_node_command
from graph.cli.recommend import recommend_command
from graph.cli.report import report_command
from graph.cli.study import StudyCommand, study_command
from graph.cli.view import view_command
from graph.cli.world import worlds
from graph.console import STOPPED, show_any_text
from memory.chroma.errors import BadStoreError, StoreError, StoreInUseError
from sim.atomic_files import FolderInUseError
from sim.errors import BadInputError, BillpError
from sim.plain_text import without_controls

app = typer.Typer(
    help="BiLLP: a planner for long-term recommendation.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
# `--help` lists the commands in this order.
app.command("episode")(episode_command)
app.command("recommend")(recommend_command)
app.command("study", cls=StudyCommand)(study_command)
app.command("compare")(compare_command)
app.command("report")(report_command)
app.command("view")(view_command)
app.command("new-node")(new_node_command)
app.command("local-model")(local_model_command)
app.add_typer(worlds, name="world")
app.add_typer(memory_commands, name="memory")

# Instructions to resume a stopped command.
RESUME = {
    "episode": "run `billp episode --resume` to resume",
    "recommend": "all that you answered is saved; run the same command to come back",
    "study": "run the same command to resume",
}


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Read `.env`, which may hold the address and key of a model endpoint."""
    try:
        # Editors of Windows may put a mark before the first line.
        load_dotenv(".env", encoding="utf-8-sig")
    except (UnicodeError, ValueError):
        # A null byte, which no variable may hold, also comes from a file in UTF-16.
        raise BadInputError(".env is not text in UTF-8: save it again in this encoding") from None


def main() -> None:
    """Run the command, and print each error as one line on standard error.

    Exits with 0 after success, 1 after a failure, 2 after wrong usage, or 130 when stopped.
    """
    show_any_text()
    # Handle SIGTERM like Ctrl-C: files are complete or absent, and no child process is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_arguments(sys.argv)
        code = app(standalone_mode=False) or 0
        if code == STOPPED:
            # Typer turns an interrupt into this exit code.
            hint = next((RESUME[one] for one in sys.argv[1:] if one in RESUME), "")
            print(f"billp: stopped; {hint}" if hint else "billp: stopped", file=sys.stderr)
        sys.exit(code)
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in sys.argv:
            raise
        message, code = explain(error)
        # No wrapping and no colour: programs and people search for this line.
        print(f"billp: {without_controls(message)}", file=sys.stderr)
        sys.exit(code)


def explain(error: BaseException) -> tuple[str, int]:
    """Return an error as one line, with its exit code."""
    if isinstance(error, typer.exceptions.TyperException):
        if type(error).__name__ == "NoArgsIsHelpError":
            return error.format_message(), error.exit_code
        return " ".join(error.format_message().split()), error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "stopped", STOPPED
    if isinstance(error, FolderInUseError | StoreInUseError):
        return f"{' '.join(str(error).split())} (locked by {lock_holder(error.lock)}){_way_in(error.lock)}", 2
    if isinstance(error, BadInputError | BadStoreError):
        return " ".join(str(error).split()), 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 2
    if isinstance(error, BillpError | StoreError):
        return " ".join(str(error).split()), 1
    return f"{type(error).__name__}: {' '.join(str(error).split())} (run `billp --debug …` for the traceback)", 1


def _way_in(lock: Path) -> str:
    """Return how to read a memory that a running server has locked; empty for other locks and commands."""
    reads = "memory" in sys.argv[1:]
    address = server_address(lock) if reads else ""
    return f"; `billp memory list`, `show` and `search` read through it with `--server {address}`" if address else ""


def check_arguments(arguments: Iterable[str]) -> None:
    """Check that Python could decode the arguments by the locale's encoding.

    Raises:
        BadInputError: An argument has bytes of another encoding.
    """
    for one in arguments:
        if any("\ud800" <= sign <= "\udfff" for sign in one):
            shown = os.fsencode(one).decode("utf-8", "replace")
            raise BadInputError(
                f"the argument {shown[:80]} is not in the locale's encoding: use one with UTF-8, such as LC_ALL=C.UTF-8"
            )
