"""Benchmark of the store with 10,000 and 100,000 records, with FULL=1 also 1,000,000: `make bench-memory`.

Each size runs in its own process, in a folder and then on a Chroma server that serves it. Vectors have 384 dimensions
and form clusters, like the vectors of texts.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings
from langgraph.store.base import PutOp
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from memory.changes import Mark, read_changes
from memory.chroma.layout import ImportedRecord
from memory.search.vectors import Vector, unit
from memory.store import ChromaStore
from tests.processes import run
from tests.servers import serving_chroma

DIMENSION = 384
USERS = 1_000
CENTRES = 300
BATCH = 5_000
SEARCHES = 200
FOUND = 10
PUTS = 100
AT_ONCE = 50
CATCHING_UP = 10
PLACE = ("experiences", "world")


class Clusters(Embeddings):
    """Embeddings of numbers given as text: the same vector near one of the centres for the same number."""

    def __init__(self) -> None:
        self._centres = np.random.default_rng(0).standard_normal((CENTRES, DIMENSION))

    def vectors(self, numbers: range) -> Vector:
        """Return the unit vectors of `numbers`, shape (n, d)."""
        rng = np.random.default_rng(numbers.start + 1)
        centres = self._centres[rng.integers(0, CENTRES, len(numbers))]
        return unit(centres + 0.7 * rng.standard_normal((len(numbers), DIMENSION)))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        number = int(text) if text.isdecimal() else 0
        numbers: list[float] = self.vectors(range(number, number + 1))[0].tolist()
        return numbers


def kept(embeddings: Clusters, size: int) -> Iterator[list[ImportedRecord]]:
    """Yield the records in batches; each value is as long as the value of an experience."""
    at = datetime.now(UTC)
    for start in range(0, size, BATCH):
        numbers = range(start, min(start + BATCH, size))
        batch = []
        for number, vector in zip(numbers, embeddings.vectors(numbers), strict=True):
            value = {"situation": "A title of common length (Drama)\n" * 10, "number": number, "reward": 4.0}
            batch.append(
                ImportedRecord(PutOp((*PLACE, str(number % USERS)), str(number), value), (at, at), vector[np.newaxis])
            )
        yield batch


def disk(folder: Path) -> float:
    """Return the size of a folder in MB."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def resident() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def timed(call: Callable[[int], Awaitable[object]], count: int) -> str:
    """Run the call `count` times, and return the median and the 95th percentile of its time in ms."""
    times = []
    for number in range(count):
        start = time.perf_counter()
        await call(number)
        times.append(time.perf_counter() - start)
    p50, p95 = np.percentile(times, [50, 95]) * 1e3
    return f"{p50:.1f} / {p95:.1f} ms"


async def exactness(store: ChromaStore, embeddings: Clusters, size: int) -> str:
    """Return the share of the true nearest records that the store finds, over a few searches."""
    queries = [np.asarray(embeddings.embed_query(str(size + number)), dtype=np.float32) for number in range(20)]
    best: list[list[tuple[float, int]]] = [[] for _ in queries]
    for start in range(0, size, BATCH):
        numbers = range(start, min(start + BATCH, size))
        scores = embeddings.vectors(numbers) @ np.stack(queries).T
        for query, column in enumerate(scores.T):
            rows = np.argsort(-column)[:FOUND]
            best[query] = sorted([*best[query], *((float(column[row]), start + int(row)) for row in rows)])[-FOUND:]
    shares = []
    for query, nearest in enumerate(best):
        found = await store.asearch(PLACE, query=str(size + query), limit=FOUND)
        shares.append(len({item.key for item in found} & {str(number) for _, number in nearest}) / FOUND)
    return f"{np.mean(shares):.1%}"


