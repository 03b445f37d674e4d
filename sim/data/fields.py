"""Fields of a record as people write them: ids, numbers, times, years, genres and titles."""

import html
import json
import math
import re
from ast import literal_eval
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from sim.plain_text import field_text

# Texts by which programs write a missing value. "Null" and "none" as written by people stay titles.
PLACEHOLDERS = frozenset(
    {"", "\\N", "nan", "NaN", "NAN", "None", "null", "NULL", "NA", "N/A", "n/a", "<NA>", "NaT", "(no genres listed)"}
)
GENRE_SEPARATORS = ("|", ";", ",")
# Keys under which lists of objects hold a genre's name, such as TMDB's.
_NAME_KEYS = ("name", "title", "label", "description", "genre")
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")
_DECIMAL_COMMA = re.compile(r"\s*-?\d+,\d{1,2}\s*")
# NumPy writes lists without commas.
_NUMPY_LIST = re.compile(r"""\[(?:'[^']*'|"[^"]*")(?:\s+(?:'[^']*'|"[^"]*"))+\]""")
# Scripts of a page instead of a title, as Amazon's metadata of 2018 has them. A function of a script has a body, unlike
# the title "Form and Function (2012)".
_PAGE_SCRIPT = re.compile(
    r"<script|</?(?:div|span|style)\b|getTime\(|\bfunction\s*\w*\s*\([^(){}]*\)\s*\{|^\s*var \w+\s*=", re.IGNORECASE
)


class Malformed(Exception):
    """Error for a single unusable record; the reader counts it by its reason and continues.

    Args:
        reason: The fault as a noun phrase, such as "no number in 'rating'".
        value: The value at fault.
    """

    def __init__(self, reason: str = "no usable record", value: object = None) -> None:
        super().__init__(reason)
        self.reason, self.value = reason, value


def is_missing(value: object) -> bool:
    """Return whether a value stands for a missing one: None, NaN, an empty text or a placeholder."""
    if isinstance(value, str):
        return value in PLACEHOLDERS or value.strip() in PLACEHOLDERS
    return value is None or value != value


def id_text(value: object, column: str, read_as: Counter[str]) -> str:
    """Return an id as text; a whole float is the number that it equals.

    Args:
        value: The id.
        column: Name of its column.
        read_as: Counts the values that were read as others.

    Raises:
        Malformed: The value is no valid id.
    """
    if isinstance(value, str) and value.isalnum() and value not in PLACEHOLDERS:
        # Most ids; a world has two for each of millions of rows.
        return value
    if isinstance(value, float) and value.is_integer():
        value = f"{value:.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or is_missing(value):
        raise Malformed(f"no id in {column!r}", value)
    text = value.strip()
    if text.endswith("0") and (whole := _WHOLE_FLOAT.fullmatch(text)):
        read_as["ids that are whole floats (1.0 as 1)"] += 1
        return whole[1]
    if not text.isprintable():
        raise Malformed(f"control characters in the id in {column!r}", value)
    return text


def number(value: Any, column: str = "number", read_as: Counter[str] | None = None) -> float:
    """Return a field of a record as a number.

    Args:
        value: The field.
        column: Name of its column.
        read_as: Counts decimal commas, which are read; if None, a comma is a fault.

    Raises:
        Malformed: The field is not a number.
    """
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        if read_as is None or not isinstance(value, str) or not _DECIMAL_COMMA.fullmatch(value):
            raise Malformed(f"no number in {column!r}", value) from error
        read_as[f"decimal commas in {column!r}"] += 1
        found = float(value.replace(",", "."))
    if not math.isfinite(found):
        raise Malformed(f"no number in {column!r}", value)
    return found


def seconds(value: Any, column: str, read_as: Counter[str]) -> float:
    """Return a time as a number that orders times: a number itself, or the seconds of an ISO date, UTC without a zone.

    A missing time counts as 0, earlier than all others.

    Raises:
        Malformed: The field is neither a number nor an ISO date.
    """
    try:
        if math.isfinite(found := float(value)):
            return found
    except (TypeError, ValueError, OverflowError):
        pass
    if is_missing(value):
        read_as[f"empty times in {column!r} (earlier than all others)"] += 1
        return 0
    try:
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError as error:
        raise Malformed(f"no number and no ISO date (such as 2015-03-31) in {column!r}", value) from error
    try:
        # Without a zone, the clock of this machine would decide.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise Malformed(f"a date out of range in {column!r}", value) from error


def year_of(value: Any) -> float | None:
    """Return the year of a number, of a date, or of a text that begins with a year; None if there is none."""
    if isinstance(value, date):
        return value.year
    found = re.match(r"\s*(\d{4})(?:\.0*|[-/]\d\d?.*|\s*)$", str(value))
    return float(found[1]) if found else None


def title_text(value: object, column: str = "title") -> str:
    """Return a title on one line, without HTML entities and control characters.

    Raises:
        Malformed: There is no title, or a script of a page in its place.
    """
    if not isinstance(value, str) or is_missing(value) or not (title := field_text(value)):
        raise Malformed(f"no title in {column!r}", value)
    if _PAGE_SCRIPT.search(title):
        raise Malformed(f"a page's script instead of a title in {column!r}", value)
    return title


def genre_names(value: Any, separator: str = "|", column: str = "genres") -> list[str]:
    """Return the genres of a field in any of the usual forms; placeholders are none.

    The forms are texts with a separator, numbers, lists (also as JSON or as Python writes them), lists of objects with
    a `name`, and maps: their keys with a true value, or their values if these are texts.

    Raises:
        Malformed: The field has another form.
    """
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        value = _literal(value.strip(), column)
    if isinstance(value, str):
        # The `;` of `&amp;` separates nothing.
        names: list[Any] = html.unescape(value).split(separator)
    elif is_missing(value):
        names = []
    elif isinstance(value, int | float):
        # A column of Parquet may hold years, or numbers of kinds.
        names = [f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)]
    elif isinstance(value, Mapping):
        names = _of_map(value)
    elif isinstance(value, list | tuple):
        # Parquet's maps are lists of pairs.
        pairs = value and all(isinstance(one, tuple) and len(one) == 2 for one in value)
        names = _of_map(dict(value)) if pairs else [_of_object(one, column) for one in value]
    else:
        raise Malformed(f"no genres in {column!r}", value)
    return [name for one in names if not is_missing(one) and (name := field_text(str(one)))]


def _of_map(value: Mapping[Any, Any]) -> list[Any]:
    for key in _NAME_KEYS:
        if isinstance(value.get(key), str):
            return [value[key]]
    texts = [one for one in value.values() if isinstance(one, str)]
    return texts or [key for key, weight in value.items() if weight and not is_missing(weight)]


def _of_object(value: Any, column: str) -> Any:
    if isinstance(value, Mapping):
        return next(iter(_of_map(value)), None)
    if isinstance(value, list | tuple):
        raise Malformed(f"lists within lists in {column!r}", value)
    return value


def _literal(text: str, column: str) -> Any:
    if _NUMPY_LIST.fullmatch(text):
        # Python would join these strings to one.
        return [single or double for single, double in re.findall(r"""'([^']*)'|"([^"]*)\"""", text)]
    for parse in (json.loads, literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(found, list | dict):
            return found
    # Some tables have names in brackets without quotation marks.
    inner = text[1:-1] if text.endswith("]") else ""
    if not inner or re.search(r"[\[\]{}\"']", inner):
        raise Malformed(f"no list of genres in {column!r}", text)
    return inner.split(",")
