"""Open connection to Chroma, with error messages of one line: the location, the remedy and no secret."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar

import httpx
from chromadb.api.client import Client
from chromadb.api.collection_configuration import CreateCollectionConfiguration
from chromadb.api.models.Collection import Collection
from chromadb.api.types import GetResult, QueryResult
from chromadb.config import Settings
from chromadb.errors import NotFoundError

from memory.chroma.errors import BadRecordError, NoAnswerError, StoreError

E = TypeVar("E", bound=BaseException)
DATABASE = "chroma.sqlite3"
"""File that marks a folder as a Chroma database."""
TOO_LARGE = 413
"""HTTP status of a request that exceeds the server's size limit."""
counting_clients = Lock()
"""Held while a client in memory is opened or closed: Chroma may lose count if two threads do so at once."""
SCANT = 2**20
"""Free bytes on a disk below which a failed write is blamed on a full disk."""


def client_settings(ca: str | None = None) -> Settings:
    """Return the settings of all clients.

    Args:
        ca: PEM file with the authority that a server's certificate is checked against. None for the public authorities.
    """
    return Settings(anonymized_telemetry=False, chroma_server_ssl_verify=ca)


@dataclass(frozen=True)
class Connection:
    """An open Chroma, with the function that releases it."""

    client: Client
    place: str
    """Location for messages, without credentials."""
    advice: str
    """Remedy for messages about a failure."""
    shared: bool
    """Whether other clients may write to it."""
    prefix: str = ""
    """Common prefix of the names of this store's collections; empty unless in memory."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that no message may show."""
    folder: Path | None = None
    """Folder of its files. None for a server or memory only."""
    release: Callable[[bool], None] = field(default=lambda unharmed: None)
    """Releases it. The argument says whether no call to Chroma has failed."""
    seconds: float | None = None
    """Longest wait for an answer of a server. None without a server."""
    alive: Callable[[], bool] = field(default=lambda: True, repr=False)
    """Returns whether a server answers at all after one call got no answer."""
    failed: Event = field(default_factory=Event)
    """Set when Chroma has failed: its current write may be half done."""

    @property
    def in_memory(self) -> bool:
        """Whether it is in memory, where all stores of the process share one database."""
        return bool(self.prefix)

    def remedy(self) -> str:
        """Return the remedy for a failure. The free space is checked here, since Chroma does not report a full disk."""
        if self.folder is not None:
            with suppress(OSError):
                free = shutil.disk_usage(self.folder).free
                if free < SCANT:
                    return f"its disk has {free // 1024:,} kB left, so free space and try again; stored records stay"
        return self.advice

    def collection_names(self) -> list[str]:
        """Return the names of all collections of this store.

        Raises:
            StoreError: Chroma failed.
        """
        with chroma_calls(self):
            # In one call: a collection created or deleted meanwhile would move others to another page.
            names = [collection.name for collection in self.client.list_collections()]
        return [name for name in names if name.startswith(self.prefix)]

    def table(self, name: str) -> "Table | None":
        """Return the collection of this name. None if missing.

        Raises:
            StoreError: Chroma failed.
        """
        try:
            with chroma_calls(self):
                return Table(self, self.client.get_collection(name, embedding_function=None))
        except GoneError:
            return None

    def made_table(
        self, name: str, metadata: Mapping[str, Any], configuration: CreateCollectionConfiguration | None = None
    ) -> "Table":
        """Return the collection of this name, created if missing.

        Raises:
            StoreError: Chroma failed.
        """
        with chroma_calls(self):
            made = self.client.get_or_create_collection(
                name, metadata=dict(metadata), configuration=configuration, embedding_function=None
            )
        return Table(self, made)

    def close(self) -> None:
        """Close Chroma and release the folder. Records in memory only are lost."""
        try:
            if self.in_memory:
                for name in self.collection_names():
                    with chroma_calls(self):
                        self.client.delete_collection(name)
        finally:
            try:
                with counting_clients if self.in_memory else nullcontext(), chroma_calls(self):
                    self.client.close()
            finally:
                self.release(not self.failed.is_set())


