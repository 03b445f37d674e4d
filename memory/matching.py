"""Which records and namespaces a search or a listing means, as LangGraph's own stores read it."""

from collections.abc import Callable, Iterable
from typing import Any

from langgraph.store.base import ListNamespacesOp, MatchCondition

Namespace = tuple[str, ...]


def _number(value: Any) -> float | None:
    """Return `value` as a number, None where it is none (a missing field, a text): such a record does not match."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _ordered(compare: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, bound: (number := _number(value)) is not None and compare(number, float(bound))


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: bool(value == wanted),
    "$ne": lambda value, wanted: bool(value != wanted),
    "$gt": _ordered(lambda a, b: a > b),
    "$gte": _ordered(lambda a, b: a >= b),
    "$lt": _ordered(lambda a, b: a < b),
    "$lte": _ordered(lambda a, b: a <= b),
}
_BOUNDED = {"$gt", "$gte", "$lt", "$lte"}


def check_filter(wanted: Any) -> None:
    """Raise where the condition on a field cannot be understood, whatever records there are.

    Raises:
        ValueError: The filter has an unknown operator, or a bound that is no number.
    """
    if not isinstance(wanted, dict):
        return
    operators = any(name.startswith("$") for name in wanted)
    for name, part in wanted.items():
        if operators and name not in _OPERATORS:
            raise ValueError(f"Unknown filter operator {name!r}: use one of {', '.join(_OPERATORS)}.")
        if name in _BOUNDED and _number(part) is None:
            raise ValueError(f"The bound of {name} is {part!r}: use a number.")
        if not operators:
            check_filter(part)


def matches(value: dict[str, Any], wanted: dict[str, Any] | None) -> bool:
    """Say whether a record's value passes the filter of a search, which `check_filter` accepts; every field must."""
    return all(_field_matches(value.get(field), condition) for field, condition in (wanted or {}).items())


def _field_matches(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        if any(name.startswith("$") for name in wanted):
            return all(_OPERATORS[name](value, bound) for name, bound in wanted.items())
        return isinstance(value, dict) and all(_field_matches(value.get(name), part) for name, part in wanted.items())
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(wanted)
            and all(_field_matches(one, other) for one, other in zip(value, wanted, strict=True))
        )
    return bool(value == wanted)


def list_namespaces(namespaces: Iterable[Namespace], op: ListNamespacesOp) -> list[Namespace]:
    """Return the namespaces that `op` asks for, sorted, cut to its depth, each once, its page of them.

    Raises:
        ValueError: `op` has an unknown kind of condition.
    """
    found = {
        namespace[: op.max_depth] if op.max_depth is not None else namespace
        for namespace in namespaces
        if all(_condition_holds(condition, namespace) for condition in op.match_conditions or ())
    }
    return sorted(found)[op.offset : op.offset + op.limit]


def _condition_holds(condition: MatchCondition, namespace: Namespace) -> bool:
    path = condition.path
    if condition.match_type == "prefix":
        part = namespace[: len(path)]
    elif condition.match_type == "suffix":
        part = namespace[max(0, len(namespace) - len(path)) :]
    else:
        raise ValueError(f"Unknown kind of namespace condition {condition.match_type!r}: use prefix or suffix.")
    return len(part) == len(path) and all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
