"""Measure a server under load: `make load`. Prints what it measured; the aims stand beside, nothing is asserted."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from langgraph_sdk import get_client
from rich.console import Console

from nodes.worlds import close_places, open_place_now
from tests.servers import Server, serving

CONCURRENT = 200
CONNECTIONS = 100
VISITS = 2_000
SAMPLES = 10
STEPS = 5
MEMORY_STEPS = 2
# Seconds between two reads of a state: often enough for a 95% quantile, too seldom to be a load of their own.
PAUSE = 0.02
Kind = Literal["stateless", "threads deleted", "threads kept"]
# What a server keeps of a thread is no leak, and neither is what it learns: apart, so that a leak shows.
MEMORY: tuple[tuple[Kind, str], ...] = (
    ("stateless", "off"),
    ("threads deleted", "off"),
    ("threads kept", "off"),
    ("stateless", "now"),
)
Row = tuple[str, str, str]


class Load(NamedTuple):
    """What many visits at once were like."""

    seconds: float
    outputs: list[dict[str, Any]]
    reads: list[float]
    """Seconds that each read of a state took meanwhile."""

    def quantile(self, share: float) -> float:
        """Return the milliseconds within which that share of the reads was answered."""
        return float(np.quantile(self.reads, share) * 1e3)


async def visit_at_once(url: str, visit: dict[str, Any], count: int, **run: Any) -> Load:
    """Run visits, each on a thread of its own, and read the state of one thread after the other meanwhile."""
    # A client holds at most 100 connections, and one that waits for runs on all of them can read no state.
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
    """Return the megabytes that a process holds."""
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(shown.stdout) / 1024


async def memory_over(server: Server, count: int, visit_one: Callable[[], Awaitable[Any]]) -> list[float]:
    """Run visits, ten at once, and return the server's megabytes at the start and after each tenth of them."""
    sizes = [memory_of(server.pid)]
    for _ in range(SAMPLES):
        for _ in range(count // SAMPLES // 10):
            await asyncio.gather(*(visit_one() for _ in range(10)))
        sizes.append(memory_of(server.pid))
    return sizes


def growth(sizes: list[float], count: int) -> str:
    """Say how memory went, and how much it grew for each thousand visits in the second half."""
    half = sizes[len(sizes) // 2 :]
    slope = float(np.polyfit(range(len(half)), half, 1)[0]) * SAMPLES / count * 1000
    return f"{' '.join(f'{size:.0f}' for size in sizes)} MB; {slope:+.1f} MB for 1,000 visits"


@contextmanager
def built(worlds: list[str]) -> Iterator[Path]:
    """Yield a folder in which a home with these worlds is built."""
    base = Path(tempfile.mkdtemp(prefix="billp-load-"))
    os.environ["BILLP_HOME"] = str(base / "built")
    try:
        for world in worlds:
            open_place_now(world)
        close_places()
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


def measure_memory(base: Path, kind: Kind, learn: str) -> Row:
    """Measure the memory of a server of its own over many visits."""
    visit: dict[str, Any] = {"world": "tiny", "max_steps": MEMORY_STEPS}

    async def measured(server: Server) -> list[float]:
        async with get_client(url=server.url, timeout=600) as client:

            async def one() -> None:
                context = {"learn": learn}
                if kind == "stateless":
                    await client.runs.wait(None, "episode", input=visit, context=context)
                    return
                thread = (await client.threads.create())["thread_id"]
                await client.runs.wait(thread, "episode", input=visit, context=context)
                if kind == "threads deleted":
                    await client.threads.delete(thread)

            return await memory_over(server, VISITS, one)

    label = f"{kind}, {'learning' if learn == 'now' else 'nothing learnt'}"
    with serving(folder(base, label.replace(" ", "-")), base / "built") as server:
        sizes = asyncio.run(measured(server))
    return f"memory over {VISITS:,} visits, {label}", growth(sizes, VISITS), "flat"


def folder(base: Path, name: str) -> Path:
    """Make a folder."""
    (base / name).mkdir()
    return base / name


def main() -> None:
    """Measure everything, and print each row once it is known."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{os.cpu_count()} cores, model rules, visits of {STEPS} rounds ({MEMORY_STEPS} for memory)")
    with built(["tiny", "movielens"]) as base:
        for world in ("tiny", "movielens"):
            for row in measure_load(base, world):
                show(console, row)
        for kind, learn in MEMORY:
            show(console, measure_memory(base, kind, learn))


def show(console: Console, row: Row) -> None:
    """Print a row."""
    label, value, aim = row
    console.print(f"{label:<62} {value}  (aim: {aim})")


if __name__ == "__main__":
    main()
