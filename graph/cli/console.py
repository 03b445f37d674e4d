"""Consoles, option types and checks of options that the commands share."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console

from sim.errors import BadInputError

out = Console()
err = Console(stderr=True)
Made = TypeVar("Made")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
WorldName = Annotated[str, typer.Option("--world", help="Name of the world; empty for the default one.")]
ModelName = Annotated[str, typer.Option(help="Model of all roles: `rules`, `openai:NAME`, or a package's.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the roles, a prompt also as @FILE; repeatable."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of what is drawn at random.")]


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
