"""Command `billp local-model`."""

from pathlib import Path
from typing import Annotated

import typer

# The command imports the server itself, so that --help and errors are quick.


def local_model_command(
    weights: Annotated[Path, typer.Argument(help="File of the weights; `make local-model` downloads it.")],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 for a free one.")] = 8080,
) -> None:
    """Serve the small language model SmolLM2 here.

    Its name for `--model` is `openai:smollm2`. Ctrl-C stops the server.
    """
    from nodes.llm.local_server import LOCAL_MODEL, serve_local_model

    def ready(address: str) -> None:
        typer.echo(
            f"{LOCAL_MODEL} answers at {address} until Ctrl-C. In another terminal:\n"
            f"    OPENAI_BASE_URL={address} billp episode --model openai:{LOCAL_MODEL}"
        )

    serve_local_model(weights, port, ready)
