"""Refusal of a person's answer in plain words: what is wrong with it, and what can be sent instead."""

from typing import Any

from pydantic import BaseModel, ValidationError

from sim.errors import BadInputError
from sim.near_names import unknown_name

FORMS_OF_ANSWERS = (
    'one of {"rating": 1-5}, {"skip": true}, {"leave": true}, {"seen": true}, {"never": true}; '
    '"comment", "profile" and "plan" (an order for the next round) may be added, and "rating" to "seen"'
)
"""Forms of an answer, as a question tells them."""
# What a value of JSON is called; every other value is called by its class.
_CALLED = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
MOST_SHOWN_VALUE = 60


class BadAnswerError(BadInputError):
    """Raised for an answer that cannot be used. The question stays open."""


def bad_answer(error: ValidationError, schema: type[BaseModel]) -> BadAnswerError:
    """Return the error for an answer that does not have the form of `schema`."""
    fault = _fault(error, schema)
    refusal = BadAnswerError(f"{fault}{' Send' if fault.endswith('?') else ': send'} {FORMS_OF_ANSWERS}")
    # LangGraph marks the error, so that a node of tools leaves the question open instead of telling a model.
    vars(refusal).update(vars(error))
    return refusal


def _fault(error: ValidationError, schema: type[BaseModel]) -> str:
    """Describe the first fault of an answer."""
    fault = error.errors(include_url=False)[0]
    kind, given, bounds = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "model_type":
        return f"an answer is a mapping, and this is {_called(given)}"
    if kind in ("extra_forbidden", "invalid_key"):
        return unknown_name(fault["loc"][0], schema.model_fields, "part of an answer")
    if kind == "value_error":
        return "an answer says exactly one thing of the item"
    name = fault["loc"][0]
    if kind == "string_too_long":
        return f"{name} has {len(given):,} characters, and at most {bounds['max_length']:,} are kept"
    wanted = {"bool_type": "true", "string_type": "a text"}.get(kind, "a number from 1 to 5")
    return f"{name} is {wanted}, and this is {_called(given)}"


def _called(value: Any) -> str:
    """Return what kind of value was sent, with the value itself if it is short."""
    if value is None:
        return "nothing"
    shown = f" ({str(value)[:MOST_SHOWN_VALUE]!r})" if isinstance(value, str) else f" ({value})"
    called = _CALLED.get(type(value), type(value).__name__)
    return called + (shown if isinstance(value, str | float | int) and not isinstance(value, bool) else "")
