"""Remove what is remembered of a user, and say where else something of them is kept."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from langgraph.store.base import PutOp
from pydantic import ValidationError

from graph.cli.memory.files import Progress
from graph.cli.memory.select import RecordFilter, readable_memory
from graph.local_run import VISIT_FILE, LocalVisit
from memory.chroma.layout import ImportedRecord, StoredRecord
from memory.home import home
from memory.store import ChromaStore, configured
from sim.atomic_files import atomic_folder
from sim.errors import BillpError

PAGE = 200
WRITTEN_AT_ONCE = 2_000
LOOKED_AT = 1_000
"""Records that the search looks at which proves that nothing is left."""


def forget(records: Sequence[StoredRecord], store: ChromaStore, progress: Progress) -> None:
    """Remove records from the memory that the environment names.

    Chroma keeps what it was told to delete in its files until it has written a few hundred other records, some of it
    for longer. So a folder is written anew without the records, and takes the place of the former one when it is
    whole. A process of its own writes it, which never had what is to be forgotten: Chroma leaves bits of its process's
    memory in its files. From a server the records are deleted; its files are its own.

    Args:
        records: What is to be removed.
        store: The memory, which holds them.
        progress: Is told how many records are done.
    """
    where = configured()
    if "://" in where:
        # What has expired is found no more, but lies there until it is swept.
        store.sweep_ttl()
        for start in range(0, len(records), PAGE):
            page = records[start : start + PAGE]
            store.batch([PutOp(one.namespace, one.key, None) for one in page])
            progress(start + len(page))
        return
    gone = {one.place for one in records}
    rest = [one for one in store.records() if one.place not in gone]
    with atomic_folder(Path(where)) as fresh, ProcessPoolExecutor(1, get_context("spawn")) as writer:
        # At least one page, or an empty memory would be no memory.
        for start in range(0, max(1, len(rest)), WRITTEN_AT_ONCE):
            page = rest[start : start + WRITTEN_AT_ONCE]
            kept = [one.kept(vectors) for one, vectors in zip(page, store.vectors(page), strict=True)]
            writer.submit(_restore, fresh, kept).result()
            progress(start + len(page))


def _restore(folder: Path, kept: Sequence[ImportedRecord]) -> None:
    with ChromaStore(folder) as store:
        store.restore(kept)


def check_forgotten(user: str, space: str | None, others: int) -> None:
    """Open the memory again and look whether all of a user is gone, and nothing else.

    A process of its own does, for opening writes as well, and this one has had what is forgotten.

    Args:
        user: Who was to be forgotten.
        space: In which space; None for all.
        others: Records that were to stay.

    Raises:
        BillpError: Something is left, or something else is gone.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as another:
        left, here = another.submit(_looked, RecordFilter(None, space, user)).result()
    if left:
        raise BillpError(f"something of user {user!r} is there again: somebody writes it; stop them, and try once more")
    if here < others:
        raise BillpError(f"{others - here} records of others are gone too: if nobody deleted them, restore a copy")


def _looked(wanted: RecordFilter) -> tuple[int, int]:
    """Return how often something is found that is meant, and how many records there are."""
    with readable_memory("", "") as store:
        left = len(wanted.records(store))
        # As recall looks: by likeness, in each space.
        found = store.search((), query=wanted.user or "", limit=LOOKED_AT, refresh_ttl=False)
        left += sum(wanted.means(item.namespace) for item in found)
        return left, len(store.records())


def elsewhere(user: str) -> list[str]:
    """Return, a line each, where else under BILLP_HOME something of a user is kept."""
    return [*_unfinished_visits(user), *_studies(user)]


def _unfinished_visits(user: str) -> Iterator[str]:
    for file in sorted((home() / "visits").glob(f"*/{VISIT_FILE}")):
        try:
            visit = LocalVisit.model_validate_json(file.read_bytes()).visit
        except (FileNotFoundError, ValidationError):
            continue
        whose = {user: "of this user", "": "of the first dev user of a world, whoever that is"}.get(visit.user_id)
        if whose:
            yield f"{file.parent}: a visit {whose} that was stopped; `billp episode --resume` would remember it"


def _studies(user: str) -> Iterator[str]:
    for run in sorted((home() / "runs").glob("*")):
        files = sorted({str(file.relative_to(run)) for file in run.rglob("*.jsonl") if _names(file, user)})
        if files:
            yield f"{run}: visits of this user in {', '.join(files)}, and what they taught in the study's memory"


def _names(file: Path, user: str) -> bool:
    """Say whether a file of visits has one of the user."""
    name = json.dumps(user, ensure_ascii=False)
    needles = [f'"user_id":{space}{name}'.encode("utf-8", "replace") for space in ("", " ")]
    with suppress(FileNotFoundError), file.open("rb") as lines:
        return any(needle in line for line in lines for needle in needles)
    return False
