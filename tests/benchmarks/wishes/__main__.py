"""Measure how many of a person's first five items meet their wish: python -m tests.benchmarks.wishes [held_out].

Each wish is a visit of its own on MovieLens with the model `rules` and an empty memory. An item meets a wish if it
meets all that the catalogue can judge. It is near a title if it is among the nearest tenth by the logs model or by the
embedding of titles and categories. The years come from the source, so a world without years can be measured too.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from graph.checkpoints import serializer
from graph.recommend import builder
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.tools.open_world import OpenWorld, open_world_now
from sim.catalogue import Item

HERE = Path(__file__).parent
ROUNDS = 5
# Share of the catalogue that counts as near a title.
NEAR_SHARE = 0.1
Wish = dict[str, Any]


def meets(wish: Wish, item: Item, year: int | None, near: set[str]) -> bool:
    """Return whether an item meets all of a wish that the catalogue can judge."""
    genres = {*item.genres}
    low, high = wish.get("years", (0, 9999))
    out = wish.get("not_years", (1, 0))
    return (
        any(genres.issuperset(groups) for groups in wish.get("categories", [[]]))
        and not genres.intersection(wish.get("not", []))
        and not ("not_together" in wish and genres.issuperset(wish["not_together"]))
        and ("years" not in wish or (year is not None and low <= year <= high))
        and not (year is not None and out[0] <= year <= out[1])
        and ("near" not in wish or item.id in near)
    )


async def near_items(wish: Wish, opened: OpenWorld) -> set[str]:
    """Return the ids of the items near any of the titles that a wish names."""
    catalogue, found = opened.world.catalogue, set[str]()
    count = int(NEAR_SHARE * len(catalogue))
    for title in wish.get("near", []):
        item = catalogue.by_title(title)[0]
        by_logs = opened.world.logs.distances(item).argsort()[:count].tolist()
        found |= {catalogue[position].id for position in by_logs}
        found |= {*await opened.index.nearest(item.label, count)}
        found.discard(item.id)
    return found


async def first_items(graph: Any, number: int, wish: Wish) -> list[str]:
    """Return the titles of the first items of a visit."""
    config = {"configurable": {"thread_id": f"{number}"}}
    given = {"world": "movielens", "user_id": f"person {number}", "wishes": wish["wish"], "max_steps": ROUNDS}
    await graph.ainvoke(given, config)
    for _ in range(ROUNDS - 1):
        await graph.ainvoke(Command(resume={"skip": True}), config)
    # The last item is proposed and not answered, so the shortlist of the state has it.
    state = (await graph.aget_state(config)).values
    return [step.item_id for step in state["steps"]] + [state["proposal"].item_id]


async def measure(names: list[str], years: dict[str, int]) -> None:
    """Print the share of each wish, and of each file."""
    opened = open_world_now("movielens")
    with tempfile.TemporaryDirectory() as folder:
        async with ChromaStore(Path(folder), embeddings=shared_embeddings()) as store:
            graph = builder.compile(checkpointer=InMemorySaver(serde=serializer()), store=store)
            number = 0
            for name in names:
                shares = []
                for wish in json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")):
                    number += 1
                    near = await near_items(wish, opened)
                    items = [opened.world.catalogue.item(one) for one in await first_items(graph, number, wish)]
                    met = [meets(wish, item, years.get(item.id), near) for item in items]
                    shares.append(sum(met) / len(met))
                    print(f"{shares[-1]:4.0%}  {wish['wish']}")
                print(f"{name}: {sum(shares) / len(shares):.0%} of the first {ROUNDS} items of {len(shares)} wishes")


def main() -> None:
    """Measure the files named on the command line, or both."""
    from sim.data.sources import load_ratings

    years = {item.id: item.year for item in load_ratings("movielens", 0).catalogue if item.year is not None}
    asyncio.run(measure(sys.argv[1:] or ["tuning", "held_out"], years))


if __name__ == "__main__":
    main()
