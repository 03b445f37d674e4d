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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
WorldOption = Annotated[str, typer.Option("--world", help="Name of the world; the default world if not given.")]
ModelOption = Annotated[str, typer.Option(help="Model for all roles: `rules`, `openai:NAME`, or one from a plug-in.")]
MaxStepsOption = Annotated[int, typer.Option(min=1, max=2_000, help="Maximum number of rounds of a visit.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Setting of the roles; a prompt can also be @FILE. Repeatable."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")]


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
