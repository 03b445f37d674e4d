"""Changes in a store since an earlier read, for an index that follows the records below a prefix."""

import asyncio
import weakref
from abc import abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from langgraph.store.base import BaseStore, SearchItem

from memory.access import ScopedStore
from memory.recall import below
from memory.search.filters import Namespace, Place

RECORDS_A_PAGE = 2_000
"""Records read at a time from a store that tells no changes; the event loop runs between two pages."""


class StoredChange(NamedTuple):
    """A new, replaced or refreshed record."""

    place: Place
    value: dict[str, Any]
    """Its value, not to be changed."""
    until: datetime | None
    """Expiry time. None if it never expires, or if the store does not tell."""


@dataclass(frozen=True)
class Mark:
    """Point up to which a reader knows the records below a prefix of one store. For `read_changes` alone."""

    prefix: Namespace
    state: object


@dataclass(frozen=True)
class Changes:
    """Changes since a mark. No record is in both lists."""

    written: list[StoredChange]
    """Records that are new, replaced, or have another expiry time; all records if `whole`."""
    gone: list[Place]
    """Places of the deleted records, some of which the reader may never have seen. Empty if `whole`."""
    whole: bool
    """Whether the reader must forget all that it knew."""
    mark: Mark | None
    """Mark for the next read."""


class FollowedStore(BaseStore):
    """A store that tells what changed."""

    @abstractmethod
    async def changes(self, prefix: Namespace, mark: Mark | None) -> Changes:
        """Return the changes below `prefix`; see `read_changes`."""


async def read_changes(store: BaseStore, prefix: Namespace, mark: Mark | None) -> Changes:
    """Return the changes of the records below a prefix since `mark`. No time to live is refreshed.

    All records are returned, as `whole`, at the first read, of another store or after the store was reopened, if too
    much has changed, and if a Chroma server has lost its data.

    With `ChromaStore` each write, replacement, refreshed time to live and deletion is told, at a cost in proportion to
    what changed. On a server this holds for writes of clients whose clocks differ by less than 30 seconds; if they
    differ more, new and deleted records are told still. An expired record is told as deleted only when a sweep deletes
    it: until then the reader compares `until` with the current time.

    Any other store is read whole if its number of records has changed, and otherwise nothing is told: there a replaced
    record is noticed with the next change of the number.

    Args:
        store: The store.
        prefix: Labels with which the namespaces begin.
        mark: Mark of the last read. None for all records.

    Raises:
        AccessDeniedError: The account of a `ScopedStore` may not read all records below the prefix.
        StoreError: Chroma failed. The mark stays valid.

    Examples:
        Follow the records of a space:

        >>> import asyncio
        >>> from memory.store import ChromaStore
        >>> async def follow():
        ...     async with ChromaStore() as store:
        ...         await store.aput(("facts", "ann"), "tea", {"text": "likes tea"})
        ...         first = await read_changes(store, ("facts",), None)
        ...         await store.aput(("facts", "bob"), "chess", {"text": "plays chess"})
        ...         await store.adelete(("facts", "ann"), "tea")
        ...         return first, await read_changes(store, ("facts",), first.mark)
        >>> first, then = asyncio.run(follow())
        >>> first.whole, [one.place for one in first.written], first.gone
        (True, [(('facts', 'ann'), 'tea')], [])
        >>> then.whole, [one.value for one in then.written], then.gone
        (False, [{'text': 'plays chess'}], [(('facts', 'ann'), 'tea')])
    """
    if isinstance(store, ScopedStore):
        return await read_changes(store.whole_below(prefix), prefix, mark)
    known = mark if mark and mark.prefix == prefix else None
    if isinstance(store, FollowedStore):
        return await store.changes(prefix, known)
    return await _changes_by_number(store, prefix, known)


class _Counted(NamedTuple):
    """State of the mark of a store that tells no changes."""

    store: "weakref.ref[BaseStore]"
    records: int


async def _changes_by_number(store: BaseStore, prefix: Namespace, mark: Mark | None) -> Changes:
    known = mark.state if mark else None
    if isinstance(known, _Counted) and known.store() is store and await _has_number(store, prefix, known.records):
        return Changes([], [], False, mark)
    # By place, since a record written between two pages moves another one to the next page.
    items: dict[Place, SearchItem] = {}
    offset, more = 0, True
    while more:
        page = await store.asearch(prefix, limit=RECORDS_A_PAGE, offset=offset, refresh_ttl=False)
        items |= {(item.namespace, item.key): item for item in page}
        offset, more = offset + len(page), len(page) == RECORDS_A_PAGE
        await asyncio.sleep(0)
    written = [StoredChange((item.namespace, item.key), item.value, None) for item in below(prefix, items.values())]
    return Changes(written, [], True, Mark(prefix, _Counted(weakref.ref(store), len(items))))


async def _has_number(store: BaseStore, prefix: Namespace, records: int) -> bool:
    """Return whether a number of records is below a prefix, by reading the last of them."""
    around = await store.asearch(prefix, limit=2, offset=max(0, records - 1), refresh_ttl=False)
    return len(around) == min(records, 1)
