"""Benchmark of prompts: `make bench`. Tokens per step, prefix shared with the previous prompt, and time."""

import asyncio
import itertools
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from langgraph.runtime import Runtime
from rich.console import Console
from rich.table import Table

from graph.episode import VARIANTS, build_episode
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm.prompting import ROUNDS_LISTED, build_messages
from nodes.llm.prompts import default_prompt
from nodes.llm.text.tokens import encode
from nodes.prompt_facts import round_facts_with_genres
from nodes.state import Step, VisitInput, VisitState
from nodes.tools.open_world import close_worlds
from nodes.user_view import visitor
from nodes.users.simulated import describe_round, proposed_item, simulated
from sim.catalogue import Catalogue, Item
from sim.data.ratings import Ratings
from sim.world import World

WORLD = "games"
ROUNDS = 100
# Step to which the aim refers: the mean length of a visit of the paper on Steam.
AT = 15
# Steps of long visits; 2,000 are allowed.
LONG = (100, 1_000, 10_000)
Row = tuple[str, str, str]
Prompts = dict[str, list[str]]
"""Prompts of each role, one per step."""

_ADJECTIVES = "Crimson Forgotten Iron Silent Broken Eternal Hollow Frozen Savage Golden Cursed Distant".split()
_NOUNS = "Fortress Legends Frontier Empire Horizon Tactics Survivors Dungeon Squadron Odyssey Alchemist Arena".split()
_ENDINGS = "Origins|Remastered|The Lost Harbour|Game of the Year Edition|Director's Cut|Tides of War®".split("|")
_CATEGORIES = {
    "Indie": 59, "Action": 45, "Adventure": 35, "Strategy": 23, "Casual": 23, "RPG": 19, "Simulation": 16,
    "Free to Play": 6, "Early Access": 5, "Racing": 4, "Sports": 3, "Massively Multiplayer": 3, "Utilities": 1,
    "Design & Illustration": 1, "Animation & Modeling": 1, "Software Training": 1, "Education": 1,
    "Video Production": 1, "Web Publishing": 1, "Audio Production": 1, "Photo Editing": 1,
}  # fmt: skip


def games(count: int = 720, seed: int = 0) -> Catalogue:
    """Generate a catalogue with titles and genres as long as on Steam: means of 5 tokens and 2.5 genres."""
    rng = np.random.default_rng(seed)
    shares = np.array(list(_CATEGORIES.values()), dtype=float)
    items = []
    for number in range(count):
        name = f"{_ADJECTIVES[number % 12]} {_NOUNS[number // 12 % 12]}"
        edition, ending = number // 144 + 1, _ENDINGS[number // 144]
        forms = [f"{name} {edition}", f"{_NOUNS[number // 12 % 12]} {number}", f"The {name}: {ending}"]
        title = [*forms, f"{name}: {ending}"][number % 4] if edition > 1 else name
        genres = rng.choice(list(_CATEGORIES), size=1 + rng.binomial(4, 0.37), replace=False, p=shares / shares.sum())
        items.append(Item(str(number), title, tuple(sorted(str(genre) for genre in genres))))
    return Catalogue(items)


def played(catalogue: Catalogue, users: int = 240, per_user: int = 60, seed: int = 0) -> Ratings:
    """Generate ratings of a catalogue by users who like its genres to different degrees."""
    rng = np.random.default_rng(seed)
    genres = catalogue.genre_matrix.astype(float)
    liking = rng.normal(0, 1, (users, genres.shape[1])) @ (genres / genres.sum(axis=1, keepdims=True)).T
    rated = np.stack([rng.choice(len(catalogue), per_user, replace=False) for _ in range(users)])
    who, what = np.repeat(np.arange(users), per_user), rated.ravel()
    values = 3.6 + liking[who, what] + rng.normal(0, 0.4, len(what))
    return Ratings(
        users=who,
        items=what,
        values=np.clip(np.round(values * 2) / 2, 0.5, 5.0),
        timestamps=np.arange(len(who), dtype=np.int64),
        user_ids=tuple(str(user) for user in range(users)),
        catalogue=catalogue,
    )


