"""Run one visit here, with the memory under BILLP_HOME."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.store.base import BaseStore

from graph.episode import VARIANTS, build_variant, run_config
from memory.store import create_store
from nodes.context import Context
from nodes.frame import check_input
from nodes.llm.models import chat_model
from nodes.state import Beginning, Step, VisitInput, VisitOutput
from nodes.visitor import visitor
from sim.errors import BadInputError


async def run_episode(
    variant: str, visit: VisitInput, context: Context, remember: bool, show: Callable[[Step], None]
) -> VisitOutput:
    """Run one visit.

    Args:
        variant: A name in `VARIANTS`.
        visit: Who visits.
        context: The settings.
        remember: Whether to recall memories and to write them.
        show: Is called with each round as it ends.

    Raises:
        BadInputError: The variant, the model or the input cannot be used.
    """
    if variant not in VARIANTS:
        raise BadInputError(f"there is no variant {variant!r}: choose among {', '.join(VARIANTS)}")
    chat_model(context.model, context.temperature)
    # Before the memory is opened, so that a bad input leaves nothing behind.
    await visitor(check_input(Beginning.model_validate(visit.model_dump())))
    last = VARIANTS[variant].step[-1].__name__
    async with _memory(remember) as store:
        graph = build_variant(variant).compile(store=store)
        # A thread of its own, so that the visit recalls what former ones of the same user taught.
        config: RunnableConfig = {**run_config(variant, visit), "configurable": {"thread_id": str(uuid4())}}
        async for mode, chunk in graph.astream(visit, config, context=context, stream_mode=["updates", "values"]):
            content: Any = chunk
            if mode == "values":
                final = content
            elif last in content:
                show(content[last]["steps"][-1])
    return VisitOutput.model_validate(final)


@asynccontextmanager
async def _memory(remember: bool) -> AsyncIterator[BaseStore | None]:
    if not remember:
        yield None
        return
    async with create_store() as store:
        yield store
