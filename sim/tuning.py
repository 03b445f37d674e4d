"""Tuning: the settings with which a baseline collects most, found on train users and the train table only."""

import threading
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from sim.baselines import DiverseGreedy
from sim.visits import play
from sim.world import LogsModel, World

# Quantiles of the logs model's distances that are tried as theta.
THETA_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
TUNING_USERS = 60
# So many items, drawn by a fixed seed, stand for all pairs when the quantiles are taken.
_THETA_ITEMS = 500


def tune_theta(world: World, users: Sequence[str] | None = None, *, max_steps: int = 100) -> float:
    """Return the theta with which diverse greedy collects most, on train users and the train table only.

    Args:
        world: The world.
        users: Train users to try it on; if None, the first 60.
        max_steps: Limit of the visits.

    Returns:
        The best of the `THETA_QUANTILES` of the logs model's distances; of equals, the smallest.
    """
    chosen = world.split("train").users[:TUNING_USERS] if users is None else tuple(users)
    best, best_total = 0.0, -1.0
    for theta in _thetas(world.logs):
        policy = DiverseGreedy(theta)
        total = sum(play(policy, world, "train", user_id, max_steps=max_steps)["total_reward"] for user_id in chosen)
        if total > best_total:
            best, best_total = theta, total
    return best


_tuned: WeakKeyDictionary[World, float] = WeakKeyDictionary()
_tuning = threading.Lock()


def tuned_theta(world: World) -> float:
    """Return `tune_theta(world)`, worked out once for a loaded world."""
    # One lock for all: visits that run at once wait for the first to tune instead of tuning themselves.
    with _tuning:
        if world not in _tuned:
            _tuned[world] = tune_theta(world)
        return _tuned[world]


def _thetas(logs: LogsModel) -> list[float]:
    n_items = len(logs.vectors)
    rng = np.random.default_rng(0)
    sample = np.sort(rng.choice(n_items, min(n_items, _THETA_ITEMS), replace=False))
    distances = np.concatenate([logs.distances(int(row))[sample[sample > row]] for row in sample])
    return [float(value) for value in np.quantile(distances, THETA_QUANTILES)] if distances.size else [0.0]