async def patient(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Node `user` that rates the proposed item like the simulated user, and never leaves."""
    who = await visitor(state)
    item = proposed_item(state.proposal, who)
    step = describe_round(state, who, item)
    step.reward = simulated(who).react(item.id, []).reward
    return {"steps": [step]}


patient.__name__ = "user"


async def visit_prompts(variant: str, visit: VisitInput, store: ChromaStore) -> Prompts:
    """Run a visit of a patient user, and return the prompts sent to each role."""
    step, at_end, context = VARIANTS[variant]
    nodes = [patient if node.__name__ == "user" else node for node in step]
    compiled: Any = build_episode(*nodes, at_end=at_end, context_schema=context).compile(store=store)
    prompts: defaultdict[str, list[str]] = defaultdict(list)
    async for update in compiled.astream(visit, stream_mode="updates"):
        for role, change in update.items():
            if role in (change.get("exchange") or {}):
                prompts[role].append(change["exchange"][role].prompt)
    return dict(prompts)


async def measured_prompts(variant: str, train: int = 20, rounds: int = ROUNDS) -> Prompts:
    """Fill a memory with `train` visits of 20 steps, and return the prompts of a visit that recalls from it."""
    users = World.load(Path(os.environ["BILLP_HOME"]) / "worlds" / WORLD)
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        for number, user_id in enumerate(users.split("train").users[:train]):
            visit = VisitInput(world=WORLD, user_id=user_id, seed=number, max_steps=20)
            await visit_prompts(variant, visit, store)
        visit = VisitInput(world=WORLD, user_id=users.split("dev").users[0], max_steps=rounds)
        prompts = await visit_prompts(variant, visit, store)
    return {role: sent for role, sent in prompts.items() if len(sent) == rounds}


def shared_prefix(earlier: str, later: str) -> float:
    """Return the share of `later`, in tokens, that is its longest common prefix with `earlier`.

    Both contain the system message and the human message. The share refers to the later prompt, because that one is
    paid for.
    """
    before, after = encode(earlier), encode(later)
    pairs = enumerate(zip(before, after, strict=False))
    common = next((n for n, (one, other) in pairs if one != other), min(len(before), len(after)))
    return common / len(after)


def round_tokens(prompts: Prompts) -> list[int]:
    """Return the tokens of the prompts of all roles together, for each step."""
    return [sum(len(encode(one)) for one in sent) for sent in zip(*prompts.values(), strict=True)]


def rows(variant: str, prompts: Prompts) -> Iterator[Row]:
    """Yield the measurements of the prompts of a visit."""
    whole = round_tokens(prompts)
    split = ", ".join(f"{role} {len(encode(sent[AT - 1])):,}" for role, sent in prompts.items())
    yield f"`{variant}`: prompt tokens of round {AT} ({split})", f"{whole[AT - 1]:,}", "at most 2,000"
    yield "… mean and greatest of a round", f"{mean(whole):,.0f}, {max(whole):,}", ""
    yield "… mean of rounds 21 to 40, and 81 to 100", f"{mean(whole[20:40]):,.0f}, {mean(whole[80:]):,.0f}", "flat"
    yield "… calls a round", f"{len(prompts)}", ""
    for role, sent in prompts.items():
        shares = [shared_prefix(*pair) for pair in pairwise(sent)]
        value = f"mean {mean(shares):.0%}, median {median(shares):.0%}, least {min(shares):.0%}"
        yield f"… prefix that the {role}'s prompt shares with the one before", value, "80%"


def long_visits() -> Iterator[Row]:
    """Measure the time to build the prompt of a long visit, with titles seen for the first time."""
    catalogue = games()
    for role, listed in (("planner", ROUNDS_LISTED), ("reflector", None)):
        for count in LONG:
            seconds = min(prompt_seconds(catalogue, role, listed, count, number) for number in range(3))
            yield f"a {role}'s prompt of {count:,} rounds", f"{seconds * 1e3:,.1f} ms", "linear"


def prompt_seconds(catalogue: Catalogue, role: str, listed: int | None, count: int, number: int) -> float:
    """Return the seconds of CPU time to build facts and messages; a different `number` gives different titles."""
    steps = [
        Step(index=n, title=f"{item.title} {role} {number}/{n}", genres=list(item.genres), distance=0.75, reward=3.5)
        for n, item in zip(range(count), itertools.cycle(catalogue), strict=False)
    ]
    start = time.thread_time()
    build_messages(default_prompt(role), {"rounds": round_facts_with_genres(steps)}, Context().prompt_tokens, listed)
    return time.thread_time() - start


async def measure() -> list[Row]:
    """Measure the variants in which all roles play, and long visits."""
    variants = ("billp", "merge_plan_and_act")
    found = [row for variant in variants for row in rows(variant, await measured_prompts(variant))]
    return [*found, *long_visits()]


@contextmanager
def world_of_games() -> Iterator[None]:
    """Set `BILLP_HOME` to a temporary folder with the world in it while the block runs."""
    before = os.environ.get("BILLP_HOME")
    with TemporaryDirectory(prefix="billp-bench-") as base:
        os.environ["BILLP_HOME"] = base
        World.build(WORLD, played(games())).save(Path(base) / "worlds" / WORLD)
        try:
            yield
        finally:
            close_worlds()
            del os.environ["BILLP_HOME"]
            if before is not None:
                os.environ["BILLP_HOME"] = before


def main() -> None:
    """Run all measurements and print a table."""
    table = Table("measured", "value", "aim", title="prompts, with titles and categories as long as Steam's")
    with world_of_games():
        for row in asyncio.run(measure()):
            table.add_row(*row)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