class GoneError(StoreError):
    """Raised if a collection is missing or was deleted."""


class TooLargeError(BadRecordError):
    """Raised if a request exceeds the server's size limit."""


class Table:
    """Rows of one Chroma collection.

    Each call raises StoreError if Chroma fails. No code of the project runs inside such a call, so that an error of a
    caller or an invalid record never counts as a failure of Chroma.
    """

    def __init__(self, connection: Connection, collection: Collection) -> None:
        self._connection = connection
        self._collection = collection

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata set at its creation."""
        return self._collection.metadata or {}

    def count(self) -> int:
        """Return the number of rows."""
        with chroma_calls(self._connection):
            return self._collection.count()

    def get(self, **asked: Any) -> GetResult:
        """Return rows by their ids or by a filter."""
        with chroma_calls(self._connection):
            return self._collection.get(**asked)

    def query(self, **asked: Any) -> QueryResult:
        """Return the rows with the nearest vectors."""
        with chroma_calls(self._connection):
            return self._collection.query(**asked)

    def upsert(self, **rows: Any) -> None:
        """Insert or replace rows."""
        with chroma_calls(self._connection):
            self._collection.upsert(**rows)

    def update(self, **rows: Any) -> None:
        """Change fields of existing rows."""
        with chroma_calls(self._connection):
            self._collection.update(**rows)

    def delete(self, **asked: Any) -> None:
        """Delete rows."""
        with chroma_calls(self._connection):
            self._collection.delete(**asked)


@contextmanager
def chroma_calls(connection: Connection) -> Iterator[None]:
    """Turn any exception of Chroma into one line with the location and the remedy.

    The block may contain only calls to Chroma.

    Raises:
        StoreError: Chroma failed.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # Chroma raises its own classes, httpx's, sqlite's, ValueError and RuntimeError.
        if not isinstance(error, NotFoundError):
            connection.failed.set()
        shown, cause = without(connection.secrets, error)
        if connection.seconds is not None and caused_by(error, httpx.TimeoutException):
            raise NoAnswerError(
                f"The memory at {connection.place} failed (no answer within {connection.seconds:g} seconds): "
                f"{connection.remedy()}, or increase BILLP_CHROMA_SECONDS."
            ) from cause
        refused = caused_by(error, httpx.HTTPStatusError)
        if refused and refused.response.status_code == TOO_LARGE:
            raise TooLargeError(
                f"The server at {connection.place} rejects requests of this size ({shown}): put smaller values."
            ) from cause
        kind = GoneError if isinstance(error, NotFoundError) else StoreError
        raise kind(f"The memory at {connection.place} failed ({shown}): {connection.remedy()}.") from cause


def first_line(error: BaseException) -> str:
    """Return the message of an error on one line."""
    if refused := caused_by(error, httpx.HTTPStatusError):
        answer = refused.response
        # A longer answer of a proxy is a page for browsers.
        if not answer.text.strip() or "html" in answer.headers.get("content-type", ""):
            return f"{answer.status_code} {answer.reason_phrase}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def caused_by(error: BaseException | None, kind: type[E]) -> E | None:
    """Return the first error of a kind in the causes of `error`. None if missing."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def without(secrets: tuple[str, ...], error: Exception) -> tuple[str, Exception | None]:
    """Return the message of an error, and the error to show as a cause, both without `secrets`.

    A proxy may echo the headers it received. The cause is None if it holds a secret.
    """
    shown = first_line(error)
    for secret in secrets:
        shown = shown.replace(secret, "…")
    chain: BaseException | None = error
    while chain is not None:
        if any(secret in str(chain) for secret in secrets):
            return shown, None
        chain = chain.__cause__ or chain.__context__
    return shown, error
