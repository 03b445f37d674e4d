"""Index repair after a kill: unreadable indexes are dropped and rebuilt from the records.

Chroma keeps records in SQLite, which survives a kill at any moment, and vectors in files that it overwrites from time
to time, which do not. A record holds its texts and the paths of the indexed ones, so its vectors can be recomputed. The
collections to rebuild are listed in a file next to the database until they are done, so a rebuild interrupted by a kill
or a full disk starts again at the next opening.

Only unreadable indexes are dropped. To drop all of them after each kill takes longer than to check them, pays
for each embedding again, and misses the indexes of a killed Chroma server, which leaves no mark in its folder. The
check has two parts, since each misses what the other finds. `hnsw` finds files that contradict each other: their
vectors can often be read, and the next write crashes or fills the disk. `index_check` reads all vectors, and finds
damage that the HNSW files do not show, such as a torn list of ids.
"""

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from memory.chroma.connection import DATABASE, SCANT, Connection, Table, first_line
from memory.chroma.errors import BadStoreError, StoreError
from memory.chroma.hnsw import HEADER, is_consistent
from memory.chroma.index_check import unreadable
from memory.chroma.layout import IDENTITY, OURS, StoredRecord, arbitrary_vector, is_main_row, readable, texts_at
from memory.search.vectors import Vector

OPEN_MARK = "billp.open"
"""File that exists while a store has the folder open, and stays if Chroma failed. If an opening finds it, the last
process was killed or had no disk space left.
"""
TO_REBUILD = "billp.mend"
"""File with the names of the collections to rebuild, as a JSON list."""
ROWS_AT_ONCE = 200
"""Rows whose vectors are computed and written at a time."""
ROWS_PER_MESSAGE = 10_000
"""Rows between two progress messages."""

_log = logging.getLogger(__name__)

Embed = Callable[[list[str]], Vector]


def set_aside_unreadable(folder: Path) -> None:
    """Delete the unreadable indexes, and list them for a rebuild. Databases of other programs are left alone.

    All vectors are read only if the folder was not closed, was closed after a failure, or has an inconsistent index.

    Args:
        folder: A Chroma folder that no process has open.

    Raises:
        BadStoreError: The folder cannot be opened, or its disk is full.
    """
    left = (folder / OPEN_MARK).exists() or (folder / TO_REBUILD).exists()
    if not left and all(is_consistent(header.parent) for header in folder.glob(f"*/{HEADER}")):
        return
    indexes = _indexes(folder)
    if IDENTITY not in indexes:
        return
    ours = [name for name in indexes if OURS.fullmatch(name)]
    torn = [name for name in ours if not is_consistent(folder / indexes[name])]
    lost = torn + unreadable(folder, [name for name in ours if name not in torn])
    if lost:
        if (free := shutil.disk_usage(folder).free) < SCANT:
            raise BadStoreError(
                f"The memory in {folder} cannot be opened, as its disk has {free // 1024:,} kB left: free space."
            )
        # List first, then delete, since a kill may come in between.
        scratch = folder / f"{TO_REBUILD}.new"
        scratch.write_text(json.dumps(sorted({*_to_rebuild(folder), *lost})))
        scratch.replace(folder / TO_REBUILD)
    for name in lost:
        shutil.rmtree(folder / indexes[name], ignore_errors=True)


def mark_open(folder: Path) -> os.stat_result:
    """Mark the folder as open, and return the identity of the mark, which differs for each owner."""
    (folder / OPEN_MARK).touch()
    return (folder / OPEN_MARK).stat()


def unmark(folder: Path, marker: os.stat_result) -> None:
    """Delete the mark of a clean close, unless another store has taken the folder meanwhile."""
    with suppress(FileNotFoundError):
        if os.path.samestat((folder / OPEN_MARK).stat(), marker):
            (folder / OPEN_MARK).unlink()


def _indexes(folder: Path) -> dict[str, str]:
    """Return the index folder of each collection by name."""
    query = """SELECT collections.name, segments.id FROM segments
        JOIN collections ON segments.collection = collections.id WHERE segments.scope = 'VECTOR'"""
    # Opened for writing, so that SQLite rolls back a transaction interrupted by a kill.
    with closing(sqlite3.connect(f"{(folder / DATABASE).as_uri()}?mode=rw", uri=True)) as held:
        return {str(name): str(index) for name, index in held.execute(query)}


def _to_rebuild(folder: Path) -> list[str]:
    """Return the names of the collections to rebuild."""
    try:
        return [str(name) for name in json.loads((folder / TO_REBUILD).read_text())]
    except FileNotFoundError:
        return []


def rebuild_indexes(connection: Connection, dimension: int, embed: Embed) -> None:
    """Recompute the vectors of dropped indexes, and log it. Only folders need it.

    Args:
        connection: The open Chroma.
        dimension: Numbers in a vector.
        embed: Returns the vectors, (n, d), of length 1, of n texts.

    Raises:
        StoreError: Chroma or the embedding failed. The next opening resumes.
    """
    folder = connection.folder
    if folder is None or not (names := _to_rebuild(folder)):
        return
    for name in names:
        collection = connection.table(name)
        if collection is None:
            continue
        ids = collection.get(include=[])["ids"]
        _log.warning(
            "The index of the memory in %s is unreadable, as after a kill: the vectors of its %s rows are computed "
            "again.",
            folder,
            f"{len(ids):,}",
        )
        try:
            _rebuild_rows(collection, ids, dimension, embed)
        except StoreError:
            raise
        except Exception as error:  # An embedding may raise anything.
            raise StoreError(
                f"The vectors of the memory in {folder} cannot be computed again ({first_line(error)}): repair the "
                "embedding, then open the memory again."
            ) from error
    (folder / TO_REBUILD).unlink()


def _rebuild_rows(collection: Table, ids: list[str], dimension: int, embed: Embed) -> None:
    rest = set(ids)
    reported = ROWS_PER_MESSAGE
    main_rows = [row for row in ids if is_main_row(row)]
    for start in range(0, len(main_rows), ROWS_AT_ONCE):
        page = collection.get(ids=main_rows[start : start + ROWS_AT_ONCE], include=["metadatas"])
        vectors = _vectors(readable(page["ids"], page["metadatas"]), embed)
        _put(collection, vectors)
        rest -= vectors.keys()
        if len(ids) - len(rest) >= reported:
            _log.warning("%s of %s rows have new vectors.", f"{len(ids) - len(rest):,}", f"{len(ids):,}")
            reported += ROWS_PER_MESSAGE
    # Rows without a vector of their own, and rows left by a killed process. They need one too, since Chroma cannot
    # delete rows that the index lacks.
    _put(collection, {row: arbitrary_vector(row, dimension) for row in sorted(rest)})


def _vectors(records: Sequence[StoredRecord], embed: Embed) -> dict[str, Vector]:
    """Return the vectors of the rows of some records."""
    texts = {record: texts_at(record.value, record.paths) for record in records if record.vectors}
    distinct = list(dict.fromkeys(text for own in texts.values() for text in own))
    place = dict(zip(distinct, embed(distinct), strict=True)) if distinct else {}
    found: dict[str, Vector] = {}
    for record, own in texts.items():
        # A restored record may have another number of vectors.
        rows = [record.main_row, *record.vector_rows]
        found |= {row: place[text] for row, text in zip(rows, own, strict=False)}
    return found


def _put(collection: Table, vectors: dict[str, Vector]) -> None:
    rows = list(vectors)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        # Without metadata, the rows keep their fields. `update` would skip rows that the index lacks.
        collection.upsert(ids=part, embeddings=np.stack([vectors[row] for row in part]))
