"""Lenient JSON: objects and values in the text of a model, without a schema.

Every reader tolerates mistakes and takes time linear in the length of the text. No public function raises.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Bounds that keep reading linear: most braces tried as the start of an object, most passes over the text, and most
# levels of nesting.
_MOST_STARTS = 64
_MOST_READINGS = 3
_DEEPEST = 40

_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
# Tags around thoughts: of most reasoning models, of Mistral, of Kimi.
_THINK = re.compile(
    r"<(/?)(?:\w{1,20}:)?(?:think|thinking|thought|thoughts|reasoning)>|\[(/?)THINK\]|◁(/?)think▷", re.IGNORECASE
)
# Channels of gpt-oss, with their special tokens or as the text that is left if a server strips these.
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w{1,20})[^<]{0,100}(?:<\|constrain\|>[^<]{0,100})?<\|message\|>")
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call|start)\|>")
_STRIPPED_CHANNELS = re.compile(r"^\s*(?:analysis|commentary).*assistantfinal", re.DOTALL)
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
# Labels with which models introduce an answer, under any name of the field.
_ANSWER_LABELS = frozenset("item title recommendation answer finalanswer action output response".split())
# Labels that end an answer, although they name no field.
_OTHER_LABELS = frozenset("thought reason reasoning explanation note observation genre genres why confidence".split())


def readable(text: str) -> str:
    """Remove control characters and lone surrogates, because they cannot be stored or shown."""
    return _UNREADABLE.sub("", text)


def folded(name: str) -> str:
    """Return the case-folded letters and digits of a name."""
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def without_thinking(text: str) -> str:
    """Return the text behind the last block of thoughts, or before the blocks if nothing stands behind them.

    Blocks are `<think>` and the like, `[THINK]`, and the channels of gpt-oss. An unclosed block reaches to the end of
    the text, so the result is empty if a text holds thoughts alone.
    """
    channels = list(_CHANNEL.finditer(text))
    if channels:
        final = next((one for one in reversed(channels) if one.group(1) == "final"), None)
        return "" if final is None else _END_OF_MESSAGE.split(text[final.end() :], maxsplit=1)[0]
    if stripped := _STRIPPED_CHANNELS.match(text):
        return text[stripped.end() :]
    kept: list[str] = []
    start, thinking = 0, False
    for tag in _THINK.finditer(text):
        closes = any(tag.groups())
        if closes and not thinking:
            kept.clear()  # some chat templates remove the opening tag
        elif not thinking:
            kept.append(text[start : tag.start()])
        thinking = not closes
        start = tag.end()
    behind = "" if thinking else text[start:]
    return behind if behind.strip() else "".join(kept)


def objects(text: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the objects in a text that are not empty, each before the objects one level inside it.

    The second value says whether the text is that object and nothing else.
    """
    whole = _strict(text)
    if isinstance(whole, str):
        # JSON inside a JSON text.
        text = whole
        whole = None
    if isinstance(whole, dict) and whole:
        if packed := _packed(whole):
            yield _scrubbed(packed), False
        yield _scrubbed(whole), True
    place = starts = read = 0
    while starts < _MOST_STARTS and read <= _MOST_READINGS * len(text) and (opener := _OPENER.search(text, place)):
        starts += 1
        reader = _JsonReader(text, opener.start())
        try:
            value = reader.value(0)
        except _Unreadable:
            place = opener.start() + 1
            continue
        finally:
            read += reader.place - opener.start()
        for found in _inside(value):
            if found:
                yield _scrubbed(found), False
        # An unclosed brace may belong to prose before the real object.
        place = opener.start() + 1 if reader.cut_off else reader.place


def _packed(whole: dict[str, Any]) -> dict[str, Any] | None:
    """Return the object in the only value of an object, if that value is the object's JSON; None otherwise."""
    values = [value for value in whole.values() if isinstance(value, str)]
    packed = _strict(values[0]) if len(whole) == len(values) == 1 and values[0].lstrip().startswith("{") else None
    return packed if isinstance(packed, dict) else None


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


