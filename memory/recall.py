"""Recall for a role: the user's own records first, then other users', most similar situations first."""

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from langgraph.store.base import BaseStore, PutOp, SearchItem, get_text_at_path, tokenize_path
from pydantic import ValidationError

from memory.access import whole_store
from memory.lessons import MergedLesson, StoredLesson, merge_lessons
from memory.records import Experience, Lesson, Memory, Record, Value, escape, namespace

T = TypeVar("T", bound=Memory)
_log = logging.getLogger(__name__)
_warned: WeakKeyDictionary[BaseStore, set[tuple[str, ...]]] = WeakKeyDictionary()

# Similarity (cosine) added to a lesson for each doubling of the visits that taught it.
SUPPORT_BONUS = 0.02
# Records fetched beyond the number asked for, since some may be duplicates.
SPARE = 4
# Largest number of namespaces of a store to warn about, once each.
MOST_WARNINGS = 1_000
# Lessons to fetch, once a visit. Many have the same text or were replaced, and their number is their support.
LESSON_POOL = 1000


@dataclass(frozen=True)
class Recalled(Generic[T]):
    """A recalled record."""

    record: T
    similarity: float
    """Cosine similarity between its text and the current situation."""
    own: bool = False
    """Whether it comes from an earlier visit of the same user."""
    support: int = 1
    """Number of visits that a lesson stands for: those with the same text, and those whose lessons it replaced."""
    length: float = 0.0
    """Mean number of rounds of those visits. Lessons only."""
    keys: tuple[str, ...] = ()
    """Keys of the records: its own, and those of lessons with the same text."""
    namespace: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecallScope:
    """Records that one visit may recall: its user's own and those of shared spaces, but none of the visit itself."""

    space: str
    """Space of the user's own records."""
    user_id: str
    visit: str
    """Id of the current visit, which never recalls its own records."""
    shared: tuple[str, ...] = ()
    """Spaces in which the records of all users may be recalled. Empty for own records only."""
    own: bool = True
    """Whether the user's records of earlier visits may be recalled."""
    copied_from: str = ""
    """Id of the visit that this one continues as a copy. The visit's own records include those of the original."""

    def hides(self, visit: str) -> bool:
        """Return whether the records of a visit are hidden, as those of the current visit are."""
        return visit in (self.visit, self.copied_from)

    def left_out(self, space: str) -> str | None:
        """Return the user to exclude from a shared space: this one in their own space, else None.

        In other spaces the same id belongs to another user.
        """
        return self.user_id if space == self.space else None


async def recall_lessons(store: BaseStore, scope: RecallScope, situation: str, k: int) -> list[Recalled[Lesson]]:
    """Return at most `k` distinct lessons for a situation, without replaced ones. Lessons of many visits rank higher.

    Examples:
        Bob's visit recalls a lesson that Ann's visit wrote:

        >>> import asyncio
        >>> from memory.records import record
        >>> from memory.store import ChromaStore
        >>> lesson = Lesson(
        ...     visit="1", user_id="ann", situation="Alien", text="Vary the genres.", length=9, total_reward=36.0
        ... )
        >>> scope = RecallScope(space="films", user_id="bob", visit="2", shared=("films",))
        >>> async def recall_of_bob():
        ...     async with ChromaStore() as store:
        ...         await remember(store, "films", [record(lesson, 9)])
        ...         return await recall_lessons(store, scope, "Alien, Aliens", k=2)
        >>> [(one.record.text, one.own, one.support) for one in asyncio.run(recall_of_bob())]
        [('Vary the genres.', False, 1)]
    """
    pool = await recall(store, Lesson, scope, situation, LESSON_POOL) if k else []
    by_place = {(one.namespace, one.keys[0]): one for one in pool}
    counting = merge_lessons(StoredLesson(*place, one.record) for place, one in by_place.items())

    def rank(one: Recalled[Lesson]) -> tuple[bool, float, str]:
        return (not one.own, -one.similarity - SUPPORT_BONUS * math.log2(one.support), one.record.text)

    return sorted((_as_recalled(one, by_place) for one in counting), key=rank)[:k]


def _as_recalled(
    lesson: MergedLesson, by_place: Mapping[tuple[tuple[str, ...], str], Recalled[Lesson]]
) -> Recalled[Lesson]:
    """Return a lesson that counts as its nearest record; it is the user's own if it stands for an own one."""
    same = [by_place[one.namespace, one.key] for one in lesson.records]
    replaced = [by_place[one.namespace, one.key] for one in lesson.replaced]
    return replace(
        max(same, key=lambda one: (one.own, one.similarity)),
        own=any(one.own for one in (*same, *replaced)),
        support=lesson.support,
        length=lesson.length,
        # A server and a folder list equally near records in orders of their own.
        keys=tuple(sorted(one.key for one in lesson.records)),
    )


async def recall_experiences(
    store: BaseStore, scope: RecallScope, situation: str, k: int
) -> list[Recalled[Experience]]:
    """Return at most `k` experiences of the most similar situations, one for each distinct situation and item."""
    pool = await recall(store, Experience, scope, situation, k + SPARE) if k else []
    return _distinct(pool, [f"{one.record.situation}\n{one.record.title}" for one in pool])[:k]


