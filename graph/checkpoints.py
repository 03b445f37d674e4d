"""Checkpoints of visits: serializer, SQLite checkpointer, and costs of unfinished visits."""

import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from pydantic import BaseModel

from graph.role_schemas import Node
from memory import records
from nodes import state

# Name of a file of checkpoints in the folder of a visit, or of a cell of a study.
CHECKPOINTS = "checkpoints.sqlite"


def serializer(nodes: Iterable[Node] = ()) -> JsonPlusSerializer:
    """Return the serializer for a checkpointer of these graphs: it loads the classes of the state only.

    Args:
        nodes: Custom roles, whose modules may define classes used in the state.
    """
    modules = (state, records, *(sys.modules[node.__module__] for node in nodes))
    classes = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
    return JsonPlusSerializer(
        allowed_msgpack_modules=[(one.__module__, one.__name__) for one in classes if issubclass(one, BaseModel)]
    )


@asynccontextmanager
async def checkpointer(file: Path, nodes: Iterable[Node] = ()) -> AsyncIterator[AsyncSqliteSaver]:
    """Open the checkpoints in a SQLite file, created if missing; `nodes` as in `serializer`."""
    async with aiosqlite.connect(file) as connection:
        yield AsyncSqliteSaver(connection, serde=serializer(nodes))


async def costs_under_way(file: Path) -> dict[str, float]:
    """Return the cost so far, in dollars, of each visit with checkpoints in a file, by thread."""
    latest: dict[str, float] = {}
    async with checkpointer(file) as saver:
        # `alist` yields the newest checkpoint of each thread first.
        async for one in saver.alist(None):
            usage = one.checkpoint["channel_values"].get("usage")
            latest.setdefault(one.config["configurable"]["thread_id"], usage.cost if usage else 0.0)
    return latest
