"""Changes since a mark, on stores of every kind: whoever applies them holds exactly what a full read gives."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from langgraph.store.base import BaseStore, GetOp, Op, PutOp
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite.aio import AsyncSqliteStore

from memory.access import Account, ScopedStore
from memory.changes import Changes, Mark, read_changes
from memory.chroma import ttl
from memory.chroma.connection import Table
from memory.chroma.errors import AccessDeniedError, StoreError
from memory.chroma.layout import WRITTEN, main_row_id
from memory.search.filters import Namespace, Place
from memory.store import ChromaStore
from tests import processes
from tests.stores import SQLITE, Clock, chroma, chroma_store

# Folders with and without an index follow changes in the same way.
KINDS = ["memory", "folder", "server"]
PLACES: list[Namespace] = [("a",), ("a", "b"), ("a", "b", "c"), ("a", "b", "d"), ("x", "b")]
PREFIXES: list[Namespace] = [(), ("a",), ("a", "b"), ("a", "b"), ("a", "b", "c")]


class Reader:
    """Follows the records below a prefix by applying the changes."""

    def __init__(self, prefix: Namespace) -> None:
        self.prefix = prefix
        self.mark: Mark | None = None
        self.held: dict[Place, tuple[dict[str, Any], datetime | None]] = {}

    async def follow(self, store: BaseStore) -> Changes:
        changes = await read_changes(store, self.prefix, self.mark)
        places = [one.place for one in changes.written]
        assert len({*places, *changes.gone}) == len(places) + len(changes.gone)
        assert not (changes.whole and changes.gone)
        if changes.whole:
            self.held.clear()
        for place in changes.gone:
            self.held.pop(place, None)
        self.held |= {one.place: (one.value, one.until) for one in changes.written}
        self.mark = changes.mark
        return changes

    def living(self) -> dict[Place, tuple[dict[str, Any], datetime | None]]:
        return {place: one for place, one in self.held.items() if one[1] is None or one[1] > ttl.now()}


def everything(store: ChromaStore, prefix: Namespace) -> dict[Place, tuple[dict[str, Any], datetime | None]]:
    return {one.place: (one.value, one.lifetime.until if one.lifetime else None) for one in store.records(prefix)}


@pytest.fixture(params=KINDS)
def ours(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ChromaStore]:
    """Empty `ChromaStore`."""
    with chroma_store(request.param, tmp_path, lambda: str(request.getfixturevalue("chroma_url"))) as store:
        yield store


class OpenStore:
    """Store of any of our kinds that can be opened again: a folder anew, a server by a new client."""

    def __init__(self, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        self._where: str | Path | None = None
        if kind == "server":
            self._where = request.getfixturevalue("chroma_url")
        elif kind == "folder":
            self._where = tmp_path / "memory"
        self.now = self._opened()
        self.now.batch([PutOp(*one.place, None) for one in self.now.records()])

    def _opened(self) -> ChromaStore:
        return chroma(self._where)

    def reopen(self) -> None:
        if self._where is not None:
            self.now.close()
            self.now = self._opened()


@pytest.fixture(params=KINDS)
def reopened(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OpenStore]:
    one = OpenStore(request.param, tmp_path, request)
    yield one
    one.now.close()


def writes(rng: random.Random, step: int) -> list[Op]:
    return [
        PutOp(
            rng.choice(PLACES),
            rng.choice(["k", "l", "m"]),
            None if rng.random() < 0.3 else {"x": f"{step} {number}", "y": "y"},
            rng.choice([False, ["x"], ["x", "y"]]),
            ttl=rng.choice([None, None, 5, 20]),
        )
        for number in range(rng.choice([1, 1, 2, 5]))
    ]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
async def test_a_reader_at_random_times_holds_what_a_full_read_gives(
    reopened: OpenStore, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, rng = Clock(monkeypatch), random.Random(seed)
    readers = [Reader(prefix) for prefix in PREFIXES]
    shared = reopened.now.connection.shared
    for step in range(25 if shared else 60):
        store = reopened.now
        match rng.choice(["write", "write", "write", "read", "wait", "other"]):
            case "write":
                await store.abatch(writes(rng, step))
            case "read":
                await store.abatch([GetOp(place, "k") for place in PLACES])
            case "wait":
                clock.pass_for(store, rng.choice([0.1, 3, 7]))
            case "other":
                match rng.choice(["reopen", "sweep", "drop"]):
                    case "reopen":
                        await asyncio.to_thread(reopened.reopen)
                    case "sweep":
                        await asyncio.to_thread(store.sweep_ttl)
                    case "drop":
                        store.worker.submit(store.backend.drop_caches).result()
        for reader in rng.sample(readers, rng.choice([0, 1, 2])):
            await reader.follow(reopened.now)
            assert reader.living() == everything(reopened.now, reader.prefix)
    for reader in readers:
        await reader.follow(reopened.now)
        assert reader.living() == everything(reopened.now, reader.prefix)
        again = await reader.follow(reopened.now)
        assert (again.written, again.gone, again.whole) == ([], [], False)


async def test_readers_beside_writers_hold_it_in_the_end(ours: ChromaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small steps, so that many reads and writes come in between.
    monkeypatch.setattr("memory.chroma.remote.ROWS_A_STEP", 3)
    steps = 8 if ours.connection.shared else 20
    readers = [Reader(prefix) for prefix in PREFIXES]
    over = asyncio.Event()

    async def write(seed: int) -> None:
        rng = random.Random(seed)
        for step in range(steps):
            await ours.abatch(writes(rng, step))

    async def follow(reader: Reader) -> None:
        while not over.is_set():
            await reader.follow(ours)
            await asyncio.sleep(0)

    async def give_up() -> None:
        while not over.is_set():
            reading = asyncio.create_task(read_changes(ours, ("a", "b"), None))
            await asyncio.sleep(0.001)
            reading.cancel()
            await asyncio.wait([reading])

    following = [asyncio.create_task(follow(reader)) for reader in readers]
    following.append(asyncio.create_task(give_up()))
    try:
        await asyncio.gather(*map(write, range(3)))
    finally:
        over.set()
        await asyncio.gather(*following)
    for reader in readers:
        await reader.follow(ours)
        assert reader.living() == everything(ours, reader.prefix)


async def test_only_what_changed_is_told(ours: ChromaStore) -> None:
    await ours.abatch([PutOp(("s", "w", str(n % 9)), str(n), {"n": n}, False, ttl=60) for n in range(50)])
    reader = Reader(("s", "w"))
    first = await reader.follow(ours)
    assert first.whole and len(first.written) == 50
    await ours.aput(("s", "w", "new"), "k", {"n": 50}, False)
    await ours.aput(("s", "w", "1"), "1", {"n": -1}, False)
    await ours.adelete(("s", "w", "2"), "2")
    await ours.aput(("s", "other"), "k", {})
    then = await reader.follow(ours)
    assert not then.whole and then.gone == [(("s", "w", "2"), "2")]
    told = {one.place: (one.value, one.until) for one in then.written}
    assert told == {(("s", "w", "new"), "k"): ({"n": 50}, None), (("s", "w", "1"), "1"): ({"n": -1}, None)}


async def test_a_read_of_changes_refreshes_nothing_but_tells_what_a_read_refreshed(
    ours: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, reader = Clock(monkeypatch), Reader(("s", "w"))
    await ours.aput(("s", "w"), "k", {}, False, ttl=10)
    await reader.follow(ours)
    _, until = reader.held[("s", "w"), "k"]
    clock.pass_for(ours, 6)
    assert await reader.follow(ours) == Changes([], [], False, reader.mark)
    await ours.aget(("s", "w"), "k")
    (change,) = (await reader.follow(ours)).written
    assert until is not None and change.until is not None and change.until > until
    # It is told as deleted once a sweep deletes it.
    clock.pass_for(ours, 11)
    assert not (await reader.follow(ours)).gone and not reader.living()
    await asyncio.to_thread(ours.sweep_ttl)
    assert (await reader.follow(ours)).gone == [(("s", "w"), "k")]


async def test_a_prefix_without_records_and_one_of_another_collection_later(ours: ChromaStore) -> None:
    reader, all_of_it = Reader(("fresh", "space")), Reader(("fresh",))
    for one in (reader, all_of_it):
        assert (await one.follow(ours)).whole and not one.held
    await ours.aput(("fresh", "space", "u"), "k", {"n": 1}, False)
    await ours.aput(("fresh", "more"), "k", {"n": 2}, False)
    for one, count in ((reader, 1), (all_of_it, 2)):
        changes = await one.follow(ours)
        assert not changes.whole and len(changes.written) == count
        assert one.living() == everything(ours, one.prefix)


async def test_a_mark_is_good_for_its_store_and_prefix_only(tmp_path: Path) -> None:
    with chroma(tmp_path / "one") as one, chroma(tmp_path / "two") as two:
        for store in (one, two):
            await store.aput(("s", "w"), "k", {}, False)
        mark = (await read_changes(one, ("s", "w"), None)).mark
        assert not (await read_changes(one, ("s", "w"), mark)).whole
        assert (await read_changes(two, ("s", "w"), mark)).whole
        assert (await read_changes(one, ("s",), mark)).whole
        assert (await read_changes(InMemoryStore(), ("s", "w"), mark)).whole
    with chroma(tmp_path / "one") as one:
        assert (await read_changes(one, ("s", "w"), mark)).whole
    with pytest.raises(StoreError, match="is closed"):
        await read_changes(one, ("s", "w"), mark)


async def test_a_reader_too_far_behind_reads_everything_again(
    ours: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.chroma.cache.LOGGED", 3)
    near, far = Reader(("s", "w")), Reader(("s", "w"))
    for number in range(6):
        await ours.aput(("s", "w"), str(number % 5), {"n": number}, False)
        assert (await near.follow(ours)).whole is (number == 0)
        if number == 0:
            await far.follow(ours)
    assert (await far.follow(ours)).whole and near.living() == far.living() == everything(ours, ("s", "w"))


async def test_a_failed_write_lets_readers_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with chroma(tmp_path) as store:
        reader = Reader(("s", "w"))
        await store.aput(("s", "w"), "k", {"n": 1}, False)
        await reader.follow(store)

        def fail(self: Table, **rows: Any) -> None:
            raise StoreError("no space")

        with monkeypatch.context() as patch:
            patch.setattr(Table, "delete", fail)
            with pytest.raises(StoreError):
                await store.aput(("s", "w"), "k", {"x": "a", "y": "b"}, ["x", "y"])
                await store.aput(("s", "w"), "k", {"n": 3}, False)
        assert (await reader.follow(store)).whole
        assert reader.living() == everything(store, ("s", "w"))


async def test_the_event_loop_runs_between_pages() -> None:
    with chroma() as store:
        await store.abatch([PutOp(("s", "w"), str(n), {"n": n}, False) for n in range(1_200)])
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        assert len((await read_changes(store, ("s", "w"), None)).written) == 1_200
        ticking.cancel()
        assert ticks >= 3


def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which the number of rows of each further read of Chroma is added."""
    read: list[int] = []
    get = Table.get

    def count(self: Table, **asked: Any) -> Any:
        page = get(self, **asked)
        read.append(len(page["ids"]))
        return page

    monkeypatch.setattr(Table, "get", count)
    return read


