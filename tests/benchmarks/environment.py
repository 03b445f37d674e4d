"""Benchmark of the Gymnasium environment: `make bench`. One process; resets count, drawing the actions does not."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nodes.tools.open_world import default_world
from sim.data.sources import load_ratings
from sim.policies.base import Knowledge, Policy, visit_rng
from sim.policies.tuning import DIVERSE_GREEDY, tuned
from sim.rl.environment import ENVIRONMENT, RecommendEnv
from sim.world import World

STEPS = 100_000
LONG_VISITS = 50
AIM = "at least 20,000"
Row = tuple[str, str, str]


def rate(env: Any, actions: NDArray[np.int64]) -> tuple[float, float]:
    """Return steps per second, and steps per visit."""
    env.reset(seed=0)
    visits = 1
    start = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
            visits += 1
    return len(actions) / (time.perf_counter() - start), len(actions) / visits


def masked_rate(env: RecommendEnv) -> float:
    """Return steps per second if each action is drawn from the mask."""
    _, info = env.reset(seed=0)
    env.action_space.seed(0)
    start = time.perf_counter()
    for _ in range(STEPS):
        _, _, terminated, truncated, info = env.step(env.action_space.sample(mask=info["action_mask"]))
        if terminated or truncated:
            _, info = env.reset()
    return STEPS / (time.perf_counter() - start)


def long_visits(world: World, env: RecommendEnv) -> tuple[float, float]:
    """Return steps per second, including resets, and steps per visit, under a policy that keeps users for long."""
    policy = tuned(DIVERSE_GREEDY, world)
    played = [visit_of(policy, world, env, user_id) for user_id in world.split("train").users[:LONG_VISITS]]
    start = time.perf_counter()
    for user_id, actions in played:
        env.reset(options={"user_id": user_id})
        for action in actions:
            env.step(action)
    rounds = sum(len(actions) for _, actions in played)
    return rounds / (time.perf_counter() - start), rounds / len(played)


def visit_of(policy: Policy, world: World, env: RecommendEnv, user_id: str) -> tuple[str, NDArray[np.int64]]:
    """Return the user's id and the items that a policy recommends to the user."""
    user = world.users[user_id]
    known = world.withheld(user.history)
    knowledge = Knowledge(world.catalogue, world.logs, user, visit_rng(0, user_id), known=known)
    choose = policy.begin(knowledge)
    env.reset(options={"user_id": user_id})
    played: list[int] = []
    over = False
    while not over:
        played.append(choose(played))
        _, _, terminated, truncated, _ = env.step(np.int64(played[-1]))
        over = terminated or truncated
    return user_id, np.array(played)


def measure(world: World, folder: Path) -> Iterator[Row]:
    """Measure the environment itself, and as wrapped by `gymnasium.make`."""
    env = RecommendEnv(world)
    actions = np.random.default_rng(0).integers(0, len(world.catalogue), STEPS)
    steps, rounds = rate(env, actions)
    yield f"steps, any item (visits of {rounds:.1f} rounds)", f"{steps:,.0f} a second", AIM
    steps, rounds = long_visits(world, env)
    yield f"steps, diverse greedy's items (visits of {rounds:.1f} rounds)", f"{steps:,.0f} a second", AIM
    yield "steps, each drawn by `action_space.sample(mask=...)`", f"{masked_rate(env):,.0f} a second", ""
    made = gymnasium.make(ENVIRONMENT, world=folder)
    yield "steps, any item, by `gymnasium.make`", f"{rate(made, actions)[0]:,.0f} a second", AIM


def main() -> None:
    """Run the benchmark and print a table."""
    base = Path(tempfile.mkdtemp(prefix="billp-bench-"))
    try:
        name = default_world()
        world = World.build(name, load_ratings(name, 0))
        world.save(base / name)
        table = Table("measured", "value", "aim", title=f"{ENVIRONMENT} on {name} ({len(world.catalogue):,} items)")
        for row in measure(world, base / name):
            table.add_row(*row)
        Console(width=110).print(table)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
