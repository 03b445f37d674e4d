"""Selection of a memory and of its records, for `billp memory`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from langgraph.store.base import SearchItem

from graph.server.memory import ServerMemory
from graph.variants import known_kinds
from memory.chroma.layout import StoredRecord
from memory.lessons import MergedLesson, merge_lessons, stored_by_space
from memory.records import escape, unescape
from memory.search.filters import Namespace
from memory.store import ChromaStore, configured, open_configured, open_copy, open_to_read
from nodes.users.profile import OLD_KIND, profile_of
from sim.errors import BadInputError


def checked_kind(kind: str | None) -> str | None:
    """Return a valid kind of records; None for all kinds.

    Raises:
        BadInputError: The kind is unknown.
    """
    if kind is not None and kind not in (known := known_kinds()):
        raise BadInputError(f"there is no kind of memory {kind[:80]!r}: choose among {', '.join(known)}")
    return kind


Readable = ChromaStore | ServerMemory


class NamespaceParts(NamedTuple):
    """Parts of a namespace; empty if missing."""

    kind: str
    space: str
    user: str


class RecordFilter(NamedTuple):
    """Filter of records; None matches all."""

    kind: str | None = None
    space: str | None = None
    user: str | None = None

    def means(self, namespace: Namespace) -> bool:
        """Return whether the filter matches a namespace."""
        return all(wanted in (None, part) for wanted, part in zip(self, parts_of(namespace), strict=True))

    def records(self, store: Readable) -> list[StoredRecord]:
        """Return the matching records, by namespace and key."""
        return [record for record in store.records(self._prefix) if self.means(record.namespace)]

    def prefixes(self, store: Readable) -> set[Namespace]:
        """Return the namespace prefixes that cover exactly the selected records."""
        depth = max((number for number, part in enumerate(self, 1) if part is not None), default=0)
        if len(self._prefix) == depth:
            return {self._prefix}
        return {record.namespace[:depth] for record in self.records(store)}

    @property
    def _prefix(self) -> Namespace:
        return tuple(escape(part) for part in takewhile(lambda part: part is not None, self) if part is not None)


def parts_of(namespace: Namespace) -> NamespaceParts:
    """Split a namespace into its parts."""
    kind, space, user, *_ = (*map(unescape, namespace[:3]), "", "")
    return NamespaceParts(kind, space, user)


@contextmanager
def memory_to_read(run: str, cell: str, server: str) -> Iterator[Readable]:
    """Open a memory for reading: through a server if its URL is given, else as `readable_memory`.

    Raises:
        BadInputError: A server and a study are given.
    """
    if server and (run or cell):
        raise BadInputError("--run and --cell read files of a study in this home: leave out --server")
    if server:
        yield ServerMemory(server)
        return
    with readable_memory(run, cell) as store:
        yield store


@contextmanager
def readable_memory(run: str, cell: str) -> Iterator[ChromaStore]:
    """Open a memory for reading: of a cell of a study, or the one configured in the environment.

    A missing memory reads as empty and is not created.

    Raises:
        BadInputError: The run or cell is missing.
        BadStoreError: The memory cannot be opened.
    """
    if run:
        with open_copy(memory_of_cell(run, cell)) as store:
            yield store
        return
    if cell:
        raise BadInputError("--cell needs a study: name it with --run")
    with open_to_read() as store:
        yield store


@contextmanager
def writable_memory() -> Iterator[ChromaStore]:
    """Open the memory configured in the environment, created if missing."""
    with open_configured(configured()) as store:
        yield store


def memory_of_cell(run: str, cell: str) -> Path:
    """Return the folder of a cell's memory in a finished study.

    Raises:
        BadInputError: The run or cell is missing.
    """
    # Imported here because it loads all modules of a study.
    from graph.study.run import run_folder

    folder = run_folder(run) / "memory"
    cells = sorted(one.name for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []
    if not cells:
        raise BadInputError(f"there is no finished run {run!r} with a memory in {folder}: name another with --run")
    if not cell and len(cells) == 1:
        return folder / cells[0]
    if cell not in cells:
        which = f"there is no cell {cell[:80]!r}" if cell else "--cell is missing"
        raise BadInputError(f"{which}: the run {run!r} has {', '.join(cells)}")
    return folder / cell


def counted(records: Iterable[StoredRecord]) -> dict[Namespace, int]:
    """Return the number of records of each namespace, by namespace."""
    return dict(sorted(Counter(record.namespace for record in records).items()))


def by_kind(counts: Mapping[Namespace, int]) -> dict[str, int]:
    """Return the number of records of each kind."""
    kinds: Counter[str] = Counter()
    for namespace, count in counts.items():
        kinds[parts_of(namespace).kind] += count
    return dict(kinds)


class Lessons(NamedTuple):
    """Lessons of a space that count."""

    space: str
    lessons: list[MergedLesson]


def lessons_by_space(records: Iterable[StoredRecord]) -> tuple[list[Lessons], int]:
    """Return the lessons of each space that count, and the number of records that are not lessons."""
    spaces, foreign = stored_by_space(records)
    return [Lessons(space, merge_lessons(lessons)) for space, lessons in spaces.items()], foreign


def profiles(statements: Sequence[StoredRecord]) -> list[StoredRecord]:
    """Return each person's profile, derived from their statements, in the form of a record."""
    by_person: dict[Namespace, list[StoredRecord]] = {}
    for one in statements:
        by_person.setdefault(one.namespace, []).append(one)
    return [
        replace(
            max(said, key=lambda one: one.updated_at),
            namespace=(OLD_KIND, *namespace[1:]),
            key=OLD_KIND,
            text=profile_of(said).model_dump_json(),
        )
        for namespace, said in by_person.items()
    ]


def newest_first(records: Iterable[StoredRecord]) -> list[StoredRecord]:
    """Return records by time of last change, the latest first; then by namespace and key."""
    return sorted(records, key=lambda one: (-one.updated_at.timestamp(), one.place))


def found(store: Readable, wanted: RecordFilter, query: str, limit: int) -> list[SearchItem]:
    """Return the selected records most similar to a text, the most similar first."""
    items = [
        item
        for prefix in wanted.prefixes(store)
        for item in store.search(prefix, query=query, limit=limit, refresh_ttl=False)
    ]
    scored = [item for item in items if item.score is not None]
    return sorted(scored, key=lambda item: (-(item.score or 0.0), item.namespace, item.key))[:limit]


def described(item: SearchItem | StoredRecord) -> dict[str, Any]:
    """Return a record as JSON."""
    parts = parts_of(item.namespace)
    return {
        **parts._asdict(),
        "namespace": list(item.namespace),
        "key": item.key,
        "value": item.value,
        "created_at": item.created_at.isoformat(),
        "updated_at": item.updated_at.isoformat(),
    }
