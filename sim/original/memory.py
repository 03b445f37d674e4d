"""Memories of the original BiLLP: its Actor's and Critic's entries, keyed by the titles of a situation."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from sim.catalogue import Catalogue, Item
from sim.errors import BadInputError

MAX_BYTES = 256 * 2**20
MAX_ENTRIES = 1_000_000
MAX_TITLES = 200
MAX_COMMAS = 20
"""Largest number of commas in a title."""
LARGEST_V = 5.0
_HISTORY = re.compile(r"The user viewing history is \[(.*)\]", re.DOTALL)


def _number(value: object) -> object:
    # The original stored the number as text, as its Critic wrote it.
    return value.strip() if isinstance(value, str) else value


Sign = Literal[-1, 1]
EntryValue = Annotated[float, BeforeValidator(_number), Field(ge=-LARGEST_V, le=LARGEST_V, allow_inf_nan=False)]
Key = Annotated[str, Field(max_length=20_000)]
EntryTitle = Annotated[str, Field(min_length=1, max_length=500)]
_ACTOR = TypeAdapter(dict[Key, dict[EntryTitle, Sign]])
_CRITIC = TypeAdapter(dict[Key, EntryValue])
_ANY: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])


class Tried(NamedTuple):
    """Entry of the Actor's memory: an item recommended in a situation, and its sign."""

    history: str
    """Titles of the situation as stored, separated by commas."""
    title: str
    sign: int
    """1 if V did not fall after the item, else -1."""


class Judged(NamedTuple):
    """Entry of the Critic's memory: the value of a situation."""

    history: str
    value: float


def read_memory(path: Path) -> list[Tried] | list[Judged]:
    """Read a memory of the original, of the Actor or of the Critic; the content shows which.

    Raises:
        BadInputError: The file is too large or empty, or an entry cannot be used.
        OSError: The file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise BadInputError(f"{path} is larger than {MAX_BYTES:,} bytes; give a memory of the original")
    content = path.read_bytes()
    try:
        entries = _ANY.validate_json(content)
        if not 0 < len(entries) <= MAX_ENTRIES:
            raise BadInputError(f"{path} has {len(entries):,} entries; give a memory with 1 to {MAX_ENTRIES:,}")
        if any(isinstance(value, dict) for value in entries.values()):
            actor = _ACTOR.validate_json(content)
            return [
                Tried(_history(path, key), title, sign) for key, tried in actor.items() for title, sign in tried.items()
            ]
        return [Judged(_history(path, key), value) for key, value in _CRITIC.validate_json(content).items()]
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = f" ({str(fault['loc'][0])[:80]!r})" if fault["loc"] else ""
        raise BadInputError(f"{path} is not a memory of the original: {fault['msg']}{where}") from error


def _history(path: Path, key: str) -> str:
    found = _HISTORY.fullmatch(key)
    if found is None:
        raise BadInputError(
            f"{path}: {key[:80]!r} is not a situation; write 'The user viewing history is [title,title]'"
        )
    return found[1]


def titles(history: str, catalogue: Catalogue | None) -> list[str]:
    """Return the titles of a situation.

    They are separated by commas, and titles contain commas too. From the left, the longest title in the catalogue is
    taken each time.

    Raises:
        BadInputError: There are too many titles.
    """
    parts = history.split(",")
    if len(parts) > MAX_TITLES:
        raise BadInputError(
            f"a situation has {len(parts)} titles ({history[:60]!r} …): at most {MAX_TITLES} are allowed"
        )
    return list(_titles(parts, catalogue))


def _titles(parts: list[str], catalogue: Catalogue | None) -> Iterator[str]:
    start = 0
    while start < len(parts):
        ends = range(min(len(parts), start + 1 + MAX_COMMAS), start, -1) if catalogue is not None else ()
        end = next((end for end in ends if catalogue and catalogue.by_title(",".join(parts[start:end]))), start + 1)
        title = ",".join(parts[start:end]).strip()
        if title:
            yield title
        start = end


def item_titled(title: str, catalogue: Catalogue | None) -> Item | None:
    """Return the only item with this title; None if there is none, or more than one."""
    found = catalogue.by_title(title) if catalogue is not None else ()
    return found[0] if len(found) == 1 else None
