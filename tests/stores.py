"""Stores for tests: embeddings without a model, each kind of store with the same behaviour, and a clock."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from langgraph.store.base import BaseStore, PutOp, TTLConfig
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.base import SqliteIndexConfig

from memory.store import ChromaStore
from tests.waiting import PATIENCE

DIMENSION = 16
THEIRS = ["InMemoryStore", "SqliteStore"]
OURS = ["memory", "folder", "few", "index", "server"]
TTL: TTLConfig = {"refresh_on_read": True, "default_ttl": 30}


class FakeEmbeddings(Embeddings):
    """Embeddings drawn from a hash of the text: the same in every process."""

    def __init__(self, name: str = "fake", dimension: int = DIMENSION) -> None:
        self.name = name
        self.dimension = dimension

    def embed_query(self, text: str) -> list[float]:
        seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big")
        drawn: list[float] = np.random.default_rng(seed).standard_normal(self.dimension).tolist()
        return drawn

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def chroma(where: str | Path | None = None, **options: Any) -> ChromaStore:
    # A busy machine is no Chroma server that hangs: tests of those give `seconds`.
    return ChromaStore(where, embeddings=FakeEmbeddings(), **{"seconds": PATIENCE} | options)


class Vectors(sqlite3.Connection):
    """Connection that can load sqlite-vec.

    Some builds of Python cannot load extensions; there a stand-in provides the only function that `SqliteStore` calls.
    """

    if not hasattr(sqlite3.Connection, "enable_load_extension"):

        def enable_load_extension(self, enable: bool, /) -> None:
            pass

        def load_extension(self, name: str, /) -> None:
            self.create_function("vec_distance_cosine", 2, _cosine_distance, deterministic=True)


def _cosine_distance(one: bytes, other: bytes) -> float:
    a, b = np.frombuffer(one, dtype=np.float32), np.frombuffer(other, dtype=np.float32)
    return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))


SQLITE: dict[str, Any] = {"database": ":memory:", "isolation_level": None, "factory": Vectors}
"""Connection settings of `from_conn_string` in LangGraph's stores, with `Vectors` as the factory."""


def sqlite_index() -> SqliteIndexConfig:
    return {"dims": DIMENSION, "embed": FakeEmbeddings()}


@contextmanager
def langgraph_store(kind: str, ttl: TTLConfig | None = None) -> Iterator[BaseStore]:
    """Open an empty store of LangGraph's own."""
    if kind == "InMemoryStore":
        yield InMemoryStore(index={"dims": DIMENSION, "embed": FakeEmbeddings()})
        return
    with closing(sqlite3.connect(**SQLITE, check_same_thread=False)) as connection:
        yield SqliteStore(connection, index=sqlite_index(), ttl=ttl)


@contextmanager
def chroma_store(
    kind: str, folder: Path, url: Callable[[], str], ttl: TTLConfig | None = None
) -> Iterator[ChromaStore]:
    """Open an empty `ChromaStore`.

    `kind` is "memory", "folder" or "server". Two more kinds are folders above the exact limit: "few" has few records
    below each prefix, and "index" has so many that Chroma's index is searched.
    """
    places: dict[str, Callable[[], ChromaStore]] = {
        "memory": lambda: chroma(ttl=ttl),
        "folder": lambda: chroma(folder / "memory", ttl=ttl),
        "few": lambda: chroma(folder / "memory", ttl=ttl, exact_limit=0),
        "index": lambda: chroma(folder / "memory", ttl=ttl, exact_limit=0),
        "server": lambda: chroma(url(), ttl=ttl),
    }
    with pytest.MonkeyPatch.context() as patch, places[kind]() as store:
        if kind == "index":
            patch.setattr("memory.chroma.local.FEW", 0)
        store.sweep_ttl()
        store.batch([PutOp(record.namespace, record.key, None) for record in store.records()])
        yield store


class Clock:
    """Clock of `ChromaStore`, which a test moves forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = self
        self.passed = timedelta()

        class Shifted(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return super().now(tz) + clock.passed

        monkeypatch.setattr("memory.chroma.ttl.datetime", Shifted)

    def pass_for(self, store: BaseStore, minutes: float) -> None:
        """Let time pass for a store; the times in SQLite are moved back instead, because its clock cannot be set."""
        self.passed += timedelta(minutes=minutes)
        if isinstance(store, SqliteStore):
            moved = "UPDATE store SET expires_at = strftime('%Y-%m-%d %H:%M:%f', expires_at, ?)"
            store.conn.execute(moved, (f"-{minutes} minutes",))
