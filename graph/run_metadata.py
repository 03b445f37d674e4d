"""Compiled graph of a visit that names its runs for traces and checkpoints, and marks edited states.

LangGraph takes a run's name, tags and metadata from the client that starts the run, and many clients give none. The
world and the user are named in the input only, so the graph reads them there and completes the configuration of each
run. A state is edited in two ways, by an update of the state and by a command; both pass through this class, and so
does the history of a thread. It bounds each, since one small request may ask for any number of large states.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, StateSnapshot, StateUpdate
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from graph.context_overrides import check_run_input, run_settings
from graph.visit_place import started
from nodes.context import Context
from nodes.lifecycle import check_input, history_bytes
from nodes.state import VisitInput, VisitProgress, VisitStart, VisitState
from sim.errors import BadInputError, BillpError

INPUT, COPY = "__input__", "__copy__"
"""LangGraph's names for an update that stands for a new input, and for one that copies a checkpoint."""
MAX_UPDATES = 1_000
"""Most updates of one edit, in all its supersteps; each loads and saves the whole state."""
STATE_PAUSE = 0.001
"""Seconds between two states that are read or saved: a waiting request needs several turns of the event loop."""
NamedBy = Callable[[VisitState, str], Awaitable[str]]
"""Function that returns the user's name, from a checked input and the identity on the server (empty if none)."""

# Fields that say whose plan it is; an edit of the state cannot change them.
NOT_BELIEVED = ("own_plan", "ordered")


