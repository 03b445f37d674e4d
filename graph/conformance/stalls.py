"""Stalls of the event loop: longest pause, and longest turn of a role in the longest possible visit."""

import asyncio
import gc
import json
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from graph.checkpoints import serializer
from graph.role_schemas import Node
from graph.run_metadata import Graph
from memory.store import ChromaStore
from nodes.context import Context
from nodes.lifecycle import MAX_HISTORY, MAX_HISTORY_TEXT, MAX_INPUT_TEXT
from nodes.llm.endpoint.usage import Usage
from nodes.prompt_facts import ITEM_CATEGORIES
from nodes.state import MAX_STEPS, Proposal, Step
from nodes.tools.open_world import open_world

Build = Callable[[Callable[[Node], Node]], Graph]
"""Function that builds a graph from nodes, each passed through the given function first."""

STALL = 250
"""Maximum pause of the event loop in beats of `other_thread`, one a millisecond at most; a model takes longer."""
LONGEST_TURN = 2.0
"""Maximum processor time of one turn of a role on the event loop in the longest visit, relative to `_reference`."""
MEASUREMENTS = 3
"""Maximum number of measurements; the shortest counts, because garbage collection may delay the others."""


@contextmanager
def other_thread() -> Iterator[Callable[[], int]]:
    """Count the beats of a thread while the block runs.

    A call that blocks the event loop lets other threads run. On a busy machine both pause, so that a pause in beats
    tells what the call does, not what else the machine does.

    Yields:
        Function that returns the number of beats so far.
    """
    beats, over = [0], threading.Event()

    def beat() -> None:
        while not over.wait(0.001):
            beats[0] += 1

    thread = threading.Thread(target=beat, name="beats", daemon=True)
    thread.start()
    try:
        yield lambda: beats[0]
    finally:
        over.set()
        thread.join()


async def longest_stall(work: Awaitable[Any]) -> float:
    """Return the longest pause of the event loop during some work, in beats of another thread."""
    with other_thread() as beats:
        return await longest_pause(work, beats)


async def longest_pause(work: Awaitable[Any], clock: Callable[[], float]) -> float:
    """Return the longest pause of the event loop during some work, in units of a clock."""
    pauses, over = [0.0], asyncio.Event()

    async def beat() -> None:
        last = clock()
        while not over.is_set():
            await asyncio.sleep(0.001)
            now = clock()
            pauses.append(now - last)
            last = now

    heart = asyncio.create_task(beat())
    # Count the work before its first wait too.
    await asyncio.sleep(0)
    try:
        await work
    finally:
        over.set()
        await heart
    return max(pauses)


async def longest_turns(build: Build, context: Context, answer: dict[str, Any] | None = None) -> dict[str, float]:
    """Return the longest turn of each node on the event loop.

    Turns are measured in the last round of the longest visit and after it, and at the start of another visit on the
    same thread. They are ratios: processor time of the turn to that of writing all rounds of the visit as JSON once, on
    the same machine at the same moment. A turn that takes the rounds one by one stays near 1 at most; a turn that
    compares them with each other takes many times as long. The shortest of several measurements counts.

    Args:
        build: Function that builds the graph.
        context: Settings of the roles.
        answer: Answer of a person, if a node asks one.
    """
    shortest: dict[str, float] = {}
    for seed in range(MEASUREMENTS):
        turns = await _turns(build, context, answer, seed)
        shortest = {name: min(turn, shortest.get(name, turn)) for name, turn in turns.items()}
        if max(shortest.values()) < LONGEST_TURN:
            break
    return shortest


async def _turns(build: Build, context: Context, answer: dict[str, Any] | None, seed: int) -> dict[str, float]:
    turns: defaultdict[str, float] = defaultdict(float)
    nodes: list[Node] = []

    def timed(node: Node) -> Node:
        nodes.append(node)

        @wraps(node)
        async def timed_node(*args: Any, **kwargs: Any) -> dict[str, Any]:
            update: dict[str, Any] = {}

            async def work() -> None:
                update.update(await node(*args, **kwargs))

            # Collect the garbage of building the state now, so that it does not count for the node.
            gc.collect()
            turn = await longest_pause(work(), time.thread_time)
            turns[node.__name__] = max(turn, turns[node.__name__])
            return update

        return timed_node

    builder = build(timed)
    first = next(iter(builder.nodes))
    longest = await longest_state(MAX_STEPS - 1, seed)
    async with ChromaStore() as store:
        graph: Any = builder.compile(checkpointer=InMemorySaver(serde=serializer(nodes)), store=store)
        config = {"configurable": {"thread_id": "one"}}
        visit = {"world": "tiny", "max_steps": MAX_STEPS, "seed": seed}
        await graph.ainvoke(visit, config, context=context, interrupt_after=[first])
        await graph.aupdate_state(config, longest, as_node=first)
        await graph.ainvoke(None, config, context=context)
        if answer is not None:
            await graph.ainvoke(Command(resume=answer), config, context=context)
        visit["history"] = await longest_history(seed)
        await graph.ainvoke(visit, config, context=context, interrupt_after=[first])
    reference = _reference(longest["steps"])
    return {name: turn / reference for name, turn in turns.items()}


def _reference(steps: Sequence[Step]) -> float:
    """Return the processor time, in seconds, of writing rounds as JSON once."""
    gc.collect()
    start = time.thread_time()
    json.dumps([step.model_dump(mode="json") for step in steps])
    return time.thread_time() - start


async def longest_history(seed: int) -> list[str]:
    """Return a history with the maximum number of titles, one of them known; each seed gives other titles."""
    known = (await open_world("tiny")).world.catalogue[0].title
    length = MAX_HISTORY_TEXT // MAX_HISTORY
    return [
        f"{seed} {number} The Tale of Nobody in Particular".ljust(length, ".") for number in range(MAX_HISTORY - 1)
    ] + [known]


async def longest_state(rounds: int, seed: int) -> dict[str, Any]:
    """Return an edit of the state that gives a visit this many rounds, with texts of maximum length.

    Args:
        rounds: Number of rounds.
        seed: Seed of the texts; each seed gives new texts.
    """
    catalogue = (await open_world("tiny")).world.catalogue

    def text(kind: str, number: int, length: int = MAX_INPUT_TEXT) -> str:
        return (f"{kind} {seed}/{number}: " + "größer, „weiter“ & schöner — " * length)[:length]

    steps = [
        Step(
            index=number,
            plan=text("plan", number),
            proposed=text("proposed", number),
            item_id=catalogue[number % len(catalogue)].id,
            title=text("title", number),
            genres=[text(f"genre {place}", number, 50) for place in range(ITEM_CATEGORIES)],
            predicted=3.5,
            distance=0.75,
            risk=0.01,
            reward=3.25 + number % 2,
            value=0.5,
            next_value=0.4,
            advantage=0.15,
            reason=text("reason", number),
            outcomes={"planner": "ok", "actor": "ok", "critic": "ok"},
            usage=Usage(calls=3, prompt_tokens=3_000, completion_tokens=100),
        )
        for number in range(rounds)
    ]
    usage = Usage(calls=3 * rounds, prompt_tokens=3_000 * rounds, completion_tokens=100 * rounds)
    return {
        "steps": steps,
        "usage": usage,
        "plan": text("plan", rounds),
        "proposal": Proposal(item_id=catalogue[rounds % len(catalogue)].id),
    }
