"""Getting at Chroma: a folder of one's own, a server or memory only, each checked before anything is changed."""

import sqlite3
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit

import chromadb
from chromadb.api.client import Client
from chromadb.config import Settings
from filelock import FileLock, Timeout

from memory.errors import BadStoreError, StoreError
from memory.rows import LAYOUT

DATABASE = "chroma.sqlite3"
LOCK = "billp.lock"
MAJOR = "1."
"""Versions of a server that speak as this client does."""
REPAIR = "move the folder away, or restore it from a copy"
FOLDER_ADVICE = f"if the disk has room and may be written, {REPAIR}"
CHROMA_TABLES = {"collections", "embeddings_queue", "migrations"}


@dataclass(frozen=True)
class Connection:
    """An open Chroma and how to leave it."""

    client: Client
    place: str
    """Where it is, as messages name it: no credentials."""
    advice: str
    """What to do when it fails."""
    shared: bool
    """Whether others may write to it."""
    prefix: str = ""
    """What the names of this store's collections begin with."""
    release: Callable[[], None] = field(default=lambda: None)

    def collection_names(self) -> list[str]:
        """Return the names of all collections of this store."""
        names: list[str] = []
        while page := self.client.list_collections(limit=100, offset=len(names)):
            names.extend(collection.name for collection in page)
        return [name for name in names if name.startswith(self.prefix)]

    def close(self) -> None:
        """Leave Chroma and let the folder be opened again; what was only in memory is gone."""
        try:
            if self.prefix:
                for name in self.collection_names():
                    self.client.delete_collection(name)
            self.client.close()
        finally:
            self.release()