def _scrubbed(part: Any, depth: int = 0) -> Any:
    """Return a value with readable texts: escapes may bring back lone surrogates and control characters."""
    if isinstance(part, str):
        return readable(part)
    if depth > _DEEPEST:
        return None
    if isinstance(part, dict):
        return {readable(key): _scrubbed(inner, depth + 1) for key, inner in part.items()}
    if isinstance(part, list):
        return [_scrubbed(inner, depth + 1) for inner in part]
    return part


def labelled_lines(text: str, fields: Mapping[str, str], main: str | None) -> dict[str, str]:
    """Return the values of lines such as "Item: X"; a value continues until the next label.

    Args:
        text: Text of the model.
        fields: Names of the fields, by their folded spellings.
        main: Field for labels such as "Answer"; None for none.
    """
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in _FENCE.sub("", text).splitlines():
        label = _LABELLED.match(line)
        key = folded(label.group(1)) if label else ""
        name = fields.get(key)
        if name is None and main is not None and key in _ANSWER_LABELS:
            name = main
        if label and name is not None and name not in sections:
            current = sections[name] = [label.group(2)]
        elif label and (name is not None or key in _OTHER_LABELS):
            current = None
        elif current is not None:
            current.append(line)
    values = {name: _unquoted("\n".join(lines)) for name, lines in sections.items()}
    return {name: value for name, value in values.items() if value}


def plain_text(text: str) -> str:
    """Return a text without fence and quotes; for a JSON list of texts, the first text."""
    whole = _strict(text)
    if isinstance(whole, list) and whole and isinstance(whole[0], str):
        text = readable(whole[0])
    return _unquoted(_FENCE.sub("", text))


def _unquoted(text: str) -> str:
    """Remove the quotes, asterisks or backticks around a whole text."""
    text = text.strip()
    for opening, closing in (("**", "**"), ("`", "`"), ('"', '"'), ("“", "”"), ("'", "'"), ("«", "»")):
        if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            text = text if opening in inner else inner.strip()
    return "" if not text.strip("`\"'*") and set(text) & set('`"') else text


def as_text(given: Any) -> str | None:
    """Return the text meant by a value of any type; None if unclear."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    if isinstance(given, list):
        return next((as_text(entry) or None for entry in given), None)
    if isinstance(given, dict):
        named = [given[key] for key in ("title", "name", "item", "text", "value") if isinstance(given.get(key), str)]
        return next(iter(named), None)
    return given if isinstance(given, str) else None


def as_number(given: Any) -> str | None:
    """Return the only number in a short text; "3/5" and "3 out of 5" are 3. None if unclear."""
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    if not isinstance(given, str) or len(given) > 200:
        return None
    rated = _OUT_OF.match(given)
    found = [rated.group(1)] if rated else _NUMBER.findall(given)
    return found[0].replace(",", ".").replace("−", "-") if len(found) == 1 else None


class _Unreadable(Exception):
    """Raised inside this file if the text at a brace is not an object."""


class _JsonReader:
    """Reader of one JSON-like value at a place in a text, in one pass.

    Accepts single and curly quotes, bare keys and words, Python's True and None, trailing commas, comments, unescaped
    inner quotes, and a missing end.
    """

    def __init__(self, text: str, place: int) -> None:
        self.text = text
        self.place = place
        self.cut_off = False

    def value(self, depth: int) -> Any:
        """Read the value at the place, and move the place behind it."""
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
        self.place = _past(_SPACE, self.text, self.place)
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
                    break  # the text ends within or after a key
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
        """Return whether a quote closes the string; an unescaped quote inside it does not."""
        end = _past(_GAP, self.text, place)
        follower = self.text[end : end + 1]
        if follower in ("", ",", ":", "}", "]") or self.text.startswith(("```", "//"), end):
            return True
        return follower in ('"', "'") and "\n" in self.text[place:end]  # the comma is missing

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
        # Keep a number as text: the schema decides whether the field is a number.
        return word


def _past(gap: re.Pattern[str], text: str, place: int) -> int:
    found = gap.match(text, place)
    return found.end() if found else place


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text

    def meant(escape: re.Match[str]) -> str:
        sign = escape.group(1)
        if len(sign) == 5:
            return chr(int(sign[1:], 16))
        return {"n": "\n", "t": "\t", "r": "\r", "b": "", "f": ""}.get(sign, sign)

    # Two escapes may make one character: JSON writes an emoji as a surrogate pair.
    return _ESCAPE.sub(meant, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
