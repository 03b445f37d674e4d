"""Place of a visit on its thread, from which the id of the visit is made.

A thread counts its own visits. A graph of another program may run many visits on one thread: in a loop, at once, or as
tools of an agent. Each of them has number 1, so the place tells them apart. It is made of values that stay the same if
the other graph is resumed, replayed or forked: its last input, the number of its steps since then, the path of the task
within the step, and the number of the call within the task.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.config import get_config
from langgraph.constants import CONF, CONFIG_KEY_CHECKPOINTER, TASKS
from langgraph.runtime import get_runtime

from graph.role_schemas import Node

# LangGraph's separators in the namespace of a checkpoint, as in `agent:TASK|tools:TASK|1|begin:TASK`.
_LEVEL, _OF_TASK = "|", ":"
_STARTED = "__billp_started"
# Runs in this process by checkpointer and thread.
_running: Counter[tuple[int, str]] = Counter()


class Started(NamedTuple):
    """Circumstances in which a run started."""

    task: str
    """Namespace of the task that started the run; empty if none did."""
    path: Any
    """Path of this task within its step."""
    alone: bool
    """Whether no other run in this process was on the same thread."""


@contextmanager
def started(config: RunnableConfig, saver: object) -> Iterator[RunnableConfig]:
    """Yield the configuration of a run with the circumstances of its start, which `placing` needs."""
    configurable = config.get(CONF, {})
    try:
        of_task = get_config().get("metadata", {})
    except RuntimeError:
        # No graph runs this one.
        of_task = {}
    key = (id(saver), str(configurable.get("thread_id")))
    circumstances = Started(
        of_task.get("langgraph_checkpoint_ns", ""), of_task.get("langgraph_path"), alone=not _running[key]
    )
    _running[key] += 1
    try:
        yield {**config, CONF: {**configurable, _STARTED: circumstances}}
    finally:
        _running[key] -= 1
        if not _running[key]:
            del _running[key]


def placing(begin: Node) -> Node:
    """Wrap the first node of a visit: also set the place of the visit."""

    @wraps(begin)
    async def placed(state: Any, **given: Any) -> dict[str, Any]:
        return await begin(state.model_copy(update={"place": await _place()}), **given)

    return placed


async def _place() -> str:
    """Return the place of the current visit in hexadecimal digits; empty for a visit that its thread counts."""
    info, configurable = get_runtime().execution_info, get_config()[CONF]
    if info is None:
        return ""
    saver, at_start = configurable.get(CONFIG_KEY_CHECKPOINTER), configurable[_STARTED]
    enclosing = info.checkpoint_ns.rpartition(_LEVEL)[0]
    if not enclosing:
        # Without checkpoints the count starts anew in each run, and runs at once have the same count.
        counted = not info.thread_id or (saver is not None and at_start.alone)
        return "" if counted else _digest(info.checkpoint_id)
    levels = enclosing.split(_LEVEL)
    places = []
    for number, level in enumerate(levels):
        above, here = _LEVEL.join(levels[:number]), _LEVEL.join(levels[: number + 1])
        checkpoint = configurable.get("checkpoint_map", {}).get(above)
        path = at_start.path if here == at_start.task else None
        # The number of a call, or the name of a subgraph with a history of its own: there is no task.
        if _OF_TASK not in level or checkpoint is None or not isinstance(saver, BaseCheckpointSaver):
            places.append(level)
            continue
        config = {"thread_id": info.thread_id, "checkpoint_ns": above, "checkpoint_id": checkpoint}
        places.append(await _task_place(saver, {CONF: config}, level, path))
    return _digest(places)


async def _task_place(saver: BaseCheckpointSaver[Any], config: RunnableConfig, task: str, path: Any) -> Any:
    """Return the place of a task in its graph, the same in each replay and fork; else the task itself, with its id.

    Args:
        saver: Checkpointer of the graph.
        config: Checkpoint on which the task runs.
        task: Name and id of the task.
        path: Path of the task within its step; None if unknown.
    """
    name = task.partition(_OF_TASK)[0]
    saved = await saver.aget_tuple(config)
    # A graph that keeps no checkpoint of the step cannot be replayed there.
    if saved is None or (path is None and not _runs_once(saved.checkpoint, name)):
        return task
    steps, last_input = 0, ""
    while saved is not None:
        source = saved.metadata.get("source")
        # Forks and edits add checkpoints, but no steps.
        steps += source == "loop"
        if source == "input" and not config[CONF]["checkpoint_ns"]:
            last_input = saved.checkpoint["id"]
            break
        saved = await saver.aget_tuple(saved.parent_config) if saved.parent_config else None
    return [last_input, steps, name, path]


def _runs_once(checkpoint: Checkpoint, name: str) -> bool:
    """Return whether a name is that of a node, which runs once in the next step, and not of tasks that were sent."""
    edges = (f"branch:to:{name}", f":{name}")
    is_node = any(
        channel == edges[0] or (channel.startswith("join:") and channel.endswith(edges[1]))
        for channel in checkpoint["channel_versions"]
    )
    return is_node and all(one.node != name for one in checkpoint["channel_values"].get(TASKS) or ())


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]