async def recall_values(store: BaseStore, scope: RecallScope, situation: str, k: int) -> list[Recalled[Value]]:
    """Return at most `k` values of the most similar situations, one for each distinct situation."""
    pool = await recall(store, Value, scope, situation, k + SPARE) if k else []
    return _distinct(pool, [one.record.situation for one in pool])[:k]


def _distinct(pool: list[Recalled[T]], texts: list[str]) -> list[Recalled[T]]:
    first: dict[str, Recalled[T]] = {}
    for one, text in zip(pool, texts, strict=True):
        first.setdefault(text, one)
    return list(first.values())


async def recall(store: BaseStore, model: type[T], scope: RecallScope, situation: str, k: int) -> list[Recalled[T]]:
    """Return the `k` memories of a class nearest to a situation, the user's own before those of others."""
    kind = model.model_fields["kind"].default
    found: list[Recalled[T]] = []
    if scope.own:
        mine = namespace(kind, scope.space, scope.user_id)
        found = [replace(one, own=True) for one in await _search(store, mine, model, scope, situation, k)]
    if scope.shared and len(found) < k:
        others = [
            one
            for space in scope.shared
            for one in await _search(
                store, (kind, escape(space)), model, scope, situation, k - len(found), but=scope.left_out(space)
            )
        ]
        # The sort is stable: equal scores keep the order of the spaces.
        found += sorted(others, key=lambda one: -one.similarity)[: k - len(found)]
    return found


async def _search(
    store: BaseStore,
    prefix: tuple[str, ...],
    model: type[T],
    scope: RecallScope,
    situation: str,
    k: int,
    but: str | None = None,
) -> list[Recalled[T]]:
    """Return the `k` records nearest to a situation, without those of the current visit and of the user `but`."""
    limit = 2 * k if but else k
    while True:
        items = await store.asearch(prefix, query=situation, limit=limit)
        inside = below(prefix, items)
        valid = [one for item in inside if (one := _valid(item, model)) is not None]
        if len(valid) < len(inside):
            warn_once(store, prefix)
        found = [one for one in valid if not scope.hides(one.record.visit) and one.record.user_id != but]
        if len(found) >= k or len(items) < limit:
            return found[:k]
        # Excluded records filled the page: fetch more.
        limit *= 2


def below(prefix: tuple[str, ...], items: Iterable[SearchItem]) -> list[SearchItem]:
    """Return the items whose namespaces begin with the labels of a prefix.

    Some releases of LangGraph's SQLite and PostgreSQL stores compare prefixes as text: a search below the user `1` also
    finds the records of the user `10`.
    """
    return [item for item in items if item.namespace[: len(prefix)] == prefix]


def _valid(item: SearchItem, model: type[T]) -> Recalled[T] | None:
    """Return an item as a record. None if it is invalid."""
    try:
        record = model.model_validate(item.value)
        return Recalled(record, round(item.score or 0.0, 4), keys=(item.key,), namespace=item.namespace)
    except ValidationError:
        return None


def warn_once(store: BaseStore, prefix: tuple[str, ...]) -> None:
    """Warn once that records below a prefix were skipped."""
    warned = _warned.setdefault(whole_store(store), set())
    if prefix not in warned and len(warned) < MOST_WARNINGS:
        warned.add(prefix)
        _log.warning(
            "Skipped invalid records below %s: run `billp memory check` to list them.",
            "/".join(prefix),
        )


async def remember(store: BaseStore, space: str, records: Iterable[Record]) -> None:
    """Write records, each under its own key. A repeated write changes only the expiry time, if there is one."""
    # An operation sets its own time to live; only `put` applies the store's default.
    ops = write_ops(space, list(records), (store.ttl_config or {}).get("default_ttl"))
    # Our store joins concurrent writes, so several batches cost no more than one.
    await asyncio.gather(*(store.abatch(batch) for batch in _without_equal_texts(ops)))


def _without_equal_texts(ops: Iterable[PutOp]) -> list[list[PutOp]]:
    """Return writes as batches in which no indexed text occurs twice, as LangGraph's `InMemoryStore` demands."""
    batches: list[tuple[list[PutOp], set[str]]] = []
    for op in ops:
        # The same text in another field of the record adds nothing to a search.
        index: list[str] = []
        own: set[str] = set()
        for path in op.index or []:
            texts = get_text_at_path(op.value, tokenize_path(path))
            if not own.issuperset(texts):
                index.append(path)
                own.update(texts)
        batch, seen = next((one for one in batches if one[1].isdisjoint(own)), ([], set()))
        if not batch:
            batches.append((batch, seen))
        batch.append(op._replace(index=index))
        seen |= own
    return [batch for batch, _ in batches]


def write_ops(space: str, records: Sequence[Record], ttl: float | None = None) -> list[PutOp]:
    """Return the store operations that write `records` with a time to live of `ttl` minutes, None for ever."""
    return [
        PutOp(
            namespace(one.value.kind, space, one.value.user_id),
            one.key,
            one.value.model_dump(),
            index=list(one.value.indexed),
            ttl=ttl,
        )
        for one in records
    ]
