"""Benchmark of visits with an endpoint that answers after 200 ms: `python -m tests.benchmarks.endpoint`.

The endpoint runs in its own process, but on the same cores. The bound by latency is the time of the same visits in the
same places if only the 200 ms of each call took time; visits with few calls leave places empty at the end. The bound by
a core is one over the CPU time of a call here.
"""

import asyncio
import heapq
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage
from rich.console import Console
from rich.table import Table

from graph.episode import build_variant
from graph.study.schedule import visitors
from graph.study.workers import spare_collector
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.actor import Choice
from nodes.ask import role_model
from nodes.context import Context
from nodes.llm.endpoint.client import call
from nodes.llm.prompting import build_messages
from nodes.llm.prompts import default_prompt
from nodes.state import VisitInput
from nodes.tools.open_world import default_world, load_world, open_world
from tests.processes import line_of, started

LATENCY = 0.2
VISITS = 100
STEPS = 10
CONCURRENCY = (10, 50)
LLM = Context(model="openai:scripted", learn="off")


class Measured(NamedTuple):
    """Measurements of a number of calls."""

    calls: int
    seconds: float
    least: float
    """Seconds that the calls would take by latency alone."""
    cpu: float
    threads: int
    megabytes: float
    """Growth of the peak resident size."""

    def row(self, label: str, concurrency: int) -> tuple[str, ...]:
        """Return the measurements as a row of the table."""
        bound, rate, each = self.calls / self.least, self.calls / self.seconds, self.cpu / self.calls
        return (
            label,
            str(concurrency),
            f"{rate:.0f}",
            f"{bound:.0f}",
            f"{rate / bound:.0%}",
            f"{each * 1e3:.1f} ms",
            f"{1 / each:.0f}",
            str(self.threads),
            f"{self.megabytes:+.0f} MB",
        )


@contextmanager
def endpoint() -> Iterator[str]:
    """Start an endpoint in its own process and yield its address."""
    command = [sys.executable, "-m", "tests.scripted", str(LATENCY)]
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        yield line_of(process)


async def measure(one: Callable[[int], Awaitable[int]], number: int, concurrency: int) -> Measured:
    """Run `one`, which returns its number of calls, `number` times with at most `concurrency` at once."""
    free, calls, threads = asyncio.Semaphore(concurrency), [0] * number, 0

    async def limited(index: int) -> None:
        nonlocal threads
        async with free:
            calls[index] = await one(index)
            threads = max(threads, threading.active_count())

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, start = time.process_time(), time.perf_counter()
    await asyncio.gather(*map(limited, range(number)))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size) / 1024
    seconds = time.perf_counter() - start
    return Measured(sum(calls), seconds, by_latency(calls, concurrency), time.process_time() - cpu, threads, grown)


def by_latency(calls: list[int], places: int) -> float:
    """Return the seconds that the visits take if each starts in the next free place and only latency takes time."""
    free = [0.0] * places
    for made in calls:
        heapq.heapreplace(free, free[0] + made * LATENCY)
    return max(free)


async def client_alone() -> Callable[[int], Awaitable[int]]:
    """Return a function that makes one call with a prompt of the Actor, without a visit."""
    model = await role_model(LLM, "actor")
    candidates = [
        {"title": f"Title {n}", "genres": ["Drama", "Comedy"], "predicted": 4.0, "distance": 0.5} for n in range(20)
    ]
    facts = {
        "role": "actor",
        "history": [],
        "rounds": [],
        "experiences": [],
        "plan": "",
        "to_come": {"rounds": 9, "reward": 4},
    }
    prompt: list[BaseMessage] = build_messages(default_prompt("actor"), facts | {"candidates": candidates}, 1500)

    async def one(_: int) -> int:
        await call(model, prompt, Choice)
        return 1

    return one


async def visit_of(variant: str, context: Context = LLM) -> Callable[[int], Awaitable[int]]:
    """Return a function that runs one visit of a variant."""
    opened = await open_world(default_world())
    users = visitors(opened.world, "train", VISITS, 0)
    spare_collector()
    graph: Any = build_variant(variant).compile(store=ChromaStore(embeddings=shared_embeddings()))

    async def one(index: int) -> int:
        visit = VisitInput(world=default_world(), user_id=users[index], seed=index, max_steps=STEPS)
        output = await graph.ainvoke(visit, context=context)
        return int(output["usage"].calls)

    return one


async def rows() -> list[tuple[str, ...]]:
    """Measure the client alone, visits, and the same visits without an endpoint."""
    client = await client_alone()
    visits = {variant: await visit_of(variant) for variant in ("act_only", "billp")}
    for one in (client, *visits.values()):
        await measure(one, 10, 10)
    found = []
    for concurrency in CONCURRENCY:
        found.append((await measure(client, 10 * concurrency, concurrency)).row("client alone", concurrency))
    for variant, one in visits.items():
        for concurrency in CONCURRENCY:
            found.append((await measure(one, VISITS, concurrency)).row(f"visits of {variant}", concurrency))
    rules = LLM.model_copy(update={"model": "rules"})
    for variant in visits:
        one = await visit_of(variant, rules)
        await measure(one, 10, 10)
        found.append((await measure(one, VISITS, 1)).row(f"{variant}, model rules", 1))
    return found


def of_worker(variant: str, number: int, concurrency: int) -> Measured:
    """Measure visits in a worker process, after a warm-up."""

    async def run() -> Measured:
        one = await visit_of(variant)
        await measure(one, 10, 10)
        return await measure(one, number, concurrency)

    return asyncio.run(run())


def together(variant: str, processes: int, concurrency: int) -> tuple[str, ...]:
    """Measure visits shared among processes, as in a study."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        parts = [
            pool.submit(of_worker, variant, VISITS // processes, concurrency // processes) for _ in range(processes)
        ]
        found = [part.result() for part in parts]
    whole = Measured(
        sum(one.calls for one in found),
        max(one.seconds for one in found),
        max(one.least for one in found),
        sum(one.cpu for one in found),
        max(one.threads for one in found),
        max(one.megabytes for one in found),
    )
    return whole.row(f"{variant}, {processes} processes", concurrency)


def main() -> None:
    """Run the benchmark and print a table."""
    base = Path(tempfile.mkdtemp(prefix="billp-bench-"))
    os.environ["BILLP_HOME"] = str(base)
    try:
        load_world(default_world())
        with endpoint() as os.environ["OPENAI_BASE_URL"]:
            table = Table(
                "measured", "at once", "calls/s", "latency\nallows", "share", "CPU\na call", "a core\nallows",
                "threads", "memory",
                title=f"{os.cpu_count()} cores, an endpoint that answers in {LATENCY * 1e3:.0f} ms",
            )  # fmt: skip
            for row in [*asyncio.run(rows()), together("billp", 2, CONCURRENCY[-1])]:
                table.add_row(*row)
            Console(width=110).print(table)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
