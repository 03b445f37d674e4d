"""Keep memories as the run asks for it: written now, handed back with the visit, or not at all."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from langgraph.runtime import Runtime

from memory.recall import remember
from memory.records import Record
from nodes.context import Context
from nodes.state import VisitState
from nodes.visitor import memory_space

Role = TypeVar("Role", bound=Callable[..., Awaitable[dict[str, Any]]])
_teachers: set[Callable[..., Any]] = set()


def teaching(role: Role) -> Role:
    """Mark a role that writes memories, so that a study trains the variants in which it stands."""
    _teachers.add(role)
    return role


def teaches(role: Callable[..., Any]) -> bool:
    """Say whether a role writes memories."""
    return role in _teachers


async def keep(runtime: Runtime[Context], state: VisitState, context: Context, records: list[Record]) -> dict[str, Any]:
    """Keep `records` and return the update of the state that it takes."""
    if context.learn == "cohort":
        return {"records": records}
    if context.learn == "now" and runtime.store is not None:
        await remember(runtime.store, memory_space(state, context), records)
    return {}
