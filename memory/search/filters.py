"""Filters of searches and conditions of namespace listings, with the meaning of LangGraph's own stores."""

from collections.abc import Callable, Iterable
from numbers import Number
from typing import Any

from langgraph.store.base import ListNamespacesOp, MatchCondition

from memory.search.messages import shown

Namespace = tuple[str, ...]
Place = tuple[Namespace, str]
"""Namespace and key of a record."""


MOST_NESTED = 100
"""Largest nesting depth of a filter."""


def _number(value: Any) -> float | None:
    """Return `value` as a number. None if it is not one (a missing field, a text); such a record does not match."""
    if isinstance(value, int):
        # Unchanged: Python compares integers of any size with floats exactly, and some integers exceed a float.
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _ordered(compare: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    def ordered(value: Any, bound: Any) -> bool:
        one, other = _number(value), _number(bound)
        return one is not None and other is not None and compare(one, other)

    return ordered


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
    """Raise if a filter is invalid, whatever the records are.

    Raises:
        ValueError: The filter is not a dict of fields, is nested too deep, has an unknown operator, an operator in
            place of a field, a bound that is not a number, or a value that no record can have.
    """
    if wanted is None:
        return
    if not isinstance(wanted, dict) or not all(isinstance(name, str) for name in wanted):
        raise ValueError('The filter is not a dict of fields: write {"field": value}.')
    for name, condition in wanted.items():
        if name.startswith("$"):
            raise ValueError(
                f"The filter operator {shown(name)} is not a field: list the fields, all of which must match."
            )
        _check_condition_on_field(condition, MOST_NESTED)


def _check_condition_on_field(wanted: Any, levels: int, literal: bool = False) -> None:
    """Raise if a part of a filter is invalid; `literal` if its dicts are values, without operators."""
    if levels == 0:
        raise ValueError(f"The filter has more than {MOST_NESTED} levels: use fewer.")
    if isinstance(wanted, list | tuple):
        for part in wanted:
            _check_condition_on_field(part, levels - 1, literal)
    elif isinstance(wanted, dict):
        if not all(isinstance(name, str) for name in wanted):
            raise ValueError('A condition of the filter is not a dict of fields: write {"field": value}.')
        operators = not literal and any(name.startswith("$") for name in wanted)
        for name, part in wanted.items():
            if operators and name not in _OPERATORS:
                raise ValueError(f"Unknown filter operator {shown(name)}: use one of {', '.join(_OPERATORS)}.")
            if operators and name in _BOUNDED and _number(part) is None:
                raise ValueError(f"The bound of {name} is {shown(part)}: use a number.")
            _check_condition_on_field(part, levels - 1, literal or operators)
    elif wanted is not None and not isinstance(wanted, str | Number):
        raise ValueError(f"The filter has {shown(wanted)}, which no record can have: use JSON types only.")


def check_condition(condition: MatchCondition) -> None:
    """Raise if a condition on namespaces is invalid.

    Raises:
        ValueError: The kind of condition is unknown.
    """
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"Unknown kind of namespace condition {shown(condition.match_type)}: use prefix or suffix.")


def matches(value: dict[str, Any], wanted: dict[str, Any] | None) -> bool:
    """Return whether a record's value passes a filter checked by `check_filter`. Every field must match."""
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
    """Return the page of distinct namespaces that `op` asks for, sorted and cut to its depth."""
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
    else:
        part = namespace[max(0, len(namespace) - len(path)) :]
    return len(part) == len(path) and all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
