"""Whether Chroma can read its indexes, found out by a process of its own.

Of an index that was being written when its process was killed, Chroma may read past the end, and that takes along
whichever process asks. So the one that asks here is a child: what it does not live to call whole is not.

Run as `python -m memory.checking FOLDER NAME…`, it writes a line of JSON for each collection of these names.
"""

import json
import os
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

from memory.connection import client_settings
from memory.errors import BadStoreError
from memory.nearest import as_matrix

PAGE = 250


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
    child = subprocess.run(  # noqa: S603 - this very module
        [sys.executable, "-m", __name__, str(folder), *names],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [cast(tuple[str, bool], tuple(json.loads(line))) for line in child.stdout.splitlines()]
    if child.returncode > 0:
        reason = (child.stderr.strip().splitlines() or ["it did not say why"])[-1]
        raise BadStoreError(f"The memory in {folder} cannot be checked ({reason}): move the folder away.")
    return said, child.returncode == 0


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
        # What was never written reads as zeros.
        if len(vectors) != len(page) or not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
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
    main(sys.argv[1], sys.argv[2:])
