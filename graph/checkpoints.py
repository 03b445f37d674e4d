"""How a visit's checkpoints are written and read."""

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


def serializer(nodes: Iterable[Node] = ()) -> JsonPlusSerializer:
    """Return the serializer for a checkpointer of these graphs: it admits the classes of a state and no others.

    Args:
        nodes: Roles of one's own, whose files may have classes that stand in the state.
    """
    modules = (state, records, *(sys.modules[node.__module__] for node in nodes))
    classes = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
    return JsonPlusSerializer(
        allowed_msgpack_modules=[(one.__module__, one.__name__) for one in classes if issubclass(one, BaseModel)]
    )


@asynccontextmanager
async def checkpointer(file: Path, nodes: Iterable[Node] = ()) -> AsyncIterator[AsyncSqliteSaver]:
    """Open the checkpoints kept in a SQLite file, made where it is not there; `nodes` as `serializer` takes them."""
    async with aiosqlite.connect(file) as connection:
        yield AsyncSqliteSaver(connection, serde=serializer(nodes))


async def costs_under_way(file: Path) -> dict[str, float]:
    """Return the dollars that the visits whose checkpoints are in a file have cost so far, by thread."""
    latest: dict[str, float] = {}
    async with checkpointer(file) as saver:
        # The newest of each thread comes first.
        async for one in saver.alist(None):
            usage = one.checkpoint["channel_values"].get("usage")
            latest.setdefault(one.config["configurable"]["thread_id"], usage.cost if usage else 0.0)
    return latest
