"""Memory of a running LangGraph server, read through the server: it keeps the folder of its memory locked."""

import asyncio
import json
from datetime import datetime
from typing import Any, NamedTuple

from langgraph.store.base import SearchItem
from langgraph_sdk.schema import Item

from graph.server.client import connected
from memory.chroma.layout import StoredRecord
from memory.search.filters import Namespace

# Records in one answer of the server.
PAGE_OF_ITEMS = 1_000


class ServerMemory(NamedTuple):
    """Memory of a server; an account reads what its token allows."""

    url: str

    def records(self, prefix: Namespace = ()) -> list[StoredRecord]:
        """Return all records below `prefix`, sorted by namespace and key.

        Raises:
            BillpError: The server does not answer, or refuses the request.
        """
        return sorted(map(stored, asyncio.run(self._all(prefix))), key=lambda one: one.place)

    def search(self, prefix: Namespace, *, query: str, limit: int, refresh_ttl: bool) -> list[SearchItem]:
        """Return the records below `prefix` that are most similar to a text, with their scores, as `records`."""
        found = asyncio.run(self._found(prefix, query=query, limit=limit, refresh_ttl=refresh_ttl))
        return [SearchItem(score=one.get("score"), **_fields(one)) for one in found]

    async def _all(self, prefix: Namespace) -> list[Item]:
        items: list[Item] = []
        async with connected(self.url) as client:
            size = PAGE_OF_ITEMS
            while size == PAGE_OF_ITEMS:
                page = await client.store.search_items(
                    prefix, offset=len(items), limit=PAGE_OF_ITEMS, refresh_ttl=False
                )
                size = len(page["items"])
                items += page["items"]
        return items

    async def _found(self, prefix: Namespace, **wanted: Any) -> list[Any]:
        async with connected(self.url) as client:
            return list((await client.store.search_items(prefix, **wanted))["items"])


def _fields(item: Item) -> dict[str, Any]:
    times = {name: datetime.fromisoformat(str(item[name])) for name in ("created_at", "updated_at")}
    return {"namespace": tuple(item["namespace"]), "key": item["key"], "value": item["value"], **times}


def stored(item: Item) -> StoredRecord:
    """Return a record in the form of a folder's; the server tells nothing of its vectors."""
    fields = _fields(item)
    text = json.dumps(fields.pop("value"))
    return StoredRecord(**fields, text=text, paths=(), vectors=0, token="")
