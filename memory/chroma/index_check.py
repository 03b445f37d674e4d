"""Whether Chroma can read its indexes, found out by a process of its own.

Of an index that was being written when its process was killed, Chroma may read past the end, and that takes along
whichever process asks. So the one that asks here is a child: what it does not live to call whole is not.

Run as `python -m memory.chroma.index_check FOLDER NAME…`, it writes a line of JSON for each collection of these names.
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

PAGE = 250
FATAL = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
"""What ends a process that reads what is not there."""
DIE_WITH_PARENT = 1
"""Linux' PR_SET_PDEATHSIG."""


def unreadable(folder: Path, names: Sequence[str]) -> list[str]:
    """Return those of the collections `names` whose vectors cannot all be read.

    Args:
        folder: A folder of Chroma's; nobody has it open.
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
            # It died over the next one.
            lost.append(rest.pop(0))
    return lost


def _ask(folder: Path, names: Sequence[str]) -> tuple[list[tuple[str, bool]], bool]:
    """Return what a child says of the first of `names`, in order, and whether it came to its end."""
    # Nothing of the working directory that is not on the path here, either: it may have modules of the same names.
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
        # Somebody stopped it, or it could not begin: no fault of an index.
        told = child.stderr.strip().splitlines()[-1:] or [f"it ended with {child.returncode}"]
        raise BadStoreError(f"The memory in {folder} could not be checked after a kill ({told[0]}): try again.")
    return said, True


def _whole(collection: Collection) -> bool:
    """Say whether all vectors of a collection can be read."""
    try:
        ids = collection.get(include=[])["ids"]
    except InternalError as error:
        # Anything else, such as a full disk, is no reason to throw an index away.
        if "hnsw" not in str(error):
            raise
        return False
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        try:
            vectors = as_matrix(collection.get(ids=page, include=["embeddings"])["embeddings"])
        except InternalError:
            return False
        if len(vectors) != len(page) or not np.isfinite(vectors).all():
            return False
    return True


def main(folder: str, names: Sequence[str]) -> None:
    """Write for each collection, as soon as it is known, its name and whether its vectors can all be read."""
    client = cast(Client, chromadb.PersistentClient(path=folder, settings=client_settings()))
    for name in names:
        whole = _whole(client.get_collection(name, embedding_function=None))
        print(json.dumps([name, whole]), flush=True)
    client.close()


if __name__ == "__main__":
    if sys.platform == "linux":
        # The folder's lock is the parent's: whoever takes it next should find nobody in the folder.
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    main(sys.argv[1], sys.argv[2:])
