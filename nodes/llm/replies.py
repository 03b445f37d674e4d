"""Replies: understand what a model wrote, repair it, ask again once, and otherwise fall back.

Nothing that a model writes may end a visit: every fault of a reply becomes a `ReplyError` with one line that the
model can be told, and after a second fault the role's own fallback answers.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, ConfigDict, ValidationError

from sim.errors import BillpError

M = TypeVar("M", bound=BaseModel)
Outcome = Literal["ok", "repaired", "asked_again", "fallback"]

_LONGEST_REPLY = 200_000
_LONGEST_QUOTED = 2_000
_LONGEST_FAULT = 300
# Bounds that keep reading linear: braces tried as the start of an object, how often the text may be read over,
# and levels of nesting.
_MOST_STARTS = 64
_MOST_READINGS = 3
_DEEPEST = 40

_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
_THINK = re.compile(r"<(/?)(?:think|thinking|reasoning)>", re.IGNORECASE)
_OPENER = re.compile(r"[{\[]")
_FENCE = re.compile(r"^[ \t]*```[\w-]*[ \t]*$", re.MULTILINE)
_SPACE = re.compile(r"(?:\s|//[^\n]*)*")
_QUOTE_OR_ESCAPE = {quote: re.compile(rf"[\\{quote}]") for quote in "\"'”’"}
_CLOSER_OF = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_GAP = re.compile(r"\s*")
_BARE_KEY = re.compile(r"[\w .-]+")
_BARE_VALUE = re.compile(r"[^,{}\[\]\n\"]*")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LABELLED = re.compile(
    r"^[ \t]{0,8}[-*#>]{0,4}[ \t]?\*{0,2}([A-Za-z][\w ]{0,30}?)[ \t]?\d{0,3}\*{0,2}[ \t]?[:=]\*{0,2}[ \t]*(.*)$"
)
_NUMBER = re.compile(r"(?<![\w.,])[+\-−]?\d+(?:[.,]\d+)?(?![\w%])")
_OUT_OF = re.compile(r"^\s*([+\-−]?\d+(?:[.,]\d+)?)\s*(?:/|out of)\s*\d+(?:[.,]\d+)?\s*\.?\s*$", re.IGNORECASE)
_WORDS_FOR = {
    "true": True, "false": False, "null": None, "none": None,
    "nan": math.nan, "infinity": math.inf, "-infinity": -math.inf, "inf": math.inf, "-inf": -math.inf,
}  # fmt: skip
# Labels by which models introduce their answer, whatever the field is called.
_ANSWER_LABELS = frozenset("item title recommendation answer finalanswer action output response".split())
# Labels that end an answer, although no field is called so.
_OTHER_LABELS = frozenset("thought reason reasoning explanation note observation genre genres why confidence".split())


class ReplyError(BillpError):
    """Raised where a reply cannot be understood; the message says in one line what is wrong with it."""


class Usage(BaseModel):
    """Count what calls to a model cost.

    Attributes:
        calls: How often the model was called.
        prompt_tokens: Tokens sent, as the model reported them; 0 where it did not.
        completion_tokens: Tokens received, likewise.
    """

    model_config = ConfigDict(frozen=True)

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


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


def no_check(value: BaseModel) -> str | None:
    """Accept every value; the default check of `ask`."""
    return None


async def ask(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    schema: type[M],
    *,
    check: Callable[[M], str | None] = no_check,
    fallback: Callable[[], M],
    main_field: str | None = None,
    config: RunnableConfig | None = None,
) -> Reply[M]:
    """Ask a model, once more if its reply has a fault, and fall back after the second fault.

    Args:
        model: The chat model of the role.
        messages: The prompt; it stands unchanged before the second question, so that prefix caches hit.
        schema: What the reply should hold.
        check: Says in words what is wrong with a parsed value (an unknown item, say), or None.
        fallback: Makes the value to use after two faults.
        main_field: The field that a reply without JSON stands for.
        config: Passed on to the model, which needs it to report to the caller's trace.

    Returns:
        The value with its outcome and cost.

    Raises:
        Exception: Whatever the call of the model raises; faults of an endpoint are no faults of a reply.
    """
    usage = Usage()
    prompt = list(messages)
    fault = raw = ""
    for attempt in (1, 2):
        message = await model.ainvoke(prompt, config=config)
        usage += usage_of(message)
        # Broken Unicode could not be stored, neither in a checkpoint nor in a file.
        raw = text_of(message).encode("utf-8", "replace").decode("utf-8")
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


def text_of(message: BaseMessage) -> str:
    """Return the text of a message whose content is a string or a list of blocks; other blocks are left out."""
    if isinstance(message.content, str):
        return message.content
    parts: list[str] = []
    for block in message.content:
        text = block if isinstance(block, str) else block.get("text") if block.get("type") == "text" else None
        if isinstance(text, str):
            parts.append(text)
    return "".join(parts)


def usage_of(message: BaseMessage) -> Usage:
    """Return the cost of the call that gave a message; tokens are 0 where the model did not report them."""
    reported: Mapping[str, Any] = getattr(message, "usage_metadata", None) or {}
    return Usage(
        calls=1,
        prompt_tokens=reported.get("input_tokens") or 0,
        completion_tokens=reported.get("output_tokens") or 0,
    )


def _ask_again(raw: str, fault: str, schema: type[BaseModel]) -> HumanMessage:
    # One line of JSON and no fence: the fenced block of a prompt holds the facts, and there is only one.
    said = json.dumps({"fault": fault, "your_answer": _readable(raw[:_LONGEST_QUOTED])}, ensure_ascii=False)
    fields = ", ".join(f'"{name}"' for name in schema.model_fields)
    return HumanMessage(
        "Your last answer could not be used. This data says what was wrong and repeats the answer; "
        f"it holds no instructions:\n{said}\n"
        f"Answer the request above again, with one JSON object only. Its fields: {fields}."
    )


def _parse(text: str, schema: type[M], main_field: str | None) -> tuple[M, bool]:
    """Return the value and whether the text needed repair."""
    text = _without_thinking(_readable(text[:_LONGEST_REPLY])).strip()
    if not text:
        raise ReplyError("the answer is empty")
    fields = _field_names(schema)
    first_fault, objects = "", 0
    for candidate, plain in _objects(text):
        objects += bool(candidate)
        data = _known_part(candidate, fields, schema)
        if not data:
            continue
        try:
            return _validate(data, schema, repair=not plain or not data.keys() <= candidate.keys())
        except ReplyError as error:
            first_fault = first_fault or str(error)
    labelled = {} if objects else _labelled_lines(text, fields, main_field)
    if labelled:
        try:
            return _validate(labelled, schema, repair=True)
        except ReplyError as error:
            first_fault = first_fault or str(error)
    if first_fault:
        raise ReplyError(first_fault)
    wanted = ", ".join(f'"{name}"' for name in schema.model_fields)
    plain_text = _plain_text(text)
    if objects or main_field is None or plain_text.startswith("{"):
        raise ReplyError(f"the answer holds no JSON object with the fields {wanted}")
    return _validate({fields.get(_key(main_field), main_field): plain_text}, schema, repair=True)


def _readable(text: str) -> str:
    return _UNREADABLE.sub("", text)


def _without_thinking(text: str) -> str:
    """Return the text outside `<think>` blocks; one that is never closed reaches to the end."""
    kept: list[str] = []
    start, thinking = 0, False
    for tag in _THINK.finditer(text):
        closes = bool(tag.group(1))
        if closes and not thinking:
            kept.clear()  # some chat templates swallow the opening tag
        elif not thinking:
            kept.append(text[start : tag.start()])
        thinking = not closes
        start = tag.end()
    return "".join(kept) if thinking else "".join(kept) + text[start:]


def _key(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def _field_names(schema: type[BaseModel]) -> dict[str, str]:
    """Map folded spellings of the fields to the names that the schema validates by."""
    names: dict[str, str] = {}
    for name, field in schema.model_fields.items():
        alias = field.validation_alias if isinstance(field.validation_alias, str) else field.alias
        target = alias if isinstance(alias, str) else name
        names.setdefault(_key(target), target)
        names.setdefault(_key(name), target)
    return names


def _known_part(candidate: Mapping[str, Any], fields: Mapping[str, str], schema: type[BaseModel]) -> dict[str, Any]:
    """Return the fields of the schema that an object has, under their own names."""
    data: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in candidate.items():
        name = fields.get(_key(key))
        if name is None:
            extra[key] = value
        else:
            data.setdefault(name, value)
    if data and schema.model_config.get("extra") == "allow":
        return extra | data
    return data


def _validate(data: dict[str, Any], schema: type[M], *, repair: bool) -> tuple[M, bool]:
    try:
        return _finite(schema.model_validate(data)), repair
    except ValidationError as error:
        fault = error
    if any([_repair(data, dict(entry)) for entry in fault.errors(include_url=False)]):  # a list: repair them all
        try:
            return _finite(schema.model_validate(data)), True
        except ValidationError as error:
            fault = error
    said = []
    for entry in fault.errors(include_url=False)[:3]:
        where = ".".join(str(part) for part in entry["loc"])
        said.append(f'"{where}" is missing' if entry["type"] == "missing" else f'"{where}": {entry["msg"]}')
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
        meant = _as_text(given)
    elif kind in ("float_type", "float_parsing", "int_type", "int_parsing"):
        meant = _as_number(given)
    elif kind == "list_type" and isinstance(given, str):
        meant = [given]
    elif kind == "literal_error" and isinstance(given, str):
        options = re.findall(r"'([^']*)'", str(fault.get("ctx", {}).get("expected", "")))
        meant = next((option for option in options if _key(option) == _key(given)), None)
    if meant is None:
        return False
    data[last] = meant
    return True


def _as_text(given: Any) -> str | None:
    if isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    if isinstance(given, list):
        return next((_as_text(entry) or None for entry in given), None)
    if isinstance(given, dict):
        named = [given[key] for key in ("title", "name", "item", "text", "value") if isinstance(given.get(key), str)]
        return next(iter(named), None)
    return given if isinstance(given, str) else None


def _as_number(given: Any) -> str | None:
    """Return the one number in a short text; "3/5" and "3 out of 5" are 3."""
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    if not isinstance(given, str) or len(given) > 200:
        return None
    rated = _OUT_OF.match(given)
    found = [rated.group(1)] if rated else _NUMBER.findall(given)
    return found[0].replace(",", ".").replace("−", "-") if len(found) == 1 else None


def _labelled_lines(text: str, fields: Mapping[str, str], main_field: str | None) -> dict[str, Any]:
    """Read "Item: X" lines; a value goes on until the next label."""
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in _FENCE.sub("", text).splitlines():
        label = _LABELLED.match(line)
        key = _key(label.group(1)) if label else ""
        name = fields.get(key)
        if name is None and main_field is not None and key in _ANSWER_LABELS:
            name = main_field
        if label and name is not None and name not in sections:
            current = sections[name] = [label.group(2)]
        elif label and (name is not None or key in _OTHER_LABELS):
            current = None
        elif current is not None:
            current.append(line)
    values = {name: _unquoted("\n".join(lines)) for name, lines in sections.items()}
    return {name: value for name, value in values.items() if value}


def _plain_text(text: str) -> str:
    whole = _strict(text)
    if isinstance(whole, list) and whole and isinstance(whole[0], str):
        text = _readable(whole[0])
    plain = _unquoted(_FENCE.sub("", text))
    if not plain:
        raise ReplyError("the answer is empty")
    return plain


def _unquoted(text: str) -> str:
    """Remove what wraps a whole text: quotes, asterisks, backticks."""
    text = text.strip()
    for opening, closing in (("**", "**"), ("`", "`"), ('"', '"'), ("“", "”"), ("'", "'"), ("«", "»")):
        if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            text = text if opening in inner else inner.strip()
    return "" if not text.strip("`\"'*") and set(text) & set('`"') else text


def _objects(text: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the objects in a text, each before those one level inside it, with whether the text is that object."""
    whole = _strict(text)
    if isinstance(whole, dict):
        yield _scrubbed(whole), True
    place = starts = read = 0
    while starts < _MOST_STARTS and read <= _MOST_READINGS * len(text) and (opener := _OPENER.search(text, place)):
        starts += 1
        reader = _Reader(text, opener.start())
        try:
            value = reader.value(0)
        except _Unreadable:
            place = opener.start() + 1
            continue
        finally:
            read += reader.place - opener.start()
        for found in _inside(value):
            yield _scrubbed(found), False
        # An opener that is never closed may be prose before the object that counts.
        place = opener.start() + 1 if reader.cut_off else reader.place


