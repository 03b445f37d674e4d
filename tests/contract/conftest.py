"""Fixtures with empty stores of every kind, for the store contracts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import BaseStore

from memory.store import ChromaStore
from tests.stores import OURS, THEIRS, TTL, Clock, chroma_store, langgraph_store


@pytest.fixture(params=THEIRS + OURS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[BaseStore]:
    """Empty store that indexes `$`."""
    if kind in THEIRS:
        with langgraph_store(kind) as theirs:
            yield theirs
    else:
        with chroma_store(kind, tmp_path, lambda: str(request.getfixturevalue("chroma_url"))) as ours:
            yield ours


@pytest.fixture(params=["SqliteStore", *OURS])
def mortal(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Any, Clock]]:
    """Empty store with a default time to live of 30 minutes, and its clock."""
    clock = Clock(monkeypatch)
    if request.param == "SqliteStore":
        with langgraph_store(request.param, TTL) as theirs:
            yield theirs, clock
    else:
        with chroma_store(request.param, tmp_path, lambda: str(request.getfixturevalue("chroma_url")), TTL) as ours:
            yield ours, clock


@pytest.fixture(params=OURS)
def ours(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ChromaStore]:
    """Empty `ChromaStore` that indexes `$`."""
    with chroma_store(request.param, tmp_path, lambda: str(request.getfixturevalue("chroma_url"))) as store:
        yield store
