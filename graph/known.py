"""What a run is known by in traces, event streams and checkpoints: its name, tags and metadata.

LangGraph takes them from whoever starts a run, and a client that starts one with an empty form gives none. Who visits
which world is said by the input alone, so the graph reads it there and completes the configuration of each run itself.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command
from pydantic import ValidationError

from nodes.context import Context
from nodes.frame import check_input
from nodes.state import Beginning, VisitInput, VisitOutput, VisitState
from sim.errors import BillpError

NamedBy = Callable[[VisitState, str], Awaitable[str]]
"""Tells the name of who visits, from a checked input and the identity under which the server knows them, if it does."""


class KnownGraph(CompiledStateGraph[VisitState, Context, VisitInput, VisitOutput]):
    """A compiled graph that says by itself what each of its runs is known by."""

    builder: "Graph"

    async def astream(self, input: Any, config: RunnableConfig | None = None, **run: Any) -> AsyncIterator[Any]:
        """Stream a run, as every other way of running it does in the end."""
        known = merge_configs(await self._known(input, config or {}), config)
        stream: Any = super().astream(input, known, **run)
        async with aclosing(stream):
            async for chunk in stream:
                yield chunk

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
            return check_input(Beginning.model_validate(input, from_attributes=True))
        if not isinstance(self.checkpointer, BaseCheckpointSaver):
            return None
        identity = (await self.aget_state(config)).values.get("identity")
        if identity is None:
            return None
        visit = VisitState(identity=identity)
        visit.check_types()
        return visit


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
