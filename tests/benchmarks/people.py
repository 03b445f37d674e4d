"""Measure what people's memory is worth to them: python -m tests.benchmarks.people [WORLD [RATINGS]].

Three people of opposite tastes visit five times each and rate all that they are shown by their taste, with the model
`rules`: once with a memory, and once with an empty one at each visit. The table has the mean rating of each visit.
"""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from graph.checkpoints import serializer
from graph.recommend import builder
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.tools.open_world import OpenWorld, default_world, open_world_now
from sim.catalogue import Item

VISITS, RATINGS, PEOPLE = 5, 10, 3
Taste = Callable[[Item], int]


def tastes(opened: OpenWorld) -> list[Taste]:
    """Return tastes that are opposite: each person loves a third of the largest categories and dislikes the next."""
    thirds = [list(opened.categories)[number::PEOPLE] for number in range(PEOPLE)]

    def taste(number: int) -> Taste:
        loved, disliked = {*thirds[number]}, {*thirds[(number + 1) % PEOPLE]}
        return lambda item: int(np.clip(3 + 2 * len(loved & {*item.genres}) - 2 * len(disliked & {*item.genres}), 1, 5))

    return [taste(number) for number in range(PEOPLE)]


async def visit(store: ChromaStore, opened: OpenWorld, name: str, number: int, taste: Taste, count: int) -> list[int]:
    """Return the ratings of one visit of a person, who leaves after the last of them."""
    graph: Any = builder.compile(checkpointer=InMemorySaver(serde=serializer()), store=store)
    run = {"configurable": {"thread_id": f"{name} {number}"}}
    given = {"world": opened.world.name, "user_id": name, "max_steps": count + 1}
    await graph.ainvoke(given, run)
    ratings: list[int] = []
    while len(ratings) < count:
        proposal = (await graph.aget_state(run)).values["proposal"]
        ratings.append(taste(opened.world.catalogue.item(proposal.item_id)))
        await graph.ainvoke(Command(resume={"rating": ratings[-1]}), run)
    await graph.ainvoke(Command(resume={"leave": True}), run)
    return ratings


async def measure(world: str, count: int, *, remembers: bool) -> list[list[float]]:
    """Return the mean rating of each visit of each person, of shape (3, 5).

    Args:
        world: Name of the world.
        count: Number of ratings of a visit; on a small world few, since no item comes twice.
        remembers: Whether the visits of a person share a memory; if not, each starts with an empty one.
    """
    opened, means = open_world_now(world), []
    for person, taste in enumerate(tastes(opened)):
        of_person = []
        with tempfile.TemporaryDirectory() as folder:
            for number in range(VISITS):
                place = Path(folder) / (str(number) if not remembers else "memory")
                async with ChromaStore(place, embeddings=shared_embeddings()) as store:
                    ratings = await visit(store, opened, f"person {person}", number, taste, count)
                of_person.append(float(np.mean(ratings)))
        means.append(of_person)
    return means


def main() -> None:
    """Print the mean ratings with memory and without."""
    world = sys.argv[1] if sys.argv[1:] else default_world()
    count = int(sys.argv[2]) if sys.argv[2:] else RATINGS
    print(f"{world}, {count} ratings a visit      " + "".join(f"visit {number:<4}" for number in range(1, VISITS + 1)))
    for remembers in (True, False):
        means = asyncio.run(measure(world, count, remembers=remembers))
        told = "with memory" if remembers else "memory empty"
        for person, of_person in enumerate(means, 1):
            print(f"{told:13} person {person}  " + "".join(f"{mean:10.2f}" for mean in of_person))
        print(f"{told:13} mean      " + "".join(f"{mean:10.2f}" for mean in np.mean(means, axis=0)))


if __name__ == "__main__":
    main()
