"""The store after SIGKILL during concurrent writes: every acknowledged write is stored, complete and once."""

import asyncio
import multiprocessing
import random
import time
from collections.abc import Iterator
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from memory.chroma import backend
from memory.store import ChromaStore
from tests.stores import chroma
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

KILLS = 20
TASKS = 8
BYTES = 20_000_000
"""Many times the size of these records."""
KEYS = 7
"""Keys that each task writes in turn, so that most writes replace a record with other vectors."""

Place = tuple[int, int]
State = dict[Place, int | None]
"""Number of the last write of each record, None if deleted, by task and key."""


def writes(round_: int) -> Iterator[tuple[int, int | None]]:
    """Yield the writes of a task in order: key and number of the write, None for a deletion."""
    for turn in count():
        number = round_ * 1_000_000 + turn
        yield number % KEYS, None if number % 5 == 4 else number


def texts(task: int, number: int) -> list[str]:
    return [f"{task}/{number}/{part}" for part in range(1 + number % 3)]


def namespace(task: int) -> tuple[str, ...]:
    return ("kinds", "world", f"user{task}")


def write_until_killed(folder: Path, round_: int, said: Connection) -> None:
    """Write in concurrent tasks, and report each write as soon as it is acknowledged."""

    async def write(store: ChromaStore, task: int) -> None:
        for key, number in writes(round_):
            if number is None:
                await store.adelete(namespace(task), str(key))
            else:
                value = {"number": number, "texts": texts(task, number), "long": f"{number} " * 200}
                await store.aput(namespace(task), str(key), value, index=["texts[*]"])
            said.send((task, key, number))

    async def main() -> None:
        async with chroma(folder) as store:
            said.send("open")
            await asyncio.gather(*(write(store, task) for task in range(TASKS)))

    # Write the index files much more often than usual, so that kills hit these writes.
    backend.INDEX = {"hnsw": {"space": "ip", "batch_size": 50, "sync_threshold": 60}}
    asyncio.run(main())


def run_and_kill(folder: Path, round_: int, seconds: float) -> list[list[tuple[int, int | None]]]:
    """Return, by task, the writes acknowledged before the kill."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["memory.store", "tests.stores"])
    heard, said = context.Pipe(duplex=False)
    process = context.Process(target=write_until_killed, args=(folder, round_, said))
    process.start()
    said.close()
    acknowledged: list[list[tuple[int, int | None]]] = [[] for _ in range(TASKS)]
    assert heard.poll(PATIENCE) and heard.recv() == "open"
    process.join(seconds)
    if round_ % 2:
        await_index(folder)
    assert process.is_alive(), "it ended by itself"
    process.kill()
    process.join()
    try:
        while True:
            task, key, number = heard.recv()
            acknowledged[task].append((key, number))
    except (EOFError, OSError):
        # A report cut off by the kill does not count as acknowledged.
        heard.close()
    return acknowledged


def await_index(folder: Path) -> None:
    """Wait until Chroma starts to write the index files, at most half a second."""
    deadline = time.monotonic() + 0.5
    before = written(folder)
    while written(folder) == before and time.monotonic() < deadline:
        pass


def written(folder: Path) -> set[tuple[int, int]]:
    """Return size and modification time of each file of the index."""
    found = (file.stat() for file in folder.glob("*/*.bin"))
    return {(one.st_size, one.st_mtime_ns) for one in found}


def possible(known: State, round_: int, acknowledged: list[list[tuple[int, int | None]]]) -> dict[Place, set[Any]]:
    """Return the possible states of each record: as acknowledged, or after the write that the kill interrupted."""
    may: dict[Place, set[Any]] = {place: {number} for place, number in known.items()}
    for task, done in enumerate(acknowledged):
        for key, number in done:
            may[task, key] = {number}
        planned = writes(round_)
        assert [next(planned) for _ in done] == done
        key, number = next(planned)
        may[task, key].add(number)
    return may


def found_by(store: ChromaStore, text: str) -> set[tuple[tuple[str, ...], str]]:
    """Return namespace and key of the records that have the vector of a text."""
    items = store.search(("kinds", "world"), query=text, limit=5)
    return {(item.namespace, item.key) for item in items if item.score == 1.0}


def test_after_many_kills_amid_concurrent_writes_all_that_was_acknowledged_is_there_once(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    chance = random.Random(0)
    known: State = {(task, key): None for task in range(TASKS) for key in range(KEYS)}
    heard = 0
    for round_ in range(KILLS):
        acknowledged = run_and_kill(folder, round_, chance.uniform(0.0, 0.8))
        heard += sum(map(len, acknowledged))
        may = possible(known, round_, acknowledged)
        with chroma(folder) as store:
            records = store.records()
            places = [(record.namespace, record.key) for record in records]
            assert len(set(places)) == len(places)
            now: State = dict.fromkeys(known)
            for record in records:
                task, key, number = int(record.namespace[-1][4:]), int(record.key), record.value["number"]
                now[task, key] = number
                assert record.value["texts"] == texts(task, number)
                assert record.value["long"] == f"{number} " * 200
                # Its own texts find this record and no other.
                assert all(found_by(store, text) == {record.place} for text in texts(task, number))
            wrong = {place: (number, may[place]) for place, number in now.items() if number not in may[place]}
            assert not wrong, f"kill {round_}"
            former = [
                (place[0], number) for place, number in known.items() if number is not None and now[place] != number
            ]
            assert not any(found_by(store, text) for task, number in former for text in texts(task, number))
        # Torn index files can make Chroma write files of gigabytes.
        assert sum(file.stat().st_size for file in folder.glob("**/*") if file.is_file()) < BYTES
        known = now
    # The kills must hit running writes, not come before them.
    assert heard > 5 * KILLS
