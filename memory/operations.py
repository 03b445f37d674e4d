"""Store operations of callers, validated and normalised before any read or write."""

from collections.abc import Mapping
from typing import Annotated, Any

from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchOp,
    validate_op_namespace,
)
from pydantic import Field, TypeAdapter, ValidationError

from memory.chroma.errors import BadRecordError
from memory.chroma.ttl import check_ttl
from memory.search.filters import Namespace, check_condition, check_filter
from memory.search.messages import shown

LARGEST_COUNT = 2**31 - 1
"""Largest limit or offset, since Chroma's server counts in 32 bits."""
_count = TypeAdapter(Annotated[int, Field(ge=0, le=LARGEST_COUNT)])
_depth = TypeAdapter(Annotated[int, Field(ge=1, le=LARGEST_COUNT)])


def checked(op: Op) -> Op:
    """Return an operation with tuples as namespaces and whole numbers as counts.

    Raises:
        InvalidNamespaceError: A namespace is not a tuple or list, or a label is empty, not a text, or has a dot or
            a NUL.
        BadRecordError: The value to put is not a dict, or its time to live is not a number of minutes.
        ValueError: A key is not a text, a limit, offset or depth is out of range, a filter or the list of index paths
            is invalid, or the operation is unknown.
    """
    if isinstance(op, SearchOp):
        op = op._replace(
            namespace_prefix=_labels(op.namespace_prefix),
            limit=_whole(_count, "limit", op.limit),
            offset=_whole(_count, "offset", op.offset),
        )
        if op.query is not None and not isinstance(op.query, str):
            raise ValueError(f"The query is {shown(op.query)}: use a text.")
        check_filter(op.filter)
    elif isinstance(op, ListNamespacesOp):
        op = op._replace(
            match_conditions=tuple(_condition(one) for one in op.match_conditions or ()),
            max_depth=None if op.max_depth is None else _whole(_depth, "max_depth", op.max_depth),
            limit=_whole(_count, "limit", op.limit),
            offset=_whole(_count, "offset", op.offset),
        )
    elif isinstance(op, GetOp | PutOp):
        op = op._replace(namespace=_labels(op.namespace))
        if not isinstance(op.key, str):
            raise ValueError(f"The key {shown(op.key)} in {op.namespace} is not a text: use a text.")
        if isinstance(op, PutOp):
            _check_put(op)
    else:
        raise ValueError(f"Unknown operation {type(op).__name__}: use those of langgraph.store.base.")
    validate_op_namespace(op)
    return op


def _check_put(op: PutOp) -> None:
    check_ttl(op)
    if op.value is not None and not isinstance(op.value, Mapping):
        raise BadRecordError(f"The value of {op.key!r} in {op.namespace} is {shown(op.value)}: use a dict.")
    index: Any = op.index
    if index is None or index is False:
        return
    if not isinstance(index, list | tuple) or not all(isinstance(path, str) for path in index):
        raise ValueError(f"The index of {op.key!r} in {op.namespace} is {shown(index)}: use a list of paths or False.")


def _labels(namespace: Any) -> Namespace:
    if not isinstance(namespace, list | tuple):
        raise InvalidNamespaceError(f"The namespace {shown(namespace)} is not a tuple: use a tuple of labels.")
    return tuple(namespace)


def _condition(condition: MatchCondition) -> MatchCondition:
    check_condition(condition)
    # LangGraph's own test suites pass a single label without a tuple.
    path: Any = (condition.path,) if isinstance(condition.path, str) else condition.path
    return MatchCondition(condition.match_type, _labels(path))


def _whole(kind: TypeAdapter[int], name: str, value: Any) -> int:
    try:
        return kind.validate_python(value)
    except ValidationError:
        least = 1 if kind is _depth else 0
        raise ValueError(f"{name} is {shown(value)}: use a whole number from {least} to {LARGEST_COUNT:,}.") from None
