"""Memory without a LangGraph server, by the routes of `billp view`: missing, read-only, of limited life."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from graph.web.view import view_app
from memory.store import ChromaStore

WHERE = ("lessons", "tiny", "ann")
NAMED = {"namespace": [*WHERE], "key": "one"}


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of the memory, which does not exist yet."""
    monkeypatch.setenv("BILLP_HOME", str(tmp_path))
    yield tmp_path / "memory"


def write(folder: Path) -> None:
    with ChromaStore(folder) as store:
        store.put(WHERE, "one", {"text": "Keep close."}, index=False)


@asynccontextmanager
async def view() -> AsyncIterator[httpx.AsyncClient]:
    app = view_app()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as page,
    ):
        yield page


async def keys(page: httpx.AsyncClient) -> list[str]:
    found = await page.post("/store/items/search", json={"namespace_prefix": ["lessons"]})
    assert found.status_code == 200, found.text
    return [one["key"] for one in found.json()["items"]]


async def test_nothing_is_deleted_in_a_folder_that_may_not_be_written(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(write, memory)
    permitted = os.access

    def read_only(path: Any, mode: int, **options: Any) -> bool:
        # The superuser may write anywhere, whatever the folder's mode.
        return permitted(path, mode, **options) and not (Path(path) == memory and mode & os.W_OK)

    with monkeypatch.context() as patched:
        patched.setattr(os, "access", read_only)
        async with view() as page:
            assert await keys(page) == ["one"]
            refused = await page.request("DELETE", "/store/items", json=NAMED)
            assert refused.status_code == 422 and "may not be written" in refused.json()["detail"]
            assert await keys(page) == ["one"]


async def test_a_memory_that_a_visit_makes_later_is_shown(memory: Path) -> None:
    async with view() as page:
        assert await keys(page) == []
        assert (await page.request("DELETE", "/store/items", json=NAMED)).status_code == 204
        assert not await asyncio.to_thread(memory.exists)
        # No store is open, so another process may write.
        await asyncio.to_thread(write, memory)
        assert await keys(page) == ["one"]


async def test_to_look_at_a_record_does_not_prolong_its_life(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(write, memory)
    asked: list[bool | None] = []
    search = ChromaStore.search

    def noted(store: ChromaStore, *args: Any, **options: Any) -> Any:
        asked.append(options.get("refresh_ttl"))
        return search(store, *args, **options)

    monkeypatch.setattr(ChromaStore, "search", noted)
    async with view() as page:
        assert await keys(page) == ["one"]
        await page.post("/app/api/lessons", json={"prefix": ["lessons", "tiny"]})
    assert asked == [False, False]
