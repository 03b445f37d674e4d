"""Benchmark of speed: `make bench`. It prints the results next to the aims and asserts nothing."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import nodes.actor
import nodes.critic
import nodes.planner
from graph.episode import build_episode, build_variant
from graph.study.schedule import visitors
from memory.embeddings import LineMean, MiniLM, shared_embeddings
from memory.recall import RecallScope, recall_experiences, remember
from memory.records import Experience, record
from memory.store import ChromaStore
from memory.title_index import CatalogueIndex
from nodes.ask import role_model
from nodes.context import Context
from nodes.llm.rules import RulesModel
from nodes.state import Step, VisitInput, VisitOutput, VisitState
from nodes.tools.open_world import default_world, embed_labels, load_world, open_world
from sim.data.sources import load_ratings
from sim.world import World

VISITS = 30
STEPS = 15
COHORT = 10
RECORDS = 10_000
Row = tuple[str, str, str]


class Stopwatch:
    """Stopwatch that adds up the time spent in functions. Visits run one after another, so times never overlap."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def over(self, owner: Any, name: str, label: str) -> Iterator[None]:
        """Time the function `owner.name` while the block runs."""
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[label] += time.perf_counter() - start

        async def timed_async(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return await inner(*args, **kwargs)
            finally:
                self.seconds[label] += time.perf_counter() - start

        setattr(owner, name, timed_async if asyncio.iscoroutinefunction(inner) else timed)
        try:
            yield
        finally:
            setattr(owner, name, inner)


def bench_world() -> Iterator[Row]:
    """Build the default world, and embed its titles."""
    name = default_world()
    start = time.perf_counter()
    world = World.build(name, load_ratings(name, 0))
    yield (
        f"build the world {name} ({len(world.catalogue):,} items)",
        f"{time.perf_counter() - start:.2f} s",
        "about 2 s",
    )
    world.save(Path(os.environ["BILLP_HOME"]) / "worlds" / name)
    start = time.perf_counter()
    embed_labels(world)
    yield f"embed its {len(world.catalogue):,} titles, once", f"{time.perf_counter() - start:.2f} s", ""


async def bench_recall() -> list[Row]:
    """Measure recall with many records, and the rate of writing them."""
    rng = np.random.default_rng(0)
    labels = [item.label for item in load_world(default_world()).catalogue]
    embeddings = LineMean(MiniLM())
    embeddings.prime(labels, [shared_embeddings().embed_query(label) for label in labels])
    records = []
    for number in range(RECORDS):
        titles = [labels[position] for position in rng.integers(0, len(labels), 10)]
        fields = {"plan": "", "title": titles[-1], "genres": [], "predicted": 3.0, "distance": 0.5}
        outcome = {"reward": 4.0, "advantage": 0.5, "left": False}
        one = Experience(visit=str(number), user_id=str(number % 100), situation="\n".join(titles), **fields, **outcome)
        records.append(record(one, 0))
    with ChromaStore(Path(os.environ["BILLP_HOME"]) / "bench", embeddings=embeddings) as store:
        start = time.perf_counter()
        await remember(store, "w", records)
        rate = RECORDS / (time.perf_counter() - start)
        times = []
        for number in range(200):
            situation = "\n".join(labels[position] for position in rng.integers(0, len(labels), 10))
            start = time.perf_counter()
            await recall_experiences(store, RecallScope("w", str(number % 100), "now", ("w",)), situation, 8)
            times.append(time.perf_counter() - start)
    p50, p95 = np.percentile(times, [50, 95]) * 1e3
    return [
        (f"write {RECORDS:,} experiences to a folder", f"{rate:,.0f} a second", ""),
        (f"recall among {RECORDS:,} (own, then others')", f"p50 {p50:.1f} ms, p95 {p95:.1f} ms", ""),
    ]


async def run_visits(variant: str, users: list[str], store: ChromaStore | None, learn: bool) -> list[VisitOutput]:
    """Run visits one after another, in cohorts as in a study."""
    compiled: Any = build_variant(variant).compile(store=store)
    context = Context(learn="cohort" if learn else "off")
    outputs = []
    for start in range(0, len(users), COHORT):
        cohort = []
        for number, user_id in enumerate(users[start : start + COHORT], start):
            visit = VisitInput(world=default_world(), user_id=user_id, seed=number, max_steps=STEPS)
            cohort.append(VisitOutput.model_validate(await compiled.ainvoke(visit, context=context)))
        records = [one for output in cohort for one in output.records]
        if store is not None:
            await remember(store, default_world(), records)
        outputs += cohort
    return outputs


async def measure_study(folder: Path, seed: int = 0) -> tuple[float, int, int, int, Stopwatch]:
    """Run the train visits of `billp`; return seconds, steps, records, their embeddings, and the time by function."""
    opened = await open_world(default_world())
    await role_model(Context(), "planner")
    shared_embeddings().embed_query("warm up")
    watch = Stopwatch()
    users = visitors(opened.world, "train", VISITS, seed)
    queries = watch_queries(opened.index, watch)
    with (
        ChromaStore(folder, embeddings=shared_embeddings()) as store,
        watch.over(RulesModel, "_generate", "model"),
        watch.over(nodes.planner, "recall_lessons", "recall"),
        watch.over(nodes.actor, "recall_experiences", "recall"),
        watch.over(nodes.critic, "recall_values", "recall"),
        watch.over(nodes.actor, "shortlist", "shortlist"),
        watch.over(sys.modules[__name__], "remember", "writes"),
        watch.over(MiniLM, "embed_documents", "embedding"),
        queries,
    ):
        computed = shared_embeddings().computed
        start = time.perf_counter()
        outputs = await run_visits("billp", users, store, learn=True)
        seconds = time.perf_counter() - start
        embedded = shared_embeddings().computed - computed - int(watch.seconds.pop("query embeddings", 0))
    records = sum(len(output.records) for output in outputs)
    return seconds, sum(len(output.steps) for output in outputs), records, embedded, watch


@contextmanager
def watch_queries(index: CatalogueIndex, watch: Stopwatch) -> Iterator[None]:
    """Count the embeddings of look-ups in the catalogue; they do not belong to the storing of records."""
    inner = index.nearest

    async def counted(text: str, k: int) -> list[str]:
        before = shared_embeddings().computed
        try:
            return await inner(text, k)
        finally:
            watch.seconds["query embeddings"] += shared_embeddings().computed - before

    index.nearest = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        del index.nearest


async def graph_overhead() -> float:
    """Return the milliseconds of a step in which the nodes do nothing."""

    def idle(name: str) -> Callable[[VisitState], Awaitable[dict[str, Any]]]:
        async def node(state: VisitState) -> dict[str, Any]:
            return {"steps": [Step(index=len(state.steps))]} if name == "user" else {}

        node.__name__ = name
        return node

    roles = [idle(name) for name in ("planner", "actor", "user", "critic")]
    compiled: Any = build_episode(*roles).compile()
    visit = VisitInput(world=default_world(), max_steps=STEPS)
    await compiled.ainvoke(visit)
    start = time.perf_counter()
    for _ in range(10):
        await compiled.ainvoke(visit)
    return (time.perf_counter() - start) * 1e3 / (10 * STEPS)


async def bench_visits(folder: Path) -> list[Row]:
    """Run visits in this process, and report the parts of a step's time."""
    seconds, rounds, records, embedded, watch = await measure_study(folder / "one")
    overhead = await graph_overhead()
    a_round = {label: spent * 1e3 / rounds for label, spent in watch.seconds.items()}
    whole = seconds * 1e3 / rounds
    own = whole - a_round["model"] - a_round["embedding"]
    rows = [
        (
            f"`billp` train visits of at most {STEPS} rounds (mean {rounds / VISITS:.1f})",
            f"{VISITS / seconds:.1f} a second",
            "",
        ),
        ("the same as visits of 15 rounds", f"{rounds / 15 / seconds:.1f} a second", "3 a process"),
        ("a round, all in all", f"{whole:.1f} ms", ""),
        ("… graph (rounds with idle nodes)", f"{overhead:.1f} ms", "under 3 ms"),
    ]
    rows += [(f"… {label}", f"{spent:.1f} ms", "") for label, spent in sorted(a_round.items(), key=lambda one: -one[1])]
    rows += [
        ("… own overhead: all but model and embedding", f"{own:.1f} ms", "under 15 ms"),
        (f"embeddings a record stored ({records} records)", f"{embedded / records:.2f}", "at most 1.05"),
    ]
    return rows


def rate_of_worker(folder: Path, seed: int) -> float:
    """Return the steps per second of a worker process."""
    seconds, rounds, *_ = asyncio.run(measure_study(folder, seed))
    return rounds / seconds


def bench_processes(folder: Path) -> Row:
    """Compare two processes at once with a single process before and after."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:

        def rate(label: str, seeds: list[int]) -> float:
            running = [pool.submit(rate_of_worker, folder / f"{label}-{seed}", seed) for seed in seeds]
            return sum(one.result() for one in running)

        rate("warm-up", [0, 1])
        before, together, after = rate("before", [0]), rate("both", [0, 1]), rate("after", [0])
    return "two processes against one", f"{2 * together / (before + after):.2f} times", "near 2"


def main() -> None:
    """Run all measurements and print a table."""
    base = Path(tempfile.mkdtemp(prefix="billp-bench-"))
    os.environ["BILLP_HOME"] = str(base)
    try:
        table = Table("measured", "value", "aim", title=f"{os.cpu_count()} cores, model rules, world {default_world()}")
        rows = [*bench_world(), *asyncio.run(bench_recall()), *asyncio.run(bench_visits(base)), bench_processes(base)]
        for row in rows:
            table.add_row(*row)
        Console(width=110).print(table)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