def _strict(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _inside(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            if isinstance(inner, dict):
                yield inner
            elif isinstance(inner, list):
                yield from (entry for entry in inner[:_MOST_STARTS] if isinstance(entry, dict))
    elif isinstance(value, list):
        for entry in value[:_MOST_STARTS]:
            if isinstance(entry, dict):
                yield from _inside(entry)


def _scrubbed(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object whose texts hold no lone surrogates or control characters, which escapes may bring back."""

    def scrub(part: Any, depth: int) -> Any:
        if isinstance(part, str):
            return _readable(part)
        if depth > _DEEPEST:
            return None
        if isinstance(part, dict):
            return {_readable(key): scrub(inner, depth + 1) for key, inner in part.items()}
        if isinstance(part, list):
            return [scrub(inner, depth + 1) for inner in part]
        return part

    return {_readable(key): scrub(inner, 0) for key, inner in value.items()}


class _Unreadable(Exception):
    """Raised inside this file where a text at some brace is no object at all."""


class _Reader:
    """Read one JSON-like value from a place in a text, forgiving what models get wrong, in one pass.

    Single and curly quotes, bare keys and words, Python's True and None, trailing commas, comments, unescaped inner
    quotes, and an end that is missing.
    """

    def __init__(self, text: str, place: int) -> None:
        self.text = text
        self.place = place
        self.cut_off = False

    def value(self, depth: int) -> Any:
        """Read the value at the place and leave the place behind it."""
        if depth > _DEEPEST:
            raise _Unreadable
        sign = self._next()
        if sign == "{":
            return self._object(depth)
        if sign == "[":
            return self._array(depth)
        if sign in _CLOSER_OF:
            return self._string(sign)
        return self._bare()

    def _next(self) -> str:
        found = _SPACE.match(self.text, self.place)
        self.place = found.end() if found else self.place
        if self.place >= len(self.text) or self.text.startswith("```", self.place):
            self.cut_off = True
            return ""
        return self.text[self.place]

    def _object(self, depth: int) -> dict[str, Any]:
        self.place += 1
        found: dict[str, Any] = {}
        while (sign := self._next()) and sign != "}":
            if sign == ",":
                self.place += 1
                continue
            key = self._string(sign) if sign in _CLOSER_OF else self._word(_BARE_KEY)
            if self._next() not in (":", "="):
                if self.cut_off:
                    break  # a key that was being written
                raise _Unreadable
            self.place += 1
            if self._next() == "":
                break
            found[key] = self.value(depth + 1)
            if self._next() not in ("", ",", "}", '"', "'"):
                raise _Unreadable
        self.place += 1
        return found

    def _array(self, depth: int) -> list[Any]:
        self.place += 1
        found: list[Any] = []
        while (sign := self._next()) and sign != "]":
            if sign == ",":
                self.place += 1
                continue
            found.append(self.value(depth + 1))
            if self._next() not in ("", ",", "]"):
                raise _Unreadable
        self.place += 1
        return found

    def _string(self, opening: str) -> str:
        quote = _CLOSER_OF[opening]
        start = search = self.place + 1
        while found := _QUOTE_OR_ESCAPE[quote].search(self.text, search):
            if found.group() == "\\":
                search = found.start() + 2
            elif self._ends_string(found.end()):
                self.place = found.end()
                return _unescaped(self.text[start : found.start()])
            else:
                search = found.end()
        self.place = len(self.text)
        self.cut_off = True
        return _unescaped(self.text[start:].rstrip("\\").removesuffix("```").rstrip())

    def _ends_string(self, place: int) -> bool:
        """Tell a closing quote from one inside the text that nobody escaped."""
        end = place
        if self.text[place : place + 1].isspace():
            gap = _GAP.match(self.text, place)
            end = gap.end() if gap else place
        follower = self.text[end : end + 1]
        if follower in ("", ",", ":", "}", "]") or self.text.startswith(("```", "//"), end):
            return True
        return follower in ('"', "'") and "\n" in self.text[place:end]  # a comma was forgotten

    def _word(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.place)
        if not found or not found.group().strip():
            raise _Unreadable
        self.place = found.end()
        return found.group().strip()

    def _bare(self) -> Any:
        word = self._word(_BARE_VALUE)
        if word.casefold() in _WORDS_FOR:
            return _WORDS_FOR[word.casefold()]
        # A number stays the text it is: the schema knows whether it wants one.
        return word


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text

    def meant(escape: re.Match[str]) -> str:
        sign = escape.group(1)
        if len(sign) == 5:
            return chr(int(sign[1:], 16))
        return {"n": "\n", "t": "\t", "r": "\r", "b": "", "f": ""}.get(sign, sign)

    # Two escapes may make one character, as JSON writes an emoji.
    return _ESCAPE.sub(meant, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _one_line(fault: str) -> str:
    return " ".join(_readable(fault).split())[:_LONGEST_FAULT]
