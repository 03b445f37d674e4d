"""Compiled graph of a visit: it names its runs for traces and checkpoints, and notes that a state was edited.

LangGraph takes a run's name, tags and metadata from whoever starts it, and a client that starts one with an empty form
gives none. Who visits which world is said by the input alone, so the graph reads it there and completes the
configuration of each run itself. Edits arrive here in two ways, by an update of the state and by a command.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, StateUpdate
from pydantic import BaseModel, ValidationError

from nodes.context import Context
from nodes.lifecycle import check_input
from nodes.state import VisitInput, VisitOutput, VisitStart, VisitState
from sim.errors import BillpError

INPUT = "__input__"
"""LangGraph's name for an update that stands for a new input."""
NamedBy = Callable[[VisitState, str], Awaitable[str]]
"""Tells the name of who visits, from a checked input and the identity under which the server knows them, if it does."""


class KnownGraph(CompiledStateGraph[VisitState, Context, VisitInput, VisitOutput]):
    """A compiled graph that says by itself what each of its runs is known by."""

    builder: "Graph"

    async def astream(self, input: Any, config: RunnableConfig | None = None, **run: Any) -> AsyncIterator[Any]:
        """Stream a run, as every other way of running it does in the end."""
        known = merge_configs(await self._known(input, config or {}), config)
        stream: Any = super().astream(marked_command(input), known, **run)
        async with aclosing(stream):
            async for chunk in stream:
                yield chunk

    def bulk_update_state(self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]) -> RunnableConfig:
        """Edit the state, as `update_state` does in the end; the state says from then on that it was edited."""
        return super().bulk_update_state(config, [list(map(_marked_update, one)) for one in supersteps])

    async def abulk_update_state(
        self, config: RunnableConfig, supersteps: Sequence[Sequence[StateUpdate]]
    ) -> RunnableConfig:
        """Edit the state, as `aupdate_state` does in the end; the state says from then on that it was edited."""
        return await super().abulk_update_state(config, [list(map(_marked_update, one)) for one in supersteps])

    async def _known(self, input: Any, config: RunnableConfig) -> RunnableConfig:
        variant = self.builder.variant
        metadata: dict[str, Any] = {"variant": variant}
        # What is wrong with an input is for the run to say, and nothing unchecked gets into a trace.
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
        """Return the visit that a run begins or goes on with, as far as it is known yet."""
        if input is not None and not isinstance(input, Command):
            return check_input(VisitStart.model_validate(input, from_attributes=True))
        if not isinstance(self.checkpointer, BaseCheckpointSaver):
            return None
        identity = (await self.aget_state(config)).values.get("identity")
        if identity is None:
            return None
        visit = VisitState(identity=identity)
        visit.check_types()
        return visit


def marked_command(input: Any) -> Any:
    """Return what a run is started with; a command that edits the state, or sends a node one, says so in the state."""
    if not isinstance(input, Command) or not (input.update or input.goto):
        return input
    goto: Any = list(input.goto) if isinstance(input.goto, list | tuple) else [input.goto] * bool(input.goto)
    goto = [Send(one.node, _marked_values(one.arg)) if isinstance(one, Send) else one for one in goto]
    return replace(input, update={**dict(input._update_as_tuples()), "edited": True}, goto=goto)


def _marked_update(update: StateUpdate) -> StateUpdate:
    values, as_node, task_id = (*update, None, None)[:3]
    # An input begins a visit, which is nobody's edit.
    return update if as_node == INPUT else StateUpdate(_marked_values(values), as_node, task_id)


def _marked_values(values: Any) -> Any:
    """Return the values of an edit with the mark; none where nothing is edited, as in a fork."""
    if isinstance(values, dict):
        return {**values, "edited": True}
    if isinstance(values, BaseModel):
        return values.model_copy(update={"edited": True})
    if isinstance(values, Command):
        return marked_command(values)
    if isinstance(values, list):
        # A copy of a checkpoint with edits, each with the node that it stands for.
        return [(_marked_values(one[0]), *one[1:]) if isinstance(one, list | tuple) else one for one in values]
    return values


class Graph(StateGraph[VisitState, Context, VisitInput, VisitOutput]):
    """An uncompiled graph of a visit.

    Args:
        variant: What its runs are called.
        named_by: Tells who visits.
        context_schema: Settings that the nodes read.
        input_schema: What a visit is given.
    """

    def __init__(
        self, variant: str, named_by: NamedBy, context_schema: type[Context], input_schema: type[VisitInput]
    ) -> None:
        super().__init__(VisitState, context_schema, input_schema=input_schema, output_schema=VisitOutput)
        self.variant = variant
        self.named_by = named_by

    def compile(self, *args: Any, **kwargs: Any) -> KnownGraph:
        """Compile it, as `StateGraph.compile` does."""
        compiled = super().compile(*args, **kwargs)
        known = KnownGraph(**vars(compiled))
        # What a copy by the constructor loses.
        vars(known).update(vars(compiled))
        return known
