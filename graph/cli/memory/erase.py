"""Erasure of a user's records, and a search for other files that mention the user."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from langgraph.store.base import PutOp
from pydantic import ValidationError

from graph.cli.memory.files import RECORDS_AT_ONCE, Progress
from graph.cli.memory.select import RecordFilter, readable_memory
from graph.local_run import VISIT_FILE, LocalVisit
from memory.chroma.layout import ImportedRecord, StoredRecord
from memory.home import home
from memory.store import ChromaStore, configured
from sim.atomic_files import atomic_folder
from sim.errors import BillpError

WRITTEN_AT_ONCE = 2_000
LOOKED_AT = 1_000
"""Maximum number of records in the search which proves that no record of the user is left."""


def forget(records: Sequence[StoredRecord], store: ChromaStore, progress: Progress) -> None:
    """Delete records from the memory configured in the environment.

    Chroma keeps deleted records in its files until it has written a few hundred others, and parts of them for longer.
    So a folder is rebuilt without the records and then replaces the old one. A new process rebuilds it, one that never
    held the deleted records, because Chroma writes bits of its process's memory into its files. On a server the records
    are deleted; the server manages its own files.

    Args:
        records: Records to delete.
        store: Memory that holds them.
        progress: Function called with the number of records done.
    """
    where = configured()
    if "://" in where:
        # Expired records are hidden from search, but stay in the files until a sweep.
        store.sweep_ttl()
        for start in range(0, len(records), RECORDS_AT_ONCE):
            page = records[start : start + RECORDS_AT_ONCE]
            store.batch([PutOp(one.namespace, one.key, None) for one in page])
            progress(start + len(page))
        return
    gone = {one.place for one in records}
    rest = [one for one in store.records() if one.place not in gone]
    with atomic_folder(Path(where)) as fresh, ProcessPoolExecutor(1, get_context("spawn")) as writer:
        # Write at least one page, because an empty folder would not be a memory.
        for start in range(0, max(1, len(rest)), WRITTEN_AT_ONCE):
            page = rest[start : start + WRITTEN_AT_ONCE]
            kept = [one.kept(vectors) for one, vectors in zip(page, store.vectors(page), strict=True)]
            writer.submit(_restore, fresh, kept).result()
            progress(start + len(page))


def _restore(folder: Path, kept: Sequence[ImportedRecord]) -> None:
    with ChromaStore(folder) as store:
        store.restore(kept)


def check_forgotten(user: str, space: str | None, others: int) -> None:
    """Reopen the memory and check that all records of a user are gone, and no others.

    This runs in a process of its own: opening a memory writes to it, and this process has held the deleted records.

    Args:
        user: Deleted user.
        space: Space of the deleted records; None for all.
        others: Number of records that must remain.

    Raises:
        BillpError: A record of the user is left, or another record is gone.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as another:
        left, here = another.submit(_looked, RecordFilter(None, space, user)).result()
    if left:
        raise BillpError(f"user {user!r} has new records: stop the visits of this user, and run the command again")
    if here < others:
        raise BillpError(
            f"{others - here} records of other users are gone: restore a copy unless another process deleted them"
        )


def _looked(wanted: RecordFilter) -> tuple[int, int]:
    """Return the number of matching records found, and the number of all records."""
    with readable_memory("", "") as store:
        left = len(wanted.records(store))
        # Search as recall does: by similarity, in each space.
        found = store.search((), query=wanted.user or "", limit=LOOKED_AT, refresh_ttl=False)
        left += sum(wanted.means(item.namespace) for item in found)
        return left, len(store.records())


def elsewhere(user: str) -> list[str]:
    """Return one line for each other place under BILLP_HOME that has data of a user."""
    return [*_unfinished_visits(user), *_studies(user)]


def _unfinished_visits(user: str) -> Iterator[str]:
    for file in sorted((home() / "visits").glob(f"*/{VISIT_FILE}")):
        try:
            visit = LocalVisit.model_validate_json(file.read_bytes()).visit
        except (FileNotFoundError, ValidationError):
            continue
        whose = {user: "of this user", "": "of a world's first dev user"}.get(visit.user_id)
        if whose:
            yield f"{file.parent}: a stopped visit {whose}; `billp episode --resume` would write its records"


def _studies(user: str) -> Iterator[str]:
    for run in sorted((home() / "runs").glob("*")):
        files = sorted({str(file.relative_to(run)) for file in run.rglob("*.jsonl") if _names(file, user)})
        if files:
            yield f"{run}: visits of this user in {', '.join(files)}, and their records in the study's memory"


def _names(file: Path, user: str) -> bool:
    """Return whether a file of visits has a visit of the user."""
    name = json.dumps(user, ensure_ascii=False)
    needles = [f'"user_id":{space}{name}'.encode("utf-8", "replace") for space in ("", " ")]
    with suppress(FileNotFoundError), file.open("rb") as lines:
        return any(needle in line for line in lines for needle in needles)
    return False
