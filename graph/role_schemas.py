"""The settings and state fields that roles bring of their own, as the annotations of their functions tell.

A role with a setting of its own declares `runtime: Runtime[ItsContext]`, and one with a field of the state that no
other role has `state: ItsState`, where these are subclasses of `Context` and `VisitState`.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ClassVar, get_args, get_type_hints

from langgraph.types import Overwrite
from pydantic import create_model
from pydantic.fields import FieldInfo

from nodes.context import Context
from nodes.state import VisitInput, VisitState

Node = Callable[..., Awaitable[dict[str, Any]]]


def settings_of(nodes: Iterable[Node], base: type[Context] = Context) -> type[Context]:
    """Return the settings of all `nodes` as one class; those of `base` have its defaults."""
    brought = dict.fromkeys([base, *(hint for node in nodes for hint in _contexts(node))])
    least = [one for one in brought if not any(one is not other and issubclass(other, one) for other in brought)]
    return least[0] if len(least) == 1 else type("Settings", tuple(least), {"__doc__": base.__doc__})


def with_fields_of(schemas: Iterable[type[Context]]) -> type[Context]:
    """Return settings with all fields that one of `schemas` has and `Context` has not; the first of a name counts."""
    own: dict[str, FieldInfo] = {}
    for schema in (schemas := tuple(schemas)):
        own = {name: field for name, field in schema.model_fields.items() if name not in Context.model_fields} | own
    if not own:
        return Context
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in own.items()}
    made = create_model("Settings", __base__=Joined, **fields)
    made.schemas = schemas
    return made


class Joined(Context):
    """Settings with fields of several classes, which worker processes can be handed."""

    schemas: ClassVar[tuple[type[Context], ...]] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled by what was set and by the classes, since the class itself can be imported from nowhere."""
        return _joined, (self.schemas, self.model_dump(exclude_unset=True))


def _joined(schemas: tuple[type[Context], ...], given: dict[str, Any]) -> Context:
    return with_fields_of(schemas).model_validate(given)


def state_schema(node: Node) -> type[VisitInput]:
    """Return the class of the state that a node declares to take; `VisitState` where it declares none."""
    hint: Any = _hints(node).get("state")
    if not _is_a(hint, VisitInput):
        return VisitState
    schema: type[VisitInput] = hint
    return schema


def state_fields_of(nodes: Iterable[Node]) -> dict[str, FieldInfo]:
    """Return the fields of the state that `nodes` bring, by name."""
    hints: list[Any] = [_hints(node).get("state") for node in nodes]
    schemas: list[type[VisitState]] = [hint for hint in hints if _is_a(hint, VisitState)]
    return {
        name: field
        for schema in schemas
        for name, field in schema.model_fields.items()
        if name not in VisitState.model_fields
    }


def clearing(begin: Node, nodes: Sequence[Node]) -> Node:
    """Return the first node of a visit, which then clears the fields that `nodes` bring as well."""
    own = state_fields_of(nodes)
    if not own:
        return begin

    @wraps(begin)
    async def cleared(*args: Any, **kwargs: Any) -> dict[str, Any]:
        fresh = {name: field.get_default(call_default_factory=True) for name, field in own.items()}
        # What has a reducer would take the default for one more write.
        written = {name: Overwrite(value) if own[name].metadata else value for name, value in fresh.items()}
        return await begin(*args, **kwargs) | written

    return cleared


def _contexts(node: Node) -> list[type[Context]]:
    return [one for one in get_args(_hints(node).get("runtime")) if _is_a(one, Context)]


def _hints(node: Node) -> dict[str, Any]:
    return get_type_hints(inspect.unwrap(node))


def _is_a(hint: Any, base: type) -> bool:
    return inspect.isclass(hint) and issubclass(hint, base)
