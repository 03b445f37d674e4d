"""Profile of a person: one record for each statement, and the profile made from all statements.

Two visits of one person at the same time cannot overwrite each other's statements, because each visit writes its own
records. `billp memory` exports and deletes them one by one.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from langgraph.store.base import BaseStore, PutOp, SearchItem
from pydantic import ValidationError

from memory.recall import below, warn_once
from memory.records import MAX_TITLE, Record, Statement, escape, namespace, record
from nodes.state import MAX_STEPS, Profile, first_fault
from nodes.tools.wish_text import commented, own_words
from nodes.visit_memory import VisitMemory
from sim.catalogue import Catalogue, Item
from sim.errors import BadInputError
from sim.world.world import ASSUMED_RATING

# Most characters of the text of a profile; the oldest lines are dropped first.
MAX_PROFILE = 2_000
# Most statements of one round; their numbers give the order in which they apply.
ROUND_STATEMENTS = 10
# Records read at a time.
STATEMENTS_AT_ONCE = 500
_log = logging.getLogger(__name__)
OLD_KIND, OLD_KEY = "profiles", "profile"
"""Kind and key of the single record in which versions before 0.2 kept a whole profile."""


class _Draft:
    """Profile in the making, changed in place: a person may have thousands of statements."""

    def __init__(self, profile: Profile) -> None:
        self.ratings = dict(profile.ratings)
        self.had, self.seen, self.never = (dict.fromkeys(ids) for ids in (profile.had, profile.seen, profile.never))
        self.skipped = dict(profile.skipped)
        self._lines = dict.fromkeys(profile.text.splitlines())
        self._length = len("\n".join(self._lines))

    def add(self, words: str) -> None:
        """Add a wish or comment as the last line; the oldest lines are dropped if the text becomes too long."""
        if line := one_line(words):
            self.remove(line)
            self._length += len(line) + bool(self._lines)
            self._lines[line] = None
        while self._length > MAX_PROFILE:
            self.remove(next(iter(self._lines)))

    def remove(self, line: str) -> None:
        """Remove a line, if the text has it."""
        if line in self._lines:
            del self._lines[line]
            self._length -= len(line) + bool(self._lines)

    def state(self, one: Statement) -> None:
        """Apply a statement."""
        ids = dict.fromkeys(one.item_ids)
        if one.said == "liked":
            self.ratings |= {item_id: ASSUMED_RATING for item_id in ids if item_id not in self.ratings}
        elif one.rating is not None:
            self.ratings.update(dict.fromkeys(ids, one.rating))
        if one.said in ("liked", "rating", "seen"):
            self.had.update(ids)
        if one.said == "seen":
            self.seen.update(ids)
        elif one.said == "never":
            self.never.update(ids)
        elif one.said == "skip":
            self.skipped.update({item_id: min(self.skipped.get(item_id, 0) + 1, MAX_STEPS) for item_id in ids})
        for line in one.removed.splitlines():
            # Corrections stored before titles stood beside comments name the words alone.
            for kept in [line] if line in self._lines else [kept for kept in self._lines if own_words(kept) == line]:
                self.remove(kept)
        for line in one.text.splitlines():
            self.add(commented(line, one.title) if one.said == "comment" else line)

    def finished(self, profile: Profile) -> Profile:
        """Return the profile, with the other fields of another one."""
        text = "\n".join(self._lines)
        lists = {name: list(getattr(self, name)) for name in ("had", "seen", "never")}
        return profile.model_copy(update={"ratings": self.ratings, "skipped": self.skipped, "text": text, **lists})


def one_line(words: str) -> str:
    """Return the words with single spaces between them."""
    return " ".join(words.split())


def stated(profile: Profile, records: Iterable[Record]) -> Profile:
    """Return the profile after the statements of the records, in their order.

    A rating replaces an earlier rating of the same item. A title that the person brought counts as liked until it is
    rated. A correction removes and adds lines, so that lines added meanwhile by another visit stay. The text keeps the
    latest lines, at most `MAX_PROFILE` characters, and no line twice.
    """
    draft = _Draft(profile)
    for one in records:
        if isinstance(one.value, Statement):
            draft.state(one.value)
    return draft.finished(profile)


def greeting(memory: VisitMemory, wishes: str, liked: Iterable[Item]) -> list[Record]:
    """Return the statements at the start of a visit: the wishes, and the titles that the person likes."""
    said: list[Record] = []
    if words := one_line(wishes):
        said.append(memory.record(Statement, 0, number=0, said="wish", text=words))
    if item_ids := [item.id for item in liked]:
        said.append(memory.record(Statement, 1, number=1, said="liked", item_ids=item_ids))
    return said


def check_greeting(said: Iterable[Record], catalogue: Catalogue) -> None:
    """Check the statements that a state keeps until the first answer.

    Raises:
        BadInputError: One of them is not as `greeting` makes it; somebody edited the state.
    """
    for one in said:
        if not isinstance(one.value, Statement) or one.value.said not in ("wish", "liked"):
            raise BadInputError("said: a visit starts with wishes and liked titles alone: remove the other statements")
        if unknown := next((item_id for item_id in one.value.item_ids if item_id not in catalogue), None):
            raise BadInputError(f"said: the catalogue has no item {unknown[:80]!r}: remove it")


def statements(memory: VisitMemory, round_number: int, item: Item, answer: Any, profile: Profile) -> list[Record]:
    """Return the statements of an answer, one record each.

    Args:
        memory: The visit's memory.
        round_number: Number of the round, from 0.
        item: The item that the person was asked about.
        answer: The answer (`nodes.users.person.Answer`).
        profile: The profile shown to the person; a correction changes this text.
    """
    about: dict[str, Any] = {"item_ids": [item.id], "title": item.title[:MAX_TITLE]}
    answered = next(name for name in ("seen", "never", "skip", "leave", "rating") if getattr(answer, name))
    found: list[dict[str, Any]] = [{"said": answered, "rating": answer.rating, **about}]
    if answer.profile is not None:
        before, after = profile.text.splitlines(), [one_line(line) for line in answer.profile.splitlines()]
        removed = [line for line in before if line not in after]
        added = [line for line in after if line and line not in before]
        found.append({"said": "correction", "removed": "\n".join(removed), "text": "\n".join(added)})
    if words := one_line(answer.comment):
        found.append({"said": "comment", "text": words, **about})
    first = (round_number + 1) * ROUND_STATEMENTS
    return [memory.record(Statement, first + place, number=first + place, **one) for place, one in enumerate(found)]


async def stored_profile(memory: VisitMemory) -> Profile:
    """Return the profile from the stored statements of former visits; empty if there are none."""
    if memory.store is None:
        return Profile()
    await _take_over(memory)
    prefix = namespace("statements", memory.scope.space, memory.scope.user_id)
    items: list[SearchItem] = []
    while page := await memory.store.asearch(prefix, limit=STATEMENTS_AT_ONCE, offset=len(items)):
        items += page
        if len(page) < STATEMENTS_AT_ONCE:
            break
    inside = below(prefix, items)
    # In a thread: the event loop serves others while all that a person ever said is read.
    said = await asyncio.to_thread(_in_order, inside)
    if len(said) < len(inside):
        warn_once(memory.store, prefix)
    return await asyncio.to_thread(stated, Profile(), said)


class Said(Protocol):
    """Stored record, as returned by a store or its tools."""

    @property
    def key(self) -> str:
        """Key of the record."""
        ...

    @property
    def value(self) -> dict[str, Any]:
        """Value of the record."""
        ...

    @property
    def created_at(self) -> datetime:
        """Time of the first write."""
        ...


def profile_of(items: Iterable[Said]) -> Profile:
    """Return the profile from the stored statements of a person, in the order in which the person made them."""
    return stated(Profile(), _in_order(items))


def _in_order(items: Iterable[Said]) -> list[Record]:
    """Return the statements of stored records in the order in which they were made, without damaged ones."""
    found = []
    for item in items:
        try:
            said = Statement.model_validate(item.value)
        except ValidationError:
            # The record stays in the store, and `billp memory check` lists it.
            continue
        found.append((item.created_at, said.visit, said.number, Record(key=item.key, value=said)))
    return [said for *_, said in sorted(found, key=lambda one: one[:3])]


async def _take_over(memory: VisitMemory) -> None:
    """Replace a profile stored as one record by its statements; set it aside if it is damaged."""
    if memory.store is None:
        return
    place = (OLD_KIND, escape(memory.scope.space), escape(memory.scope.user_id))
    old = await memory.store.aget(place, OLD_KEY)
    if old is None:
        return
    try:
        profile = Profile.model_validate(old.value)
    except ValidationError as error:
        await _set_aside(memory.store, place, old.value, first_fault(error))
        return
    said: list[dict[str, Any]] = [{"said": "wish", "text": profile.text}] if profile.text else []
    said += [{"said": "rating", "item_ids": [item_id], "rating": rating} for item_id, rating in profile.ratings.items()]
    of_profile = {"visit": OLD_KEY, "user_id": memory.scope.user_id}
    await memory.write([record(Statement(**of_profile, number=place, **one), place) for place, one in enumerate(said)])
    await memory.store.abatch([PutOp(place, OLD_KEY, None)])


async def _set_aside(store: BaseStore, place: tuple[str, ...], value: dict[str, Any], fault: str) -> None:
    """Move a damaged profile to a key of its own, where no visit reads it and nothing overwrites it."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
    key = f"damaged-{digest[:12]}"
    # The copy is written before the original is deleted.
    await store.aput(place, key, value, index=False)
    await store.abatch([PutOp(place, OLD_KEY, None)])
    _log.warning(
        "The stored profile of %r is damaged (%s): set aside as %s; `billp memory export` has it.",
        place[-1],
        fault,
        key,
    )
