"""A study: each variant learns on train visits, then visits dev (or test) users with what it remembers.

Learning is cohort-synchronous: the visits of a cohort recall only what earlier cohorts wrote, and their memories are
written, in order of key, when the cohort ends. So a study gives the same bytes whatever its concurrency.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from langgraph.store.base import BaseStore
from pydantic import BaseModel, ConfigDict, Field

from graph.episode import VARIANTS, build_variant, run_config
from memory.embeddings import shared_embeddings
from memory.errors import StoreError
from memory.recall import remember
from memory.store import ChromaStore, home
from nodes.context import Context
from nodes.llm.models import chat_model
from nodes.state import VisitInput, VisitOutput
from nodes.worlds import checked_name, close_places, load_world, open_place
from sim.errors import BadInputError, BillpError
from sim.files import whole_folder
from sim.metrics import summarize
from sim.policies import POLICIES, run_visit
from sim.world import World

RULES_NOTE = "The model `rules` plays the roles by written rules. It is no LLM, and no evidence that one learns."
RESULTS = "results.json"
Split = Literal["train", "dev", "test"]


class StudySettings(BaseModel):
    """What decides the results of a study."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    world: str
    variants: tuple[str, ...] = Field(min_length=1)
    """Variants of the agent and baselines, in the order of the table."""
    train: int = Field(40, ge=0)
    """Train visits of each variant and seed; baselines do not learn."""
    test: int = Field(40, ge=1)
    """Users visited with what was learned."""
    seeds: int = Field(1, ge=1)
    """Number of seeds; each has a memory of its own."""
    cohort: int = Field(20, ge=1)
    """Visits that learn together."""
    max_steps: int = Field(100, ge=1, le=10_000)
    """Most rounds of a visit."""
    final: bool = False
    """Visit test users instead of dev users."""
    context: Context = Context()
    """Settings of the roles."""

    @property
    def test_split(self) -> Split:
        """Return the split of the users who are visited with what was learned."""
        return "test" if self.final else "dev"


class Cell(NamedTuple):
    """One variant and seed, with a memory of its own."""

    variant: str
    seed: int


class Progress(Protocol):
    """Is told how far a study is."""

    def __call__(self, cell: Cell, stage: Split, done: int, total: int) -> None:
        """Take notice of the visits done in one stage of one cell."""
        ...


def run_study(settings: StudySettings, name: str, *, concurrency: int, processes: int, progress: Progress) -> Path:
    """Run a study and write `runs/NAME/{results.json,visits.jsonl}` with each cell's memory beside them.

    Args:
        settings: What decides the results.
        name: Name of the run; a former run of that name is replaced when this one has ended.
        concurrency: Visits of a cell at once.
        processes: Cells at once.
        progress: Is told how far it is.

    Returns:
        The folder of the run.

    Raises:
        BadInputError: The settings ask for what there is not.
    """
    check_settings(settings)
    target = run_folder(name)
    if target.exists() and not (target / RESULTS).is_file():
        raise BadInputError(f"{target} holds something else than a run, so it is not replaced: choose another name")
    cells = [Cell(variant, seed) for variant in settings.variants for seed in range(settings.seeds)]
    with whole_folder(target) as folder:
        lines = dict(_run_cells(cells, settings, folder / "memory", concurrency, min(processes, len(cells)), progress))
        visits = [line for cell in cells for line in lines[cell]]
        results = {
            "world": settings.world,
            "model": settings.context.model,
            "note": RULES_NOTE if settings.context.model == "rules" else "",
            "settings": settings.model_dump(mode="json"),
            "rows": [_row(variant, settings, visits) for variant in settings.variants],
        }
        _write_json_lines(folder / "visits.jsonl", visits)
        (folder / RESULTS).write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def run_folder(name: str) -> Path:
    """Return where the results of a run of that name are kept.

    Raises:
        BadInputError: The name is none.
    """
    return home() / "runs" / checked_name(name, "run")


def check_settings(settings: StudySettings) -> World:
    """Check a study before any work is done, and return its world, built where it is not there yet.

    Raises:
        BadInputError: A variant, the model or the world is unknown, or there are fewer users than asked for.
    """
    known = [*VARIANTS, *POLICIES]
    for variant in settings.variants:
        if variant not in known:
            raise BadInputError(f"there is no variant {variant!r}: choose among {', '.join(known)}")
    if len(set(settings.variants)) < len(settings.variants):
        raise BadInputError("a variant is named twice")
    chat_model(settings.context.model, settings.context.temperature)
    world = load_world(settings.world)
    available = len(world.split(settings.test_split).users)
    if settings.test > available:
        raise BadInputError(
            f"world {world.name!r} has {available} {settings.test_split} users: ask for at most that many visits"
        )
    return world


def _row(variant: str, settings: StudySettings, visits: list[dict[str, Any]]) -> dict[str, Any]:
    own = [one for one in visits if one["variant"] == variant and one["split"] == settings.test_split]
    return {"variant": variant, "split": settings.test_split, **summarize(own)}