@contextmanager
def chroma_calls(connection: Connection) -> Iterator[None]:
    """Turn whatever Chroma raises into one line that says where, and what to do.

    Raises:
        StoreError: Chroma failed.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # Chroma raises its own classes, httpx's, sqlite's, ValueError and RuntimeError.
        raise StoreError(
            f"The memory at {connection.place} failed ({first_line(error)}): {connection.advice}."
        ) from error


def first_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def connect(where: str | Path | None) -> Connection:
    """Open what `where` names.

    Args:
        where: A folder, the http(s) URL of a Chroma server, or None for memory only.

    Raises:
        BadStoreError: It is no store, damaged, locked by someone else, not writable, or does not answer.
    """
    if where is None:
        return _in_memory()
    if isinstance(where, str) and "://" in where:
        return _server(where)
    return _folder(Path(where).expanduser())


def _settings() -> Settings:
    return Settings(anonymized_telemetry=False)


def _in_memory() -> Connection:
    # All clients in memory share one database, so that stores are told apart by the names of their collections.
    client = cast(Client, chromadb.EphemeralClient(settings=_settings()))
    return Connection(client, "memory only", "open a new one", shared=False, prefix=f"x{uuid.uuid4().hex}-")


def _folder(path: Path) -> Connection:
    _refuse_foreign(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        path = path.resolve()
        fresh_lock = not (path / LOCK).exists()
        lock = FileLock(path / LOCK, timeout=0, thread_local=False)
        lock.acquire()
    except Timeout as error:
        raise BadStoreError(
            f"The memory in {path} is in use by another process or store: to share it, run "
            f"`chroma run --path {path}` and set BILLP_CHROMA_URL to its address."
        ) from error
    except OSError as error:
        raise BadStoreError(
            f"The memory in {path} cannot be written ({error.strerror}): choose another folder."
        ) from error
    # Only now may the database be looked at: in SQLite, whoever closes a file drops all locks that its
    # process holds on it, those of another store here too.
    try:
        _refuse_damaged(path)
        client = cast(Client, chromadb.PersistentClient(path=str(path), settings=_settings()))
    except Exception as error:  # as in chroma_calls
        if fresh_lock:
            (path / LOCK).unlink(missing_ok=True)
        lock.release()
        if isinstance(error, BadStoreError):
            raise
        raise BadStoreError(
            f"The memory in {path} cannot be opened ({first_line(error)}): move the folder away, or choose another."
        ) from error
    return Connection(client, str(path), FOLDER_ADVICE, shared=False, release=lock.release)


def _refuse_foreign(path: Path) -> None:
    """Raise where `path` is something else than an empty or a Chroma folder."""
    try:
        names = {entry.name for entry in path.iterdir()} - {LOCK} if path.exists() else set()
    except NotADirectoryError as error:
        raise BadStoreError(f"{path} is no folder: name a folder for the memory.") from error
    except OSError as error:
        raise BadStoreError(f"{path} cannot be read ({error.strerror}): choose another folder.") from error
    if names and DATABASE not in names:
        raise BadStoreError(f"{path} holds other files and no memory: choose an empty folder or an existing memory.")


def _refuse_damaged(path: Path) -> None:
    """Raise where the folder's database is damaged or not Chroma's; it is opened for reading only."""
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
        # Not readable without changing it, as after a crash amid a write: Chroma repairs that, or says what is wrong.
        return
    except sqlite3.DatabaseError as error:
        raise BadStoreError(f"The database of the memory in {path} is damaged ({error}): {REPAIR}.") from error
    if verdict != "ok":
        raise BadStoreError(f"The database of the memory in {path} is damaged ({first_line(verdict)}): {REPAIR}.")
    if not tables >= CHROMA_TABLES:
        raise BadStoreError(f"{path / DATABASE} is not a database of Chroma: choose another folder.")


def _server(url: str) -> Connection:
    place, parts = public_url(url)
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    ssl = parts.scheme == "https"
    port = parts.port or (443 if ssl else 80)
    # A path (a proxy's) is only kept by Chroma's client if it gets the whole address.
    host = f"{place.rstrip('/')}" if parts.path.strip("/") else str(parts.hostname)
    try:
        client = cast(Client, chromadb.HttpClient(host=host, port=port, ssl=ssl, headers=headers, settings=_settings()))
        version = client.get_version()
    except Exception as error:  # as in chroma_calls
        raise BadStoreError(
            f"No Chroma server answers at {place} ({first_line(error)}): start one with `chroma run --path FOLDER`, "
            "or correct BILLP_CHROMA_URL."
        ) from error
    if not version.startswith(MAJOR):
        client.close()
        raise BadStoreError(f"The Chroma server at {place} has version {version}: version {MAJOR}x is needed.")
    return Connection(client, place, "check that the server runs", shared=True)


def public_url(url: str) -> tuple[str, SplitResult]:
    """Return a URL without credentials, as messages may name it, and its parts.

    Raises:
        BadStoreError: It is no http(s) URL.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    place = f"{parts.scheme}://{host}{parts.path}"
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        valid = False
    if not valid:
        raise BadStoreError(f"{place} is no address of a Chroma server: write http://HOST:PORT or https://HOST:PORT.")
    return place, parts


def settle_identity(connection: Connection, name: str, dimension: int) -> None:
    """Note in a new store which embedding it is for, or refuse an old one that is for another.

    Raises:
        BadStoreError: The store is for another embedding, of another layout, or not this project's.
    """
    client, place = connection.client, connection.place
    own = f"{connection.prefix}billp"
    names = connection.collection_names()
    if own not in names:
        if names and not connection.shared:
            raise BadStoreError(f"The Chroma database at {place} holds other collections: choose another folder.")
        noted = {"layout": LAYOUT, "embedding": name, "dimension": dimension}
        # Of two processes that come at once both read what was noted first.
        client.get_or_create_collection(own, metadata=noted, embedding_function=None)
    held = client.get_collection(own, embedding_function=None).metadata or {}
    if held.get("layout") != LAYOUT:
        raise BadStoreError(
            f"The memory at {place} has layout {held.get('layout')}, this version reads {LAYOUT}: choose another place."
        )
    if (held.get("embedding"), held.get("dimension")) != (name, dimension):
        raise BadStoreError(
            f"The memory at {place} was made with the embedding {held.get('embedding')} ({held.get('dimension')} "
            f"dimensions), not with {name} ({dimension}): use that embedding, or choose another place."
        )
