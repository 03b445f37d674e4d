"""Routes of LangGraph's store API that the page uses, for the memory under BILLP_HOME without a LangGraph server."""

import asyncio
import json
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from graph.server.app import MAX_QUERY
from memory.chroma.errors import BadStoreError
from memory.store import ChromaStore, configured, open_to_read

Labels = list[str]
Read = TypeVar("Read")
# Numbers of records and namespaces that a request gets if it names none, as of LangGraph's server.
SOME = 10
MANY = 100


class _Listed(BaseModel):
    prefix: Labels = []
    max_depth: int | None = Field(None, ge=1)
    limit: int = Field(MANY, ge=1)
    offset: int = Field(0, ge=0)


class _Searched(BaseModel):
    namespace_prefix: Labels = []
    query: str | None = Field(None, max_length=MAX_QUERY)
    limit: int = Field(SOME, ge=1)
    offset: int = Field(0, ge=0)


class _Named(BaseModel):
    namespace: Labels = Field(min_length=1)
    key: str


class OpenMemory:
    """Memory under BILLP_HOME, opened by the first request after it exists, and kept open until `close`.

    A folder that may not be written is read from a copy, and nothing is deleted in it.
    """

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._store: ChromaStore | None = None
        self._lock = threading.Lock()

    async def read(self, work: Callable[[ChromaStore], Read]) -> Read:
        """Return the result of some work with the store, done in a thread.

        Raises:
            StoreError: The memory is in use by another process, or cannot be opened.
        """
        return await asyncio.to_thread(self._read, work)

    async def delete(self, namespace: tuple[str, ...], key: str) -> None:
        """Delete a record.

        Raises:
            BadStoreError: The folder of the memory may not be written.
            StoreError: As for `read`.
        """
        await asyncio.to_thread(self._delete, namespace, key)

    def _delete(self, namespace: tuple[str, ...], key: str) -> None:
        where = configured()
        if "://" not in where and Path(where).exists() and not os.access(where, os.W_OK):
            raise BadStoreError(f"the memory {where} may not be written, so nothing is deleted: allow writes to it")
        self._read(lambda store: store.delete(namespace, key))

    def _read(self, work: Callable[[ChromaStore], Read]) -> Read:
        store = self._opened_store()
        if store is not None:
            return work(store)
        with ChromaStore() as empty:
            return work(empty)

    def _opened_store(self) -> ChromaStore | None:
        """Return the open store; None for a folder that does not exist yet, because a visit may make it later."""
        with self._lock:
            where = configured()
            if self._store is None and ("://" in where or Path(where).exists()):
                self._store = self._opened.enter_context(open_to_read())
            return self._store

    def close(self) -> None:
        """Close the memory, so that other processes may open it."""
        with self._lock:
            self._opened.close()
            self._store = None


def store_routes(memory: OpenMemory) -> list[BaseRoute]:
    """Return the routes: list namespaces, search records, delete one."""

    async def namespaces(request: Request) -> Response:
        asked = _Listed.model_validate_json(await request.body())
        found = await memory.read(
            lambda store: store.list_namespaces(
                prefix=tuple(asked.prefix), max_depth=asked.max_depth, limit=asked.limit, offset=asked.offset
            )
        )
        return JSONResponse({"namespaces": [list(one) for one in found]})

    async def search(request: Request) -> Response:
        asked = _Searched.model_validate_json(await request.body())
        found = await memory.read(
            lambda store: store.search(
                tuple(asked.namespace_prefix),
                query=asked.query,
                limit=asked.limit,
                offset=asked.offset,
                # To look at a record prolongs no life.
                refresh_ttl=False,
            )
        )
        return Response(json.dumps({"items": [one.dict() for one in found]}), media_type="application/json")

    async def delete(request: Request) -> Response:
        named = _Named.model_validate_json(await request.body())
        await memory.delete(tuple(named.namespace), named.key)
        return Response(status_code=204)

    return [
        Route("/store/namespaces", namespaces, methods=["POST"]),
        Route("/store/items/search", search, methods=["POST"]),
        Route("/store/items", delete, methods=["DELETE"]),
    ]
