"""An open Chroma, and what its faults say: one line that names the place and the way out, and no secret."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
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
"""The file in a folder that makes it Chroma's."""
TOO_LARGE = 413
"""The answer of a server to a request of too many bytes."""
SCANT = 2**20
"""Bytes of room on a disk below which that is why a write failed."""


def client_settings(ca: str | None = None) -> Settings:
    """Return the settings of all clients.

    Args:
        ca: PEM file with the authority that a server's certificate is checked against; None for the public ones.
    """
    return Settings(anonymized_telemetry=False, chroma_server_ssl_verify=ca)


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
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What no message may show."""
    folder: Path | None = None
    """Where its files are, if it is a folder."""
    release: Callable[[bool], None] = field(default=lambda unharmed: None)
    """Gives it free; is told whether Chroma never failed meanwhile."""
    seconds: float | None = None
    """Longest wait for an answer; None where there is none to wait for."""
    alive: Callable[[], bool] = field(default=lambda: True, repr=False)
    """Says whether a server that left one call without an answer answers at all."""
    failed: Event = field(default_factory=Event)
    """Set once Chroma has failed: what it had in hand may be half written."""

    def remedy(self) -> str:
        """Return what to do when it fails. Chroma does not say that a disk is full, only what it could not finish."""
        if self.folder is not None:
            with suppress(OSError):
                free = shutil.disk_usage(self.folder).free
                if free < SCANT:
                    return f"its disk has {free // 1024:,} kB left, so make room and try again; what was kept stays"
        return self.advice

    def collection_names(self) -> list[str]:
        """Return the names of all collections of this store.

        Raises:
            StoreError: Chroma failed.
        """
        names: list[str] = []
        with chroma_calls(self):
            while page := self.client.list_collections(limit=100, offset=len(names)):
                names.extend(collection.name for collection in page)
        return [name for name in names if name.startswith(self.prefix)]

    def table(self, name: str) -> "Table | None":
        """Return the collection of this name, None if there is none.

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
        """Return the collection of this name, made if there is none.

        Raises:
            StoreError: Chroma failed.
        """
        with chroma_calls(self):
            made = self.client.get_or_create_collection(
                name, metadata=dict(metadata), configuration=configuration, embedding_function=None
            )
        return Table(self, made)

    def close(self) -> None:
        """Leave Chroma and let the folder be opened again; what was only in memory is gone."""
        try:
            if self.prefix:
                for name in self.collection_names():
                    with chroma_calls(self):
                        self.client.delete_collection(name)
            with chroma_calls(self):
                self.client.close()
        finally:
            self.release(not self.failed.is_set())


class GoneError(StoreError):
    """Raised where a collection is not there, or no more."""


class TooLargeError(BadRecordError):
    """Raised where a server does not take as much in one request."""


class Table:
    """The rows of one collection of Chroma.

    Each call raises StoreError where Chroma fails, and nothing of the project's own runs inside it: a mistake of a
    caller, or an odd record, is no failure of Chroma's.
    """

    def __init__(self, connection: Connection, collection: Collection) -> None:
        self._connection = connection
        self._collection = collection

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What was noted of it when it was made."""
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
        """Return the rows whose vectors are nearest."""
        with chroma_calls(self._connection):
            return self._collection.query(**asked)

    def upsert(self, **rows: Any) -> None:
        """Write rows, new ones and others."""
        with chroma_calls(self._connection):
            self._collection.upsert(**rows)

    def update(self, **rows: Any) -> None:
        """Change fields of rows."""
        with chroma_calls(self._connection):
            self._collection.update(**rows)

    def delete(self, **asked: Any) -> None:
        """Delete rows."""
        with chroma_calls(self._connection):
            self._collection.delete(**asked)


@contextmanager
def chroma_calls(connection: Connection) -> Iterator[None]:
    """Turn whatever Chroma raises into one line that says where, and what to do.

    Nothing but calls to Chroma belongs into the block.

    Raises:
        StoreError: Chroma failed.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # Chroma raises its own classes, httpx's, sqlite's, ValueError and RuntimeError.
        connection.failed.set()
        shown, cause = without(connection.secrets, error)
        if connection.seconds is not None and caused_by(error, httpx.TimeoutException):
            raise NoAnswerError(
                f"The memory at {connection.place} failed (no answer within {connection.seconds:g} seconds): "
                f"{connection.remedy()}, or set BILLP_CHROMA_SECONDS to more."
            ) from cause
        refused = caused_by(error, httpx.HTTPStatusError)
        if refused and refused.response.status_code == TOO_LARGE:
            raise TooLargeError(
                f"The server at {connection.place} takes no request as large as this ({shown}): put smaller values."
            ) from cause
        kind = GoneError if isinstance(error, NotFoundError) else StoreError
        raise kind(f"The memory at {connection.place} failed ({shown}): {connection.remedy()}.") from cause


def first_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    if refused := caused_by(error, httpx.HTTPStatusError):
        answer = refused.response
        # What a proxy says besides is for a browser.
        if not answer.text.strip() or "html" in answer.headers.get("content-type", ""):
            return f"{answer.status_code} {answer.reason_phrase}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def caused_by(error: BaseException | None, kind: type[E]) -> E | None:
    """Return the error of a kind that led to `error`, None if there is none."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def without(secrets: tuple[str, ...], error: Exception) -> tuple[str, Exception | None]:
    """Return what an error says, and the error itself as a cause to show, both without `secrets`.

    A proxy may well send back what it was sent.
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
