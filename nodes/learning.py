"""Keep memories as the run asks for it: written now, handed back with the visit, or not at all."""

from typing import Any

from langgraph.runtime import Runtime

from memory.recall import remember
from memory.records import Record
from nodes.context import Context
from nodes.state import VisitState
from nodes.visitor import memory_space


async def keep(runtime: Runtime[Context], state: VisitState, context: Context, records: list[Record]) -> dict[str, Any]:
    """Keep `records` and return the update of the state that it takes."""
    if context.learn == "cohort":
        return {"records": records}
    if context.learn == "now" and runtime.store is not None:
        await remember(runtime.store, memory_space(state, context), records)
    return {}
