"""Many threads and tasks on one store of every kind: each sees its own acknowledged writes, and none is lost."""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langgraph.store.base import GetOp, ListNamespacesOp, Op, PutOp, SearchOp

from memory.search.filters import Namespace
from memory.store import ChromaStore

WRITERS = 3
Ask = Callable[[list[Op]], Awaitable[list[Any]]]


def steps(store: ChromaStore) -> int:
    """Return the number of writes of each writer: few on a server, where a read is many requests."""
    return 12 if store.connection.shared else 30


async def write(ask: Ask, name: str, steps: int, done: dict[tuple[Namespace, str], dict[str, Any]]) -> None:
    """Put, delete and read records of its own, half of them in new collections, and compare each with the model."""
    rng = random.Random(name)
    for step in range(steps):
        place: Namespace = rng.choice(
            [("shared", "pair", name), (name, f"new {step}"), (name, f"new {step // 4}", "u")]
        )
        key = rng.choice(["k", "l"])
        if rng.random() < 0.3:
            await ask([PutOp(place, key, None)])
            done.pop((place, key), None)
        else:
            value = {"x": f"{name} {step}", "y": step}
            index: Any = rng.choice([False, ["x"], ["x", "y"]])
            await ask([PutOp(place, key, value, index, ttl=rng.choice([None, 60, -1]))])
            done[place, key] = value
            if not (await ask([GetOp(place, key)]))[0]:  # A time to live that is over.
                del done[place, key]
        reads: list[Op] = [
            GetOp(place, key),
            SearchOp(place, limit=99),
            SearchOp(place, limit=99, query=f"{name} {step}"),
        ]
        item, listed, scored, spaces = await ask([*reads, ListNamespacesOp(limit=9_999)])
        own = {one for at, one in done if at == place}
        assert (item and item.value) == done.get((place, key))
        assert {one.key for one in listed if one.namespace == place} == own
        assert {one.key for one in scored if one.namespace == place} == own
        assert {at for at in spaces if name in at} == {at for at, _ in done}


async def read(ask: Ask, over: Callable[[], bool], sweep: Callable[[], Awaitable[int]]) -> None:
    """Read everything again and again, and delete expired records."""
    while not over():
        found, by_text, spaces = await ask(
            [SearchOp((), limit=99), SearchOp((), query="x", limit=99), ListNamespacesOp()]
        )
        for items in (found, by_text):
            names = [(item.namespace, item.key) for item in items]
            assert len(names) == len(set(names))
        assert len(spaces) == len(set(spaces))
        await sweep()


def check(store: ChromaStore, done: list[dict[tuple[Namespace, str], dict[str, Any]]]) -> None:
    expected = {place: value for own in done for place, value in own.items()}
    for _ in range(2):
        assert {one.place: one.value for one in store.records()} == expected
        assert set(store.list_namespaces(limit=9_999)) == {namespace for namespace, _ in expected}
        # A second time, as Chroma has them.
        store.worker.submit(store.backend.drop_caches).result()


@pytest.mark.slow
def test_threads_see_their_own_writes_beside_readers(ours: ChromaStore) -> None:
    over = threading.Event()
    done: list[dict[tuple[Namespace, str], dict[str, Any]]] = [{} for _ in range(WRITERS)]

    async def ask(ops: list[Op]) -> list[Any]:
        return ours.batch(ops)

    async def sweep() -> int:
        return ours.sweep_ttl()

    with ThreadPoolExecutor(WRITERS + 2) as threads:
        readers = [threads.submit(asyncio.run, read(ask, over.is_set, sweep)) for _ in range(2)]
        writers = [threads.submit(asyncio.run, write(ask, f"w{n}", steps(ours), own)) for n, own in enumerate(done)]
        try:
            for writer in writers:
                writer.result()
        finally:
            over.set()
        for reader in readers:
            reader.result()
    check(ours, done)


@pytest.mark.slow
async def test_tasks_of_one_loop_see_their_own_writes_beside_readers(ours: ChromaStore) -> None:
    over = asyncio.Event()
    done: list[dict[tuple[Namespace, str], dict[str, Any]]] = [{} for _ in range(WRITERS)]

    async def sweep() -> int:
        return await asyncio.to_thread(ours.sweep_ttl)

    readers = [asyncio.create_task(read(ours.abatch, over.is_set, sweep)) for _ in range(2)]
    try:
        await asyncio.gather(*(write(ours.abatch, f"w{n}", steps(ours), own) for n, own in enumerate(done)))
    finally:
        over.set()
        await asyncio.gather(*readers)
    check(ours, done)