def _write_json_lines(file: Path, lines: Sequence[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _run_cells(
    cells: Sequence[Cell],
    settings: StudySettings,
    memory: Path,
    concurrency: int,
    processes: int,
    progress: Progress,
) -> Iterator[tuple[Cell, list[dict[str, Any]]]]:
    """Run cells, each in some worker process, and yield the visits of each as it ends."""
    # Fork would copy the threads' locks of Chroma and onnxruntime in whatever state they are.
    spawn = multiprocessing.get_context("spawn")
    events = spawn.SimpleQueue()
    with (
        _listening(events, progress),
        ProcessPoolExecutor(processes, spawn, initializer=_set_up_worker, initargs=(events, home().absolute())) as pool,
    ):
        running = {pool.submit(_run_cell, cell, settings, memory.absolute(), concurrency): cell for cell in cells}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BaseException:
            # Whoever stops a study does not want to wait for the visits under way.
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def _listening(events: Any, progress: Progress) -> Iterator[None]:
    """Pass on what the workers report while the block runs."""

    def listen() -> None:
        while (event := events.get()) is not None:
            progress(*event)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        events.put(None)
        listener.join()


# What a worker process was given when it started: where to report, one entry.
_events: list[Any] = []


def _set_up_worker(events: Any, base: Path) -> None:
    _events[:] = [events]
    os.environ["BILLP_HOME"] = str(base)
    # The parent is told of Ctrl-C as well and ends its workers; one that loses its parent ends by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _report(cell: Cell, stage: Split, done: int, total: int) -> None:
    for events in _events:
        events.put((cell, stage, done, total))


def _run_cell(cell: Cell, settings: StudySettings, memory: Path, concurrency: int) -> list[dict[str, Any]]:
    try:
        if cell.variant in POLICIES:
            return _run_baseline(cell, settings)
        return asyncio.run(_run_agent(cell, settings, memory / f"{cell.variant}-{cell.seed}", concurrency))
    except (BillpError, StoreError, OSError):
        raise
    except Exception as error:
        # Errors of an endpoint's client do not all survive the way to the parent, which would then know nothing.
        raise BillpError(f"{cell.variant}, seed {cell.seed}: {type(error).__name__}: {error}") from None


def _run_baseline(cell: Cell, settings: StudySettings) -> list[dict[str, Any]]:
    world = load_world(settings.world)
    users = visitors(world, settings.test_split, settings.test, 0)
    lines = []
    for done, user_id in enumerate(users, 1):
        visit = run_visit(
            cell.variant, world, settings.test_split, user_id, seed=cell.seed, max_steps=settings.max_steps
        )
        lines.append(_line(cell, settings.test_split, VisitOutput.model_validate(visit)))
        _report(cell, settings.test_split, done, len(users))
    return lines


async def _run_agent(cell: Cell, settings: StudySettings, folder: Path, concurrency: int) -> list[dict[str, Any]]:
    place = await open_place(settings.world)
    train = visitors(place.world, "train", settings.train, cell.seed)
    test = visitors(place.world, settings.test_split, settings.test, 0)
    try:
        async with ChromaStore(folder, embeddings=shared_embeddings()) as store:
            visit = Visits(cell, settings, store, concurrency)
            for start in range(0, len(train), settings.cohort):
                outputs = await visit("train", train[start : start + settings.cohort], start, len(train))
                records = sorted((one for output in outputs for one in output.records), key=lambda one: one.key)
                await remember(store, settings.context.space or settings.world, records)
            await visit(settings.test_split, test, 0, len(test))
    finally:
        close_places()
    return visit.lines


class Visits:
    """Runs the visits of a cell, many at once."""

    def __init__(self, cell: Cell, settings: StudySettings, store: BaseStore, concurrency: int) -> None:
        self._cell = cell
        self._settings = settings
        self._graph = build_variant(cell.variant).compile(store=store)
        self._free = asyncio.Semaphore(concurrency)
        self.lines: list[dict[str, Any]] = []

    async def __call__(self, split: Split, users: Sequence[str], start: int, total: int) -> list[VisitOutput]:
        """Visit users and return what came of it, in their order."""
        context = self._settings.context.model_copy(update={"learn": "cohort" if split == "train" else "off"})
        done = start

        async def one(user_id: str, number: int) -> VisitOutput:
            nonlocal done
            async with self._free:
                visit = VisitInput(
                    world=self._settings.world,
                    user_id=user_id,
                    seed=visit_seed(self._cell.seed, number),
                    max_steps=self._settings.max_steps,
                )
                output = VisitOutput.model_validate(
                    await self._graph.ainvoke(visit, run_config(self._cell.variant, visit), context=context)
                )
            done += 1
            _report(self._cell, split, done, total)
            return output

        outputs = await asyncio.gather(*(one(user_id, start + n) for n, user_id in enumerate(users)))
        self.lines += [_line(self._cell, split, output) for output in outputs]
        return outputs


def _line(cell: Cell, split: Split, output: VisitOutput) -> dict[str, Any]:
    return {"variant": cell.variant, "split": split, "seed": cell.seed, **output.model_dump(mode="json")}


def visitors(world: World, split: Split, count: int, seed: int) -> list[str]:
    """Return users to visit, in an order drawn by seed; more than there are, and they come again in a new order."""
    users = world.split(split).users
    rng = np.random.default_rng(seed)
    rounds = -(-count // len(users))
    return [users[position] for _ in range(rounds) for position in rng.permutation(len(users))][:count]


def visit_seed(seed: int, number: int) -> int:
    """Return the seed of a cell's visit by its number, distinct for distinct arguments below a million visits."""
    return seed * 1_000_000 + number
