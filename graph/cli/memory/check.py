"""Check of a memory: records that break their bounds, or contradict the catalogue of their world."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from langgraph.store.base import PutOp
from pydantic import ValidationError

from graph.cli.memory.files import RECORDS_AT_ONCE
from graph.cli.memory.select import parts_of
from memory.chroma.layout import StoredRecord
from memory.records import KINDS, Experience, Memory, escape, people_space, private_space
from memory.store import ChromaStore
from nodes.state import Profile, first_fault
from nodes.tools.open_world import load_world, world_folder
from nodes.users.profile import OLD_KIND
from sim.catalogue import Catalogue
from sim.errors import BadInputError


class InvalidRecord(NamedTuple):
    """Record that no visit could have written, with the reason."""

    record: StoredRecord
    why: str


def faults(records: Sequence[StoredRecord]) -> list[InvalidRecord]:
    """Return the records that break the bounds of their kind, or contradict the catalogue about an item.

    Records of an unknown kind belong to other packages and are skipped.
    """
    catalogues: dict[str, Catalogue | None] = {}
    return [InvalidRecord(one, why) for one in records if (why := _fault(one, catalogues))]


def _fault(one: StoredRecord, catalogues: dict[str, Catalogue | None]) -> str | None:
    parts = parts_of(one.namespace)
    try:
        if parts.kind == OLD_KIND:
            Profile.model_validate(one.value)
            return None
        if parts.kind not in KINDS:
            return None
        value = KINDS[parts.kind].model_validate(one.value)
    except ValidationError as error:
        return first_fault(error)
    if len(one.namespace) != 3 or escape(value.user_id) != one.namespace[2]:
        return "the namespace names another user"
    return _against_catalogue(value, parts.space, catalogues)


def _against_catalogue(value: Memory, space: str, catalogues: dict[str, Catalogue | None]) -> str | None:
    """Describe how an experience contradicts the catalogue of its world; None if it agrees or the world is missing."""
    if not isinstance(value, Experience) or not value.item_id:
        return None
    world = space.removeprefix(private_space("")).removeprefix(people_space("")).rpartition(":")[2]
    if world not in catalogues:
        catalogues[world] = _catalogue(world)
    catalogue = catalogues[world]
    if catalogue is None:
        return None
    if value.item_id not in catalogue:
        return f"item_id: the world {world!r} has no such item"
    item = catalogue.item(value.item_id)
    if not item.title.startswith(value.title) or not {*value.genres} <= {*item.genres}:
        return f"title or genres differ from those of the item in the world {world!r}"
    return None


def _catalogue(world: str) -> Catalogue | None:
    try:
        return load_world(world).catalogue if world_folder(world).exists() else None
    except BadInputError:
        # The space is not named after a world.
        return None


def removed(store: ChromaStore, found: Sequence[InvalidRecord]) -> Iterator[int]:
    """Delete the faulty records, and yield the number deleted so far."""
    for start in range(0, len(found), RECORDS_AT_ONCE):
        page = found[start : start + RECORDS_AT_ONCE]
        store.batch([PutOp(one.record.namespace, one.record.key, None) for one in page])
        yield start + len(page)


def described_fault(one: InvalidRecord) -> Mapping[str, object]:
    """Return a fault as JSON."""
    return {**parts_of(one.record.namespace)._asdict(), "key": one.record.key, "why": one.why}
