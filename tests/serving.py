"""A LangGraph server for all tests of a file: a real process with a home of its own."""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers import answers, free_port, last_words, start


class Server(NamedTuple):
    """A running server."""

    url: str
    pid: int


@contextmanager
def serving(folder: Path, built_home: Path, **settings: Any) -> Iterator[Server]:
    """Run a server while the block runs.

    Args:
        folder: An empty folder for its files.
        built_home: A home with the worlds that it needs, which is copied.
        settings: `jobs` at once, and what langgraph.json gets besides, such as `env`.
    """
    shutil.copytree(built_home, folder / "home")
    port = free_port()
    process = start(folder / "deployment", folder / "home", port, **settings)
    url = f"http://127.0.0.1:{port}"
    try:
        assert asyncio.run(answers(url, process)), last_words(folder / "deployment" / "log")
        yield Server(url, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
