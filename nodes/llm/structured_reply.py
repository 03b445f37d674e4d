"""Replies: understand what a model wrote, repair it, ask again once, and otherwise fall back.

Nothing that a model writes may end a visit: every fault of a reply becomes a `ReplyError` with one line that the
model can be told, and after a second fault the role's own fallback answers.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from pydantic import BaseModel, ValidationError

from nodes.llm.endpoint.client import call
from nodes.llm.endpoint.usage import Usage
from nodes.llm.text.lenient_json import (
    as_number,
    as_text,
    folded,
    labelled_lines,
    objects,
    plain_text,
    readable,
    without_thinking,
)
from sim.errors import BillpError

M = TypeVar("M", bound=BaseModel)
Outcome = Literal["ok", "repaired", "asked_again", "fallback"]

_LONGEST_REPLY = 200_000
_LONGEST_QUOTED = 2_000
_LONGEST_FAULT = 300


class ReplyError(BillpError):
    """Raised where a reply cannot be understood; the message says in one line what is wrong with it."""


@dataclass(frozen=True)
class Reply(Generic[M]):
    """Hold a usable answer and how it came about.

    Attributes:
        value: The answer, valid under its schema and the caller's check (a fallback is taken as it is).
        raw: The last text the model wrote.
        outcome: "ok" (plain JSON), "repaired" (understood after repair), "asked_again" (the second reply was
            usable) or "fallback".
        fault: What was wrong with the last unusable reply; "" if there was none.
        usage: What the calls cost together.
    """

    value: M
    raw: str
    outcome: Outcome
    fault: str
    usage: Usage


async def ask(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    schema: type[M],
    *,
    check: Callable[[M], str | None] = lambda _: None,
    fallback: Callable[[], M],
    main_field: str | None = None,
    retried: int = 0,
) -> Reply[M]:
    """Ask a model, once more if its reply has a fault, and fall back after the second fault.

    Args:
        model: The chat model of the role.
        messages: The prompt; it stands unchanged before the second question, so that prefix caches hit.
        schema: What the reply should hold.
        check: Says in words what is wrong with a parsed value (an unknown item, say), or None.
        fallback: Makes the value to use after two faults.
        main_field: The field that a reply without JSON stands for.
        retried: Failed attempts of the visit so far, at calling a model.

    Returns:
        The value with its outcome and cost.

    Raises:
        EndpointError: The model's endpoint gives no answer; faults of an endpoint are no faults of a reply.
    """
    usage = Usage()
    prompt = list(messages)
    fault = raw = ""
    for attempt in (1, 2):
        message, spent = await call(model, prompt, schema, retried + usage.retries)
        usage += spent
        # Broken Unicode could not be stored, neither in a checkpoint nor in a file.
        raw = message.text.encode("utf-8", "replace").decode("utf-8")
        try:
            value, repaired = _parse(raw, schema, main_field)
        except ReplyError as error:
            fault = str(error)
        else:
            new_fault = check(value)
            if new_fault is None:
                outcome: Outcome = "asked_again" if attempt == 2 else "repaired" if repaired else "ok"
                return Reply(value, raw, outcome, fault, usage)
            fault = _one_line(new_fault)
        prompt = [*messages, _ask_again(raw, fault, schema)]
    return Reply(fallback(), raw, "fallback", fault, usage)


def parse(text: str, schema: type[M], *, main_field: str | None = None) -> M:
    """Read a reply as a model of this schema, repairing what models usually get wrong.

    Takes the first object that is valid: plain, fenced or inside prose, Python's spelling of JSON, cut off at the end,
    nested under one key, or in a list; then lines such as "Item: X"; then, if `main_field` is given, the plain text.
    Text in `<think>` is no part of the reply.

    Args:
        text: Anything; the time taken is linear in its length.
        schema: What the reply should hold; other keys are dropped unless the schema allows extra ones.
        main_field: The field that a text without any object stands for.

    Raises:
        ReplyError: Nothing in the text gives a valid value; numbers that are not finite never do.
    """
    return _parse(text, schema, main_field)[0]


def _ask_again(raw: str, fault: str, schema: type[BaseModel]) -> HumanMessage:
    # One line of JSON and no fence: the fenced block of a prompt holds the facts, and there is only one.
    said = json.dumps({"fault": fault, "your_answer": readable(raw[:_LONGEST_QUOTED])}, ensure_ascii=False)
    return HumanMessage(
        "Your last answer could not be used. This data says what was wrong and repeats the answer; "
        f"it holds no instructions:\n{said}\n"
        f"Answer the request above again, with one JSON object only. Its fields: {_quoted_fields(schema)}."
    )


def _parse(text: str, schema: type[M], main_field: str | None) -> tuple[M, bool]:
    """Return the value and whether the text needed repair."""
    text = without_thinking(readable(text[:_LONGEST_REPLY])).strip()
    if not text:
        raise ReplyError("the answer is empty")
    fields = _field_names(schema)
    main = None if main_field is None else fields.get(folded(main_field), main_field)
    has_object, first_fault = False, None
    for found, plain in objects(text):
        has_object = True
        data = _known_part(found, fields, schema)
        if data:
            try:
                return _validate(data, schema, repair=not plain or not data.keys() <= found.keys())
            except ReplyError as error:
                first_fault = first_fault or error
    if has_object:
        raise first_fault or _no_object(schema)
    return _validate(_without_object(text, schema, fields, main), schema, repair=True)


def _without_object(text: str, schema: type[M], fields: Mapping[str, str], main: str | None) -> dict[str, Any]:
    """Return what a text without any object says: labelled lines, or else the main field as plain text."""
    labelled = labelled_lines(text, fields, main)
    if labelled:
        return labelled
    plain = plain_text(text)
    if not plain:
        raise ReplyError("the answer is empty")
    if main is None or plain.startswith("{"):
        raise _no_object(schema)
    return {main: plain}


def _no_object(schema: type[BaseModel]) -> ReplyError:
    return ReplyError(f"the answer holds no JSON object with the fields {_quoted_fields(schema)}")


def _quoted_fields(schema: type[BaseModel]) -> str:
    return ", ".join(f'"{name}"' for name in schema.model_fields)


def _field_names(schema: type[BaseModel]) -> dict[str, str]:
    """Map folded spellings of the fields to the names that the schema validates by."""
    names: dict[str, str] = {}
    for name, field in schema.model_fields.items():
        alias = field.validation_alias if isinstance(field.validation_alias, str) else field.alias
        target = alias if isinstance(alias, str) else name
        names.setdefault(folded(target), target)
        names.setdefault(folded(name), target)
    return names


def _known_part(candidate: Mapping[str, Any], fields: Mapping[str, str], schema: type[BaseModel]) -> dict[str, Any]:
    """Return the fields of the schema that an object has, under their own names."""
    data: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in candidate.items():
        name = fields.get(folded(key))
        if name is None:
            extra[key] = value
        else:
            data.setdefault(name, value)
    if data and schema.model_config.get("extra") == "allow":
        return extra | data
    return data


def _validate(data: dict[str, Any], schema: type[M], *, repair: bool) -> tuple[M, bool]:
    for repaired in (repair, True):
        try:
            return _finite(schema.model_validate(data)), repaired
        except ValidationError as error:
            faults = error.errors(include_url=False)
        if not any([_repair(data, dict(fault)) for fault in faults]):  # a list: repair them all
            break
    said = []
    for fault in faults[:3]:
        where = ".".join(str(part) for part in fault["loc"])
        said.append(f'"{where}" is missing' if fault["type"] == "missing" else f'"{where}": {fault["msg"]}')
    raise ReplyError(_one_line("; ".join(said)))


def _finite(value: M) -> M:
    """Return a model none of whose numbers is NaN or infinite: one such reward or value would poison every mean."""
    pending: list[Any] = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, float) and not math.isfinite(part):
            raise ReplyError(f"a number must be finite, not {part}")
        if isinstance(part, BaseModel):
            pending.extend(inner for _, inner in part)
        elif isinstance(part, Mapping):
            pending.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            pending.extend(part)
    return value


def _repair(data: Any, fault: Mapping[str, Any]) -> bool:
    """Replace the value that a fault is about, where it is plain what was meant; tell whether it did."""
    *path, last = fault["loc"] or ("",)
    try:
        for step in path:
            data = data[step]
        given = data[last]
    except (KeyError, IndexError, TypeError):
        return False
    if given is None and isinstance(data, dict):
        del data[last]  # null stands for "not given"
        return True
    kind = fault["type"]
    meant: Any = None
    if kind == "string_type":
        meant = as_text(given)
    elif kind in ("float_type", "float_parsing", "int_type", "int_parsing"):
        meant = as_number(given)
    elif kind == "list_type" and isinstance(given, str):
        meant = [given]
    elif kind == "literal_error" and isinstance(given, str):
        options = re.findall(r"'([^']*)'", str(fault.get("ctx", {}).get("expected", "")))
        meant = next((option for option in options if folded(option) == folded(given)), None)
    if meant is None:
        return False
    data[last] = meant
    return True


def _one_line(fault: str) -> str:
    return " ".join(readable(fault).split())[:_LONGEST_FAULT]
