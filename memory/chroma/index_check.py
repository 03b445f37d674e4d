"""Readability check of Chroma's indexes in a child process.

If a process was killed while it wrote an index, Chroma may read past the end of the files, and that crashes the reading
process. So a child process reads. An index that it does not report as readable counts as unreadable.

Run as `python -m memory.chroma.index_check FOLDER NAME…`, it prints one JSON line for each named collection.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import chromadb
import numpy as np
from chromadb.api.client import Client
from chromadb.api.models.Collection import Collection
from chromadb.errors import InternalError

from memory.chroma.connection import client_settings
from memory.chroma.errors import BadStoreError
from memory.chroma.index_search import as_matrix

VECTORS_AT_ONCE = 250
FATAL = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
"""Signals that end a process after an invalid memory access."""
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux."""


def unreadable(folder: Path, names: Sequence[str]) -> list[str]:
    """Return those of the collections `names` whose vectors cannot all be read.

    Args:
        folder: A Chroma folder that no process has open.
        names: Names of collections.

    Raises:
        BadStoreError: The folder cannot be opened.
    """
    lost: list[str] = []
    rest = list(names)
    while rest:
        said, ended = _ask(folder, rest)
        lost += [name for name, whole in said if not whole]
        rest = rest[len(said) :]
        if not ended and rest:
            # The child crashed on the next collection.
            lost.append(rest.pop(0))
    return lost


def _ask(folder: Path, names: Sequence[str]) -> tuple[list[tuple[str, bool]], bool]:
    """Return the child's results for the first of `names`, in order, and whether it ended without a crash."""
    # The child gets this path, and -P keeps the working directory off it, since modules there may have the same names.
    path = os.pathsep.join(one or os.getcwd() for one in sys.path)
    child = subprocess.run(  # noqa: S603 - this very module
        [sys.executable, "-P", "-m", "memory.chroma.index_check", str(folder), *names],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [cast(tuple[str, bool], tuple(json.loads(line))) for line in child.stdout.splitlines()]
    if -child.returncode in FATAL:
        return said, False
    if child.returncode:
        # Stopped from outside, or failed to start: no fault of an index.
        reason = child.stderr.strip().splitlines()[-1:] or [f"it ended with {child.returncode}"]
        raise BadStoreError(f"The memory in {folder} could not be checked after a kill ({reason[0]}): try again.")
    return said, True


def _whole(collection: Collection) -> bool:
    """Return whether all vectors of a collection can be read."""
    try:
        ids = collection.get(include=[])["ids"]
    except InternalError as error:
        # Any other error, such as a full disk, is no reason to drop an index.
        if "hnsw" not in str(error):
            raise
        return False
    for start in range(0, len(ids), VECTORS_AT_ONCE):
        page = ids[start : start + VECTORS_AT_ONCE]
        try:
            vectors = as_matrix(collection.get(ids=page, include=["embeddings"])["embeddings"])
        except InternalError:
            return False
        if len(vectors) != len(page) or not np.isfinite(vectors).all():
            return False
    return True


def main(folder: str, names: Sequence[str]) -> None:
    """Print the name of each collection, and whether all its vectors can be read, as soon as it is known."""
    client = cast(Client, chromadb.PersistentClient(path=folder, settings=client_settings()))
    for name in names:
        whole = _whole(client.get_collection(name, embedding_function=None))
        print(json.dumps([name, whole]), flush=True)
    client.close()


if __name__ == "__main__":
    if sys.platform == "linux":
        # The parent holds the folder's lock, and no process may use the folder once the lock is free.
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    main(sys.argv[1], sys.argv[2:])