async def longest_pause(call: Awaitable[Mark | None]) -> tuple[Mark | None, float]:
    """Return the result of a call, and the longest time in ms that the event loop stood still meanwhile."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - start - 0.001)

    watching = asyncio.create_task(watch())
    try:
        return await call, longest * 1e3
    finally:
        watching.cancel()


async def following(store: ChromaStore, writer: ChromaStore, where: str) -> dict[str, str]:
    """Return how long a reader of changes takes, for all records and to catch up with what `writer` writes."""

    async def read(mark: Mark | None) -> Mark | None:
        return (await read_changes(store, PLACE, mark)).mark

    before, start = resident(), time.perf_counter()
    mark, pause = await longest_pause(read(None))
    rows = {
        f"{where}: first read of changes": f"{time.perf_counter() - start:.1f} s",
        f"{where}: longest pause of the event loop": f"{pause:.0f} ms",
        f"{where}: memory that following takes": f"{resident() - before:,.0f} MB",
    }
    for new in (0, 1, 100):
        times = []
        for number in range(CATCHING_UP):
            place = (*PLACE, str(number))
            await writer.abatch([PutOp(place, f"{new} {one}", {"situation": "new"}) for one in range(new)])
            start = time.perf_counter()
            mark = await read(mark)
            times.append(time.perf_counter() - start)
        p50, p95 = np.percentile(times, [50, 95]) * 1e3
        rows[f"{where}: catch up with {new}, p50 / p95"] = f"{p50:.1f} / {p95:.1f} ms"
    return rows


async def following_on_a_server(folder: Path, embeddings: Clusters) -> dict[str, str]:
    """Return the same for a Chroma server that serves `folder`, to which another client writes."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    with (
        serving_chroma(folder) as server,
        ChromaStore(server.url, embeddings=embeddings) as store,
        ChromaStore(server.url, embeddings=embeddings) as writer,
    ):
        return await following(store, writer, "server")


async def measure(folder: Path, size: int) -> dict[str, str]:
    """Fill a store in `folder`, reopen it, and return the measurements."""
    embeddings = Clusters()
    seconds = 0.0
    with ChromaStore(folder, embeddings=embeddings) as store, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"load {size:,}", total=size)
        for batch in kept(embeddings, size):
            start = time.perf_counter()
            store.restore(batch)
            seconds += time.perf_counter() - start
            progress.advance(task, len(batch))
    rows = {"bulk load, records a second": f"{size / seconds:,.0f}", "disk": f"{disk(folder):,.0f} MB"}
    before = resident()
    start = time.perf_counter()
    with ChromaStore(folder, embeddings=embeddings) as store:
        await store.asearch(PLACE, query=str(size), limit=FOUND)
        rows["open and first search"] = f"{time.perf_counter() - start:.1f} s"
        rows["memory that an open store takes"] = f"{resident() - before:,.0f} MB"
        queries = [str(size + 100 + number) for number in range(SEARCHES)]
        rows["search all, p50 / p95"] = await timed(
            lambda number: store.asearch(PLACE, query=queries[number], limit=FOUND), SEARCHES
        )
        rows["search one user's, p50 / p95"] = await timed(
            lambda number: store.asearch((*PLACE, str(number)), query=queries[number], limit=FOUND), SEARCHES
        )
        rows[f"share of the nearest {FOUND} found"] = await exactness(store, embeddings, size)
        value = {"situation": "new"}
        rows["put one, p50 / p95"] = await timed(
            lambda number: store.aput((*PLACE, str(number)), f"new{number}", value), PUTS
        )
        start = time.perf_counter()
        await asyncio.gather(
            *(store.aput((*PLACE, str(number)), f"at once {number}", value) for number in range(AT_ONCE))
        )
        rows[f"put one, {AT_ONCE} at once"] = f"{(time.perf_counter() - start) * 1e3 / AT_ONCE:.1f} ms each"
        rows |= await following(store, store, "folder")
    return rows | await following_on_a_server(folder, embeddings)


def main() -> None:
    """Run each size in its own process, and print a table."""
    if len(sys.argv) == 2:
        with tempfile.TemporaryDirectory(prefix="billp-bench-") as folder:
            print(json.dumps(asyncio.run(measure(Path(folder, "memory"), int(sys.argv[1])))))
        return
    sizes = [10_000, 100_000, *([1_000_000] if os.environ.get("FULL") == "1" else [])]
    command = [sys.executable, "-m", "tests.benchmarks.memory"]
    # The largest size takes longer than any command of a test.
    runs = [run([*command, str(size)], timeout=3_600, check=True, stderr=None) for size in sizes]
    columns = [json.loads(done.stdout) for done in runs]
    table = Table("measured", *(f"{size:,}" for size in sizes), title=f"{os.cpu_count()} cores, {DIMENSION} dimensions")
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
