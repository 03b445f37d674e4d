"""Settings and state fields that roles add, read from the annotations of their functions.

A role with a setting of its own declares `runtime: Runtime[ItsContext]`, where `ItsContext` is a subclass of `Context`.
A role with a state field of its own declares `state: ItsState`, where `ItsState` is a subclass of `VisitState`.
"""

import copy
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import wraps
from typing import Any, get_args, get_type_hints

from langgraph.channels import BinaryOperatorAggregate, DeltaChannel
from langgraph.types import Overwrite
from pydantic.fields import FieldInfo

from nodes.context import Context
from nodes.state import VisitInput, VisitStart, VisitState

Node = Callable[..., Awaitable[dict[str, Any]]]


def settings_of(nodes: Iterable[Node], base: type[Context] = Context) -> type[Context]:
    """Return the settings of all `nodes` as one class; fields of `base` keep its defaults."""
    brought = dict.fromkeys([base, *(hint for node in nodes for hint in _contexts(node))])
    least = [one for one in brought if not any(one is not other and issubclass(other, one) for other in brought)]
    return least[0] if len(least) == 1 else type("Settings", tuple(least), {"__doc__": base.__doc__})


def state_schema(node: Node) -> type[VisitInput]:
    """Return the state class that a node declares; `VisitState` if none."""
    hint: Any = _hints(node).get("state")
    if not _is_a(hint, VisitInput):
        return VisitState
    schema: type[VisitInput] = hint
    return schema


def state_fields_of(nodes: Iterable[Node]) -> dict[str, FieldInfo]:
    """Return the state fields that `nodes` add, by name."""
    hints: list[Any] = [_hints(node).get("state") for node in nodes]
    schemas: list[type[VisitState]] = [hint for hint in hints if _is_a(hint, VisitState)]
    return {
        name: field
        for schema in schemas
        for name, field in schema.model_fields.items()
        if name not in VisitState.model_fields
    }


def clearing(begin: Node, nodes: Sequence[Node]) -> Node:
    """Wrap the first node of a visit: first reset all of the state that a former visit on the thread may have left.

    These are the fields of the state, and the fields that `nodes` add; the input and the totals live for one step only.
    """
    fields = VisitState.model_fields | state_fields_of(nodes)
    fresh = {
        # A field with a reducer would merge the default into its value; `Overwrite` replaces the value.
        name: Overwrite(value) if _has_reducer(field) else value
        for name, field in fields.items()
        if name not in VisitStart.model_fields
        for value in [field.get_default(call_default_factory=True)]
    }

    @wraps(begin)
    async def cleared(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**copy.deepcopy(fresh), **await begin(*args, **kwargs)}

    return cleared


def _has_reducer(field: FieldInfo) -> bool:
    """Return whether writes to a field of the state are merged; other channels would keep `Overwrite` as a value."""
    return any(
        isinstance(one, BinaryOperatorAggregate | DeltaChannel) or (callable(one) and not inspect.isclass(one))
        for one in field.metadata
    )


def _contexts(node: Node) -> list[type[Context]]:
    return [one for one in get_args(_hints(node).get("runtime")) if _is_a(one, Context)]


def _hints(node: Node) -> dict[str, Any]:
    return get_type_hints(inspect.unwrap(node))


def _is_a(hint: Any, base: type) -> bool:
    return inspect.isclass(hint) and issubclass(hint, base)