class TestOnAServer:
    """Other clients of the same server write and delete."""

    @pytest.fixture
    def clients(self, tmp_path: Path, chroma_url: str) -> Iterator[tuple[ChromaStore, ChromaStore]]:
        with ExitStack() as stack:
            one = stack.enter_context(chroma_store("server", tmp_path, lambda: chroma_url))
            yield one, stack.enter_context(chroma(chroma_url))

    async def test_another_process_is_followed(self, clients: tuple[ChromaStore, ChromaStore], chroma_url: str) -> None:
        mine, _ = clients
        await mine.abatch([PutOp(("s", "w"), f"k{n}", {"n": n}, False) for n in range(20)])
        reader = Reader(("s", "w"))
        await reader.follow(mine)
        script = """
import sys
from langgraph.store.base import PutOp
from tests.stores import chroma
with chroma(sys.argv[1]) as store:
    store.batch([PutOp(("s", "w"), f"k{n}", {"n": -n}, False) for n in range(5)])
    store.batch([PutOp(("s", "w"), f"k{n}", None) for n in range(5, 10)])
    store.batch([PutOp(("s", "w", "new"), f"k{n}", {"n": n}, False) for n in range(5)])
"""
        await asyncio.to_thread(processes.run, [sys.executable, "-c", script, chroma_url], check=True)
        changes = await reader.follow(mine)
        assert (changes.whole, len(changes.written), len(changes.gone)) == (False, 10, 5)
        assert reader.living() == everything(mine, ("s", "w"))

    async def test_it_reads_as_many_rows_as_have_changed(
        self, clients: tuple[ChromaStore, ChromaStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine, other = clients
        await mine.abatch([PutOp(("s", "w"), str(n), {"n": n}, False) for n in range(300)])
        reader, read = Reader(("s", "w")), rows_read(monkeypatch)
        await reader.follow(mine)
        read.clear()
        assert not (await reader.follow(mine)).written and read == [0]
        await other.aput(("s", "w"), "new", {}, False)
        read.clear()
        assert len((await reader.follow(mine)).written) == 1 and read == [1, 1]
        # What one reader has read is read again for another one that needs it.
        late = Reader(("s", "w"))
        assert len((await late.follow(mine)).written) == 301
        assert late.living() == reader.living()

    async def test_a_sweep_of_another_client_costs_no_read_of_all_ids(
        self, clients: tuple[ChromaStore, ChromaStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine, other = clients
        clock, reader = Clock(monkeypatch), Reader(("s", "w"))
        await mine.abatch([PutOp(("s", "w"), str(n), {}, False, ttl=10 if n < 3 else 100) for n in range(100)])
        await reader.follow(mine)
        clock.pass_for(mine, 11)
        assert not (await reader.follow(mine)).gone and len(reader.living()) == 97
        other.sweep_ttl()
        read = rows_read(monkeypatch)
        assert len((await reader.follow(mine)).gone) == 3 and sum(read) == 0

    async def test_slow_clocks_hide_no_change(
        self, clients: tuple[ChromaStore, ChromaStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine, other = clients
        reader = Reader(("s", "w"))
        await mine.aput(("s", "w"), "k", {"n": 1}, False)
        await reader.follow(mine)
        clock = Clock(monkeypatch)
        clock.pass_for(mine, -20 / 60)
        await other.aput(("s", "w"), "k", {"n": 2}, False)
        # Too slow by far: a new record and a deletion change the number of rows.
        clock.pass_for(mine, -60)
        await other.aput(("s", "w"), "new", {"n": 3}, False)
        clock.pass_for(mine, 60 + 20 / 60)
        await reader.follow(mine)
        assert {key: value for (_, key), (value, _) in reader.held.items()} == {"k": {"n": 2}, "new": {"n": 3}}
        await other.adelete(("s", "w"), "new")
        assert (await reader.follow(mine)).gone == [(("s", "w"), "new")]

    async def test_rows_of_earlier_versions_are_read_and_their_deletion_is_told(
        self, clients: tuple[ChromaStore, ChromaStore]
    ) -> None:
        mine, other = clients
        await mine.abatch([PutOp(("s", "w"), f"k{n}", {"n": n}, False) for n in range(3)])
        old: Any = {WRITTEN: None}
        other.backend.table(("s", "w")).update(
            ids=[main_row_id(("s", "w"), f"k{n}") for n in range(3)], metadatas=[old] * 3
        )
        reader = Reader(("s", "w"))
        await reader.follow(mine)
        await other.adelete(("s", "w"), "k0")
        await other.aput(("s", "w"), "k1", {"n": 10}, False)
        changes = await reader.follow(mine)
        assert ([one.value for one in changes.written], changes.gone) == ([{"n": 10}], [(("s", "w"), "k0")])

    async def test_an_invalid_row_hides_no_change(self, clients: tuple[ChromaStore, ChromaStore]) -> None:
        mine, other = clients
        reader = Reader(("s", "w"))
        await mine.aput(("s", "w"), "k", {"n": 1}, False)
        await reader.follow(mine)
        row = main_row_id(("s", "w"), "k")
        foreign: Any = {"value": "no JSON", WRITTEN: ttl.now().timestamp()}
        other.backend.table(("s", "w")).update(ids=[row], metadatas=[foreign])
        assert (await reader.follow(mine)).gone == [(("s", "w"), "k")]
        await other.aput(("s", "w"), "l", {"n": 2}, False)
        await other.aput(("s", "w"), "k", {"n": 3}, False)
        await reader.follow(mine)
        assert reader.living() == everything(mine, ("s", "w")) and len(reader.held) == 2

    async def test_a_server_that_lost_its_data_is_read_whole(self, clients: tuple[ChromaStore, ChromaStore]) -> None:
        mine, other = clients
        reader = Reader(("s", "w"))
        await mine.aput(("s", "w"), "k", {"n": 1}, False)
        await reader.follow(mine)
        other.connection.client.delete_collection(other.backend._name(("s", "w")))
        assert (await reader.follow(mine)).whole and not reader.held
        await mine.aput(("s", "w"), "k", {"n": 2}, False)
        assert not (await reader.follow(mine)).whole
        other.connection.client.delete_collection(other.backend._name(("s", "w")))
        with chroma(mine.connection.place) as third:
            await third.aput(("s", "w"), "l", {"n": 3}, False)
        assert (await reader.follow(mine)).whole
        assert reader.living() == everything(mine, ("s", "w")) != {}

    async def test_the_collection_read_longest_ago_is_dropped(
        self, clients: tuple[ChromaStore, ChromaStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("memory.chroma.remote.MOST_FOLLOWED", 2)
        mine, _ = clients
        readers = [Reader(("s", label)) for label in "abc"]
        for reader in readers:
            await mine.aput(reader.prefix, "k", {}, False)
            await reader.follow(mine)
        assert [(await reader.follow(mine)).whole for reader in reversed(readers)] == [False, False, True]


class TestWithPermissions:
    async def test_an_account_reads_changes_of_what_it_may_read_only(self, ours: ChromaStore) -> None:
        bob = ScopedStore(ours, Account("bob"))
        for space, user in (("tiny", "7"), ("people:tiny", "ann"), ("people:tiny", "bob")):
            await ours.aput(("lessons", space, user), "k", {"of": user}, False)
        shared, own = Reader(("lessons", "tiny")), Reader(("lessons", "people:tiny", "bob"))
        for reader in (shared, own):
            assert len((await reader.follow(bob)).written) == 1
            # The mark stays good, though each node has a scoped store of its own.
            assert not (await reader.follow(ScopedStore(ours, Account("bob")))).whole
        for prefix in ((), ("lessons",), ("lessons", "people:tiny"), ("lessons", "people:tiny", "ann")):
            with pytest.raises(AccessDeniedError):
                await read_changes(bob, prefix, None)
            with pytest.raises(AccessDeniedError):
                await read_changes(bob, prefix, shared.mark)


class TestOnOtherStores:
    """Stores that tell no changes are read whole whenever their number of records changes."""

    @pytest.fixture(params=["InMemoryStore", "AsyncSqliteStore"])
    async def other(self, request: pytest.FixtureRequest) -> AsyncIterator[BaseStore]:
        if request.param == "InMemoryStore":
            yield InMemoryStore()
            return
        async with aiosqlite.connect(**SQLITE) as connection:
            store = AsyncSqliteStore(connection)
            await store.setup()
            yield store

    async def test_they_are_read_whole_when_their_number_changes(
        self, other: BaseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("memory.changes.RECORDS_A_PAGE", 2)
        reader = Reader(("s", "1"))
        assert (await reader.follow(other)).whole and not (await reader.follow(other)).whole
        rng = random.Random(0)
        for step in range(40):
            place = rng.choice([("s", "1"), ("s", "1", "a"), ("s", "10"), ("t", "1")])
            if rng.random() < 0.4:
                await other.adelete(place, rng.choice("kl"))
            else:
                await other.aput(place, rng.choice("kl"), {"n": step})
            before = {*reader.held}
            await reader.follow(other)
            found = await other.asearch((), limit=99)
            expected = {(one.namespace, one.key): one.value for one in found if one.namespace[:2] == ("s", "1")}
            assert {*reader.held} == {*expected}
            if before != {*expected}:
                assert {at: value for at, (value, _) in reader.held.items()} == expected
        assert await read_changes(other, ("s", "1"), reader.mark) == Changes([], [], False, reader.mark)

    async def test_a_record_written_between_two_pages_is_found_by_the_next_read(
        self, other: BaseStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("memory.changes.RECORDS_A_PAGE", 2)
        for key in "aceg":
            await other.aput(("s", "1"), key, {})
        search, reader = type(other).asearch, Reader(("s", "1"))
        keys = iter("bh")

        async def interrupted(self: BaseStore, *args: Any, **options: Any) -> Any:
            page = await search(self, *args, **options)
            if key := next(keys, ""):
                await other.aput(("s", "1"), key, {})
            return page

        monkeypatch.setattr(type(other), "asearch", interrupted)
        await reader.follow(other)
        await reader.follow(other)
        assert sorted(key for _, key in reader.held) == [*"abcegh"]