class KnownGraph(CompiledStateGraph[VisitState, Context, VisitInput, VisitProgress]):
    """Compiled graph that adds name, tags and metadata to each of its runs."""

    builder: "Graph"

    async def astream(self, input: Any, config: RunnableConfig | None = None, **run: Any) -> AsyncIterator[Any]:
        """Stream a run; every other method that runs the graph calls this one."""
        config = config or {}
        if isinstance(input, Command):
            _check_command(input)
        check_run_input(self.builder.input_schema, input, config)
        run["context"] = run_settings(cast(type[Context], self.builder.context_schema), run.get("context"), config)
        with started(config, self.checkpointer) as placed:
            known = merge_configs(await self._known(input, placed), placed)
            stream: Any = super().astream(marked_command(input), known, **run)
            async with aclosing(stream):
                async for chunk in stream:
                    yield chunk

    def get_context_jsonschema(self) -> dict[str, Any] | None:
        """Return the schema of the settings; LangGraph's server passes all names on to the run, not just known ones."""
        schema = super().get_context_jsonschema()
        return schema and {**schema, "properties": _AllProperties(schema["properties"])}

    def bulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]) -> RunnableConfig:
        """Edit the state and mark it as edited; `update_state` calls this method.

        Raises:
            BadInputError: There are too many updates, or a copy of a checkpoint after another update.
        """
        return super().bulk_update_state(config, _marked_supersteps(supersteps))

    async def abulk_update_state(
        self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        """Edit the state and mark it as edited; `aupdate_state` calls this method.

        Raises:
            BadInputError: There are too many updates, or a copy of a checkpoint after another update.
        """
        marked = _marked_supersteps(supersteps)
        # LangGraph awaits nothing in between: let the event loop go on after each superstep. It reads the one after a
        # copy otherwise than a first one, so these two stay together.
        first = 2 if marked and any(update.as_node == COPY for update in marked[0]) else 1
        config = await super().abulk_update_state(config, marked[:first])
        for superstep in marked[first:]:
            await asyncio.sleep(STATE_PAUSE)
            config = await super().abulk_update_state(config, [superstep])
        return config

    async def aget_state_history(self, config: RunnableConfig, **which: Any) -> AsyncIterator[StateSnapshot]:
        """Yield the states of a thread, the latest first, and let the event loop go on after each.

        Raises:
            BadInputError: The states exceed `history_bytes`.
        """
        most, size = history_bytes.get(), 0
        states: Any = super().aget_state_history(config, **which)
        async with aclosing(states):
            async for state in states:
                if most is not None:
                    if size > most:
                        raise BadInputError(
                            f"the states of this history have more than {most:,} bytes: ask for fewer by `limit`, and "
                            "for those before them by `before`"
                        )
                    size += len(to_json(state.values, serialize_unknown=True))
                yield state
                await asyncio.sleep(STATE_PAUSE)

    async def _known(self, input: Any, config: RunnableConfig) -> RunnableConfig:
        variant = self.builder.variant
        metadata: dict[str, Any] = {"variant": variant}
        # The run itself reports an invalid input. Unchecked values must not reach a trace.
        with suppress(BillpError, ValidationError):
            visit = await self._visit(input, config)
            if visit is not None:
                user = config.get("configurable", {}).get("langgraph_auth_user")
                name = await self.builder.named_by(visit, user.identity if user else "")
                metadata |= {"world": visit.world, "user_id": name, "seed": visit.seed}
        return {
            "run_name": " ".join([variant, *filter(None, [metadata.get("user_id")])]),
            "tags": list(dict.fromkeys(("billp", variant))),
            "metadata": metadata,
        }

    async def _visit(self, input: Any, config: RunnableConfig) -> VisitState | None:
        """Return the visit that a run starts or resumes; None if unknown."""
        if input is not None and not isinstance(input, Command):
            return check_input(VisitStart.model_validate(input, from_attributes=True))
        if not isinstance(self.checkpointer, BaseCheckpointSaver):
            return None
        # Not by `aget_state`, which puts all rounds of a long visit together.
        saved = await self.checkpointer.aget_tuple(config)
        identity = saved.checkpoint["channel_values"].get("identity") if saved else None
        if identity is None:
            return None
        visit = VisitState(identity=identity)
        visit.check_types()
        return visit


class _AllProperties(dict[str, Any]):
    """Properties of a schema that contain every name.

    LangGraph's server drops a setting whose name is not in the properties, and the run would go on without a word. With
    these, the run gets all of them and refuses an unknown one.
    """

    def __contains__(self, name: object) -> bool:
        return True


def _check_command(command: Command[Any]) -> None:
    """Check that a command says something; LangGraph fails at one without, and repeats the question to `{}`.

    Raises:
        BadInputError: It says nothing.
    """
    if command.resume in (None, {}) and not command.update and not command.goto:
        raise BadInputError(
            'the command is empty: answer a question by `resume`, such as {"rating": 4}, or edit by `update`; to go on '
            "without either, send no command"
        )


def marked_command(input: Any) -> Any:
    """Return the input of a run; a command that edits the state or sends a state to a node also marks the edit.

    Raises:
        BadInputError: The command goes to several nodes at once.
    """
    if not isinstance(input, Command) or not (input.update or input.goto):
        return input
    goto: Any = list(input.goto) if isinstance(input.goto, list | tuple) else [input.goto] * bool(input.goto)
    # The nodes of a visit run one after another. At once, any number of them would run by one request.
    if len(goto) > 1:
        raise BadInputError(f"goto: the command goes to {len(goto):,} nodes: name one")
    goto = [Send(one.node, _marked_values(one.arg)) if isinstance(one, Send) else one for one in goto]
    return replace(input, update=_marked_values(dict(input._update_as_tuples())), goto=goto)


def _marked_supersteps(supersteps: Sequence[Sequence[StateUpdate]]) -> list[list[StateUpdate]]:
    """Return the updates of an edit with the mark.

    Raises:
        BadInputError: There are too many updates, or a copy of a checkpoint after another update.
    """
    if (count := sum(map(len, supersteps))) > MAX_UPDATES:
        raise BadInputError(f"the edit has {count:,} updates: at most {MAX_UPDATES:,} are allowed")
    marked = [list(map(_marked_update, one)) for one in supersteps]
    if any(update.as_node == COPY for one in marked[1:] for update in one):
        raise BadInputError(f"an update as {COPY} follows another: copy a checkpoint first, or by an edit of its own")
    return marked


def _marked_update(update: StateUpdate) -> StateUpdate:
    values, as_node, task_id = (*update, None, None)[:3]
    # An input starts a visit, so it is not an edit.
    return StateUpdate(values if as_node == INPUT else _marked_values(values), as_node, task_id)


def _marked_values(values: Any) -> Any:
    """Return the values of an edit with the mark; unchanged if the update edits nothing, as for a fork."""
    if isinstance(values, dict):
        # An edit of the plan is the order of a person, whatever the edit says of it.
        kept = {name: value for name, value in values.items() if name not in NOT_BELIEVED}
        return {**kept, "edited": True, **({"ordered": True} if "plan" in kept else {})}
    if isinstance(values, BaseModel):
        return _marked_values({name: getattr(values, name) for name in values.model_fields_set})
    if isinstance(values, Command):
        return marked_command(values)
    if isinstance(values, list):
        # A copy of a checkpoint with edits: each element holds the values and the node they stand for.
        return [(_marked_values(one[0]), *one[1:]) if isinstance(one, list | tuple) else one for one in values]
    return values


class Graph(StateGraph[VisitState, Context, VisitInput, VisitProgress]):
    """Uncompiled graph of a visit.

    Args:
        variant: Name of its runs.
        named_by: Function that returns the name of the user.
        context_schema: Settings of the nodes.
        input_schema: Input of a visit.
    """

    def __init__(
        self, variant: str, named_by: NamedBy, context_schema: type[Context], input_schema: type[VisitInput]
    ) -> None:
        super().__init__(VisitState, context_schema, input_schema=input_schema, output_schema=VisitProgress)
        self.variant = variant
        self.named_by = named_by

    def compile(self, *args: Any, **kwargs: Any) -> KnownGraph:
        """Compile the graph, as `StateGraph.compile` does."""
        known: Any = super().compile(*args, **kwargs)
        # LangGraph has no argument for the class of the compiled graph. `KnownGraph` adds methods and no attributes, so
        # the object can change its class; a copy of it, as a server makes, has the class too.
        known.__class__ = KnownGraph
        compiled: KnownGraph = known
        return compiled
