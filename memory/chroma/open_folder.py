"""Opening of Chroma in a folder, on a server or in memory. Each is checked before any change."""

import sqlite3
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import chromadb
from chromadb.api.client import Client
from filelock import FileLock, Timeout

from memory.chroma.connection import DATABASE, Connection, client_settings, counting_clients, first_line
from memory.chroma.env import check_ca, check_headers, check_seconds
from memory.chroma.errors import BadStoreError, StoreInUseError
from memory.chroma.index_repair import mark_open, set_aside_unreadable, unmark
from memory.chroma.layout import IDENTITY, LAYOUT

STORE_LOCK = "billp.lock"
REPAIR = "move the folder away, or restore it from a copy"
FOLDER_ADVICE = f"check that the disk has space and is writable; if so, {REPAIR}"
CHROMA_TABLES = {"collections", "embeddings_queue", "migrations"}


def connect(where: str | Path | None, headers: Mapping[str, str], ca: str | Path | None, seconds: float) -> Connection:
    """Open the Chroma at `where`.

    Args:
        where: A folder, the http(s) URL of a Chroma server, or None for memory only.
        headers: Headers of each request to a server.
        ca: PEM file with the certificate of the authority that signed a server's. None for the public authorities.
        seconds: Longest wait for each answer of a server.

    Raises:
        BadStoreError: It is not a store, is damaged, locked by another store, not writable, or does not answer.
    """
    if where is None:
        return _in_memory()
    if isinstance(where, str) and "://" in where:
        # Imported here: the client of a server takes a while to import, and a folder needs none.
        from memory.chroma.open_server import open_server

        return open_server(where, check_headers(headers), check_ca(ca) if ca else None, check_seconds(seconds))
    return _folder(Path(where).expanduser())


def _in_memory() -> Connection:
    # All clients in memory share one database, so the names of the collections tell the stores apart.
    try:
        with counting_clients:
            client = cast(Client, chromadb.EphemeralClient(settings=client_settings()))
    except ValueError as error:
        raise BadStoreError(
            f"A memory without a folder cannot be opened ({first_line(error)}): close this process's other in-memory "
            "client of Chroma, create it with Settings(anonymized_telemetry=False), or name a folder."
        ) from error
    return Connection(client, "(in memory)", "open a new one", shared=False, prefix=f"x{uuid.uuid4().hex}-")


def _folder(path: Path) -> Connection:
    _refuse_foreign(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        path = path.resolve()
        fresh_lock = not (path / STORE_LOCK).exists()
        lock = FileLock(path / STORE_LOCK, timeout=0, thread_local=False)
        lock.acquire()
    except Timeout as error:
        raise StoreInUseError(
            f"The memory in {path} is in use by another process or store: to share it, run "
            f"`chroma run --path {path}` and set BILLP_CHROMA_URL to its address.",
            path / STORE_LOCK,
        ) from error
    except OSError as error:
        raise BadStoreError(
            f"The memory in {path} cannot be written ({error.strerror}): choose another folder."
        ) from error
    # The database may be opened only under the lock: when SQLite closes a file, it drops all locks of its process on
    # that file, including those of another store in this process.
    try:
        _refuse_damaged(path)
        if (path / DATABASE).exists():
            set_aside_unreadable(path)
        client = cast(Client, chromadb.PersistentClient(path=str(path), settings=client_settings()))
        try:
            marker = mark_open(path)
        except OSError:
            client.close()
            raise
    except Exception as error:  # As in `chroma_calls`.
        if fresh_lock:
            (path / STORE_LOCK).unlink(missing_ok=True)
        lock.release()
        if isinstance(error, BadStoreError):
            raise
        raise BadStoreError(
            f"The memory in {path} cannot be opened ({first_line(error)}): move the folder away, or choose another."
        ) from error

    def release(unharmed: bool) -> None:
        if unharmed:
            unmark(path, marker)
        lock.release()

    return Connection(client, str(path), FOLDER_ADVICE, shared=False, folder=path, release=release)


def _refuse_foreign(path: Path) -> None:
    """Raise if `path` is neither an empty folder nor a Chroma folder."""
    try:
        names = {entry.name for entry in path.iterdir()} - {STORE_LOCK} if path.exists() else set()
    except NotADirectoryError as error:
        raise BadStoreError(f"{path} is not a folder: name a folder for the memory.") from error
    except OSError as error:
        raise BadStoreError(f"{path} cannot be read ({error.strerror}): choose another folder.") from error
    if names and DATABASE not in names:
        raise BadStoreError(f"{path} holds other files but no memory: choose an empty folder or an existing memory.")


def _refuse_damaged(path: Path) -> None:
    """Raise if the folder's database is damaged or not Chroma's. It is opened read-only."""
    if not (path / DATABASE).exists():
        return
    try:
        database = sqlite3.connect(f"{(path / DATABASE).as_uri()}?mode=ro", uri=True)
        try:
            verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            database.close()
    except sqlite3.OperationalError:
        # Not readable without a change, as after a crash during a write: Chroma repairs that, or reports the fault.
        return
    except sqlite3.DatabaseError as error:
        raise BadStoreError(f"The database of the memory in {path} is damaged ({error}): {REPAIR}.") from error
    if verdict != "ok":
        raise BadStoreError(f"The database of the memory in {path} is damaged ({first_line(verdict)}): {REPAIR}.")
    if not tables >= CHROMA_TABLES:
        raise BadStoreError(f"{path / DATABASE} is not a database of Chroma: choose another folder.")


def settle_identity(connection: Connection, name: str, dimension: int) -> None:
    """Store the embedding's name and dimension in a new store, or check them in an existing one.

    Raises:
        BadStoreError: The store has another embedding or another layout, or is not this project's.
    """
    place = connection.place
    own = f"{connection.prefix}{IDENTITY}"
    table = connection.table(own)
    if table is None:
        if not connection.shared and connection.collection_names():
            raise BadStoreError(f"The Chroma database at {place} holds other collections: choose another folder.")
        connection.made_table(own, {"layout": LAYOUT, "embedding": name, "dimension": dimension})
        # Of two processes that write this at once, both read the first version.
        table = connection.table(own)
    held = table.metadata if table else {}
    if held.get("layout") != LAYOUT:
        raise BadStoreError(
            f"The memory at {place} has layout {held.get('layout')}, this version reads {LAYOUT}: use another one."
        )
    if (held.get("embedding"), held.get("dimension")) != (name, dimension):
        raise BadStoreError(
            f"The memory at {place} was created with the embedding {held.get('embedding')} ({held.get('dimension')} "
            f"dimensions), not with {name} ({dimension}): use that embedding, or another memory."
        )
