"""Structured replies: parse a model's text, repair it, ask once more, then use the role's fallback.

No reply of a model may end a visit. Every fault of a reply becomes a `ReplyError` with a one-line message for the
model; after a second fault the role's fallback answers.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import BaseModel, ValidationError

from nodes.llm.endpoint.client import call
from nodes.llm.endpoint.usage import Usage
from nodes.llm.recording import Question, recording
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
    """Raised for a reply that cannot be parsed; the message states the fault in one line."""


@dataclass(frozen=True)
class Reply(Generic[M]):
    """Usable answer with its origin and cost.

    Attributes:
        value: The answer, valid by its schema and the caller's check (a fallback is not checked).
        raw: The last text of the model.
        outcome: "ok" (plain JSON), "repaired" (valid after repair), "asked_again" (the second reply was usable) or
            "fallback".
        fault: Fault of the last unusable reply; "" if every reply was usable.
        usage: Usage of all calls together.
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
    question: Question | None = None,
) -> Reply[M]:
    """Ask a model for an answer, ask again after a faulty reply, and use the fallback after the second fault.

    Args:
        model: Chat model of the role.
        messages: The prompt. The second question repeats it unchanged at its start, so that prefix caches hit; the
            first reply follows as the assistant's, because some servers want user and assistant in turn.
        schema: Schema of the reply.
        check: Function that returns the fault of a parsed value in words (an unknown item, say), or None.
        fallback: Function that returns the value to use after two faults.
        main_field: Field that takes a reply without JSON.
        retried: Failed attempts to call a model in the visit so far.
        question: Whose question this is, for a record of exchanges; None to record nothing.

    Returns:
        The value with its outcome and usage.

    Raises:
        EndpointError: The model's endpoint gives no answer. A fault of an endpoint does not count as a faulty reply.
    """
    usage = Usage()
    prompt = list(messages)
    fault = raw = ""
    for attempt in (1, 2):
        message, spent = await _exchanged(model, prompt, schema, retried + usage.retries, question)
        usage += spent
        # Replace broken Unicode: neither a checkpoint nor a file can store it.
        raw = message.text.encode("utf-8", "replace").decode("utf-8")
        try:
            value, repaired = _parse(raw, schema, main_field)
        except ReplyError as error:
            fault = _one_line(f"{error}; the limit of tokens cut it off" if _cut_off(message) else str(error))
        else:
            new_fault = check(value)
            if new_fault is None:
                outcome: Outcome = "asked_again" if attempt == 2 else "repaired" if repaired else "ok"
                return Reply(value, raw, outcome, fault, usage)
            fault = _one_line(new_fault)
        prompt = [*messages, *_ask_again(raw, fault, schema)]
    return Reply(fallback(), raw, "fallback", fault, usage)


async def _exchanged(
    model: BaseChatModel,
    prompt: Sequence[BaseMessage],
    schema: type[BaseModel],
    retried: int,
    question: Question | None,
) -> tuple[AIMessage, Usage]:
    """Call a model, or take its reply from the record of this process."""
    record = await asyncio.to_thread(recording) if question is not None else None
    if record is None or question is None:
        return await call(model, prompt, schema, retried)
    asked = question.asked(prompt, schema)
    if (found := record.reply(asked)) is not None:
        return found.message(), found.usage
    message, spent = await call(model, prompt, schema, retried)
    # In a thread, because another process may hold the file.
    await asyncio.to_thread(record.add, asked, message, spent, cut_off=_cut_off(message))
    return message, spent


def parse(text: str, schema: type[M], *, main_field: str | None = None) -> M:
    """Parse a reply by a schema, and repair the usual mistakes of models.

    Takes the first valid object: plain, fenced or inside prose, in Python's spelling of JSON, cut off at the end,
    nested under one key, in a list, or as JSON inside a JSON text. Without an object it takes lines such as "Item: X";
    without such lines, and if `main_field` is given, the plain text. Thoughts before the reply do not belong to it.

    Args:
        text: Any text; parsing takes time linear in its length.
        schema: Schema of the reply; other keys are dropped unless the schema allows extra ones.
        main_field: Field that takes a text without any object.

    Raises:
        ReplyError: The text holds no valid value; a number that is not finite is never valid.
    """
    return _parse(text, schema, main_field)[0]


def _ask_again(raw: str, fault: str, schema: type[BaseModel]) -> list[BaseMessage]:
    # One line of JSON without a fence, because a prompt has only one fenced block, that of the facts.
    said = json.dumps({"fault": fault}, ensure_ascii=False)
    # Some servers refuse a message without text.
    answer = without_thinking(readable(raw[:_LONGEST_REPLY])).strip()[:_LONGEST_QUOTED] or "(no answer)"
    question = (
        "Your last answer could not be used. This data says what was wrong; it holds no instructions:\n"
        f"{said}\n"
        f"Answer the request above again, with one JSON object only. Its fields: {_quoted_fields(schema)}."
    )
    return [AIMessage(answer), HumanMessage(question)]


def _cut_off(message: AIMessage) -> bool:
    """Return whether a limit of tokens ended a reply, by the names that providers give this."""
    said = message.response_metadata
    reason = str(said.get("finish_reason") or said.get("stop_reason") or said.get("done_reason") or "")
    return reason.lower() in ("length", "max_tokens")


def _parse(text: str, schema: type[M], main_field: str | None) -> tuple[M, bool]:
    """Return the value and whether the text needed repair."""
    whole = readable(text[:_LONGEST_REPLY]).strip()
    text = without_thinking(whole).strip()
    if not text:
        raise ReplyError("the answer is empty: it holds thoughts alone" if whole else "the answer is empty")
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
    """Return the fields in a text without any object: labelled lines, else the plain text as the main field."""
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
    """Return the names by which the schema validates, for each folded spelling of a field."""
    names: dict[str, str] = {}
    for name, field in schema.model_fields.items():
        alias = field.validation_alias if isinstance(field.validation_alias, str) else field.alias
        target = alias if isinstance(alias, str) else name
        names.setdefault(folded(target), target)
        names.setdefault(folded(name), target)
    return names


def _known_part(candidate: Mapping[str, Any], fields: Mapping[str, str], schema: type[BaseModel]) -> dict[str, Any]:
    """Return the entries of an object that are fields of the schema, under the names of the schema."""
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
        if not any([_repair(data, dict(fault)) for fault in faults]):  # a list, so that every fault is repaired
            break
    said = []
    for fault in faults[:3]:
        where = ".".join(str(part) for part in fault["loc"])
        said.append(f'"{where}" is missing' if fault["type"] == "missing" else f'"{where}": {fault["msg"]}')
    raise ReplyError(_one_line("; ".join(said)))


def _finite(value: M) -> M:
    """Return the value if all its numbers are finite: a NaN or infinite reward would spoil every mean."""
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
    """Replace the faulty value if its meaning is clear; return whether it was replaced."""
    *path, last = fault["loc"] or ("",)
    try:
        for step in path:
            data = data[step]
        given = data[last]
    except (KeyError, IndexError, TypeError):
        return False
    if given is None and isinstance(data, dict):
        del data[last]  # null means "not given"
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
