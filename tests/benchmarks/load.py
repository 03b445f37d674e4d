"""Benchmark of a server under load: `make load`. It prints the results next to the aims and asserts nothing.

`python -m tests.benchmarks.load --operations 200` measures only the memory, with fewer operations.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import numpy as np
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from rich.console import Console

from nodes.tools.open_world import close_worlds, open_world_now
from tests.processes import run
from tests.servers import Server, serving

CONCURRENT = 200
CONNECTIONS = 100
OPERATIONS = 2_000
SAMPLES = 10
STEPS = 5
MEMORY_STEPS = 2
AT_ONCE = 10
# Seconds between two reads of a state: often enough for a 95% quantile, rare enough to add no load.
PAUSE = 0.02
PROBE = Path(__file__).with_name("probe.py")
# Number of holders named in a row about memory.
HOLDERS = 4
Row = tuple[str, str, str]


class Load(NamedTuple):
    """Measurements of many visits at once."""

    seconds: float
    outputs: list[dict[str, Any]]
    reads: list[float]
    """Seconds of each read of a state during the visits."""

    def quantile(self, share: float) -> float:
        """Return the quantile of the read times at `share`, in milliseconds."""
        return float(np.quantile(self.reads, share) * 1e3)


async def visit_at_once(url: str, visit: dict[str, Any], count: int, **run: Any) -> Load:
    """Run each visit on its own thread, and read the states of the threads in turn until all visits have finished."""
    # A client has at most 100 connections. If runs hold all of them, it cannot read a state.
    waiting = [get_client(url=url, timeout=600) for _ in range(0, count, CONNECTIONS)]
    client = get_client(url=url, timeout=600)
    threads = [(await client.threads.create())["thread_id"] for _ in range(count)]
    start = time.perf_counter()
    running = asyncio.gather(
        *(
            waiting[number // CONNECTIONS].runs.wait(thread, "episode", input=visit, **run)
            for number, thread in enumerate(threads)
        )
    )
    reads: list[float] = []
    while not running.done():
        asked = time.perf_counter()
        await client.threads.get_state(threads[len(reads) % count])
        reads.append(time.perf_counter() - asked)
        await asyncio.sleep(PAUSE)
    outputs: Any = await running
    return Load(time.perf_counter() - start, outputs, reads)


def memory_of(pid: int) -> float:
    """Return the resident memory of a process in megabytes."""
    shown = run(["ps", "-o", "rss=", "-p", str(pid)], check=True)
    return int(shown.stdout) / 1024


async def memory_over(server: Server, count: int, one: Callable[[int], Awaitable[Any]]) -> list[float]:
    """Run an operation `count` times, ten at once; return the server's megabytes at the start and after each tenth."""
    sizes = [memory_of(server.process.pid)]
    for sample in range(SAMPLES):
        size = max(1, count // SAMPLES // AT_ONCE)
        for turn in range(size):
            start = (sample * size + turn) * AT_ONCE
            await asyncio.gather(*(one(number) for number in range(start, start + AT_ONCE)))
        sizes.append(memory_of(server.process.pid))
    return sizes


def growth(sizes: list[float], count: int) -> str:
    """Describe the course of memory, and its growth per thousand operations in the second half."""
    half = sizes[len(sizes) // 2 :]
    slope = float(np.polyfit(range(len(half)), half, 1)[0]) * SAMPLES / count * 1000
    return f"{' '.join(f'{size:.0f}' for size in sizes)} MB; {slope:+.1f} MB for 1,000"


def held_by(held: dict[str, int], count: int) -> str:
    """Describe the largest holders of the memory left by some operations, of all code and of this project."""
    kilobytes = {holder: size / 1024 / count for holder, size in held.items()}
    most = ", ".join(f"{holder} {size:.1f}" for holder, size in list(kilobytes.items())[:HOLDERS])
    ours = {holder: size for holder, size in kilobytes.items() if "/" in holder}
    own = ", ".join(f"{holder} {size:.1f}" for holder, size in list(ours.items())[:HOLDERS])
    return f"kB an operation: {sum(kilobytes.values()):.1f} ({most}); ours {sum(ours.values()):.1f} ({own})"


@contextmanager
def built(worlds: list[str]) -> Iterator[Path]:
    """Yield a temporary folder with a home in which these worlds are built."""
    base = Path(tempfile.mkdtemp(prefix="billp-load-"))
    os.environ["BILLP_HOME"] = str(base / "built")
    try:
        for world in worlds:
            open_world_now(world)
        close_worlds()
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


def measure_load(base: Path, world: str) -> list[Row]:
    """Measure many visits at once in a world."""
    visit: dict[str, Any] = {"world": world, "max_steps": STEPS}

    async def measured(url: str) -> Load:
        async with get_client(url=url, timeout=600) as client:
            # The first visit opens the world.
            await client.runs.wait(None, "episode", input=visit)
            return await visit_at_once(url, visit, CONCURRENT)

    with serving(folder(base, f"load-{world}"), base / "built") as server:
        load = asyncio.run(measured(server.url))
    rounds = sum(len(output["steps"]) for output in load.outputs) / CONCURRENT
    p50, p95, most = (load.quantile(share) for share in (0.5, 0.95, 1.0))
    return [
        (
            f"{world}: {CONCURRENT} visits at once ({rounds:.1f} rounds)",
            f"{CONCURRENT / load.seconds:.1f} visits a second",
            "no error",
        ),
        (
            f"{world}: a state is read meanwhile ({len(load.reads)} times)",
            f"p50 {p50:.0f}, p95 {p95:.0f}, at most {most:.0f} ms",
            "p95 under 500 ms",
        ),
    ]


VISIT: dict[str, Any] = {"world": "tiny", "max_steps": MEMORY_STEPS}
FORGETFUL = {"learn": "off"}


async def visit_stateless(client: LangGraphClient, number: int) -> None:
    await client.runs.wait(None, "episode", input=VISIT, context=FORGETFUL)


async def visit_and_learn(client: LangGraphClient, number: int) -> None:
    await client.runs.wait(None, "episode", input=VISIT, context={"learn": "now"})


async def visit_on_thread(client: LangGraphClient, number: int) -> str:
    thread: str = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "episode", input=VISIT, context=FORGETFUL)
    return thread


async def visit_and_delete(client: LangGraphClient, number: int) -> None:
    await client.threads.delete(await visit_on_thread(client, number))


async def be_refused(client: LangGraphClient, number: int) -> None:
    impossible = VISIT | {"max_steps": 0, "user_id": f"nobody {number}"}
    await client.runs.wait(None, "episode", input=impossible, context=FORGETFUL, raise_error=False)


async def edit(client: LangGraphClient, number: int) -> None:
    # One thread for each of the concurrent operations.
    thread = str(UUID(int=number % AT_ONCE))
    await client.threads.create(thread_id=thread, if_exists="do_nothing", graph_id="episode")
    await client.threads.update_state(thread, {"plan": f"Recommend {number}."})


async def search(client: LangGraphClient, number: int) -> None:
    await client.store.search_items(["experiences"], query=f"a tale of {number} cities")


async def put(client: LangGraphClient, number: int) -> None:
    value = {"text": f"note {number}"}
    await client.store.put_item(["notes", "ann"], key=str(number), value=value, index=["text"])


async def put_again(client: LangGraphClient, number: int) -> None:
    await put(client, number % AT_ONCE)


# Stored threads, lessons and records are no leak. They are separate kinds, so that a leak shows.
KINDS: dict[str, tuple[Callable[[LangGraphClient, int], Awaitable[Any]], str]] = {
    "stateless visits, nothing learnt": (visit_stateless, "flat"),
    "stateless visits, learning": (visit_and_learn, ""),
    "visits on threads that are deleted": (visit_and_delete, "flat"),
    "visits on threads that are kept": (visit_on_thread, ""),
    "refused inputs": (be_refused, "flat"),
    "edits of a state": (edit, ""),
    "searches of the store": (search, "flat"),
    "records put again": (put_again, "flat"),
    "new records put": (put, ""),
}


def measure_memory(base: Path, kind: str, count: int) -> Iterator[Row]:
    """Measure a server's memory over many operations of a kind, and the holders of the memory left by some more."""
    one, aim = KINDS[kind]
    traced = max(AT_ONCE, count // SAMPLES)

    async def measured(server: Server) -> tuple[list[float], dict[str, int]]:
        async with (
            get_client(url=server.url, timeout=600) as client,
            httpx.AsyncClient(base_url=server.url, timeout=600) as probe,
        ):
            sizes = await memory_over(server, count, partial(one, client))
            (await probe.post("/held")).raise_for_status()
            for number in range(traced):
                await one(client, count + number)
            held: dict[str, int] = (await probe.get("/held")).raise_for_status().json()
            return sizes, held

    with serving(folder(base, kind.replace(" ", "-")), base / "built", http={"app": f"{PROBE}:app"}) as server:
        sizes, held = asyncio.run(measured(server))
    yield f"{count:,} {kind}", growth(sizes, count), aim
    yield "… of which is held", held_by(held, traced), ""


def folder(base: Path, name: str) -> Path:
    """Create a folder."""
    (base / name).mkdir()
    return base / name


def main() -> None:
    """Run all measurements and print each row as soon as it is known."""
    parser = argparse.ArgumentParser(description="Measure a server under load, and its memory by kind of operation.")
    parser.add_argument("--operations", type=int, help="measure memory alone, over so many operations of each kind")
    count: int | None = parser.parse_args().operations
    if count is not None and count < SAMPLES * AT_ONCE:
        parser.error(f"--operations is at least {SAMPLES * AT_ONCE}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{os.cpu_count()} cores, model rules, visits of {STEPS} rounds ({MEMORY_STEPS} for memory)")
    with built(["tiny"] if count else ["tiny", "movielens"]) as base:
        for world in () if count else ("tiny", "movielens"):
            for row in measure_load(base, world):
                show(console, row)
        for kind in KINDS:
            for row in measure_memory(base, kind, count or OPERATIONS):
                show(console, row)


def show(console: Console, row: Row) -> None:
    """Print a row."""
    label, value, aim = row
    console.print(f"{label:<50} {value}" + (f"  (aim: {aim})" if aim else ""))


if __name__ == "__main__":
    main()
