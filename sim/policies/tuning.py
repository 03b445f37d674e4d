"""Tuning: parameters of a rule with the highest total reward, on train users and the train table only."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from sim.arrays import Doubles
from sim.atomic_files import write_atomic
from sim.policies.base import Policy
from sim.policies.heuristics import DiverseGreedy, GenreGreedy, PopGreedy
from sim.policies.rollout import play
from sim.world import LogsModel, World

TUNING_USERS = 30
# Visits of each user for a combination. Each offers another part of the catalogue: a rule recommends much the same
# items to everybody, so in visits of the whole catalogue the best combination would be the one with the luckiest items.
VISITS_A_USER = 2
MISSING = 0.3
# Quantiles of the logs model's distances, tried as theta; the first allows every item, as `greedy` does.
THETA_QUANTILES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
FURTHER_QUANTILES = (0.9, 0.95, 0.975, 0.99)
# Size of the sample of items, drawn with a fixed seed, whose pairs give the quantiles.
_THETA_ITEMS = 500
# Weights to try, in spreads: gain of an item at the mean distance of two items (or one standard deviation more
# popular), relative to the spread of a user's predictions; without any weight a rule is `greedy`.
DISTANCE_SPREADS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
GENRE_SPREADS = (0.0, 1.0, 2.0, 4.0, 8.0)
POPULARITY_SPREADS = (0.0, 0.5, 1.0, 2.0, 4.0)
# Further weights double five times: beyond, one term alone decides, and nothing changes any more.
_DOUBLINGS = 5


class Axis(NamedTuple):
    """Values to try for one parameter, ascending."""

    values: tuple[float, ...]
    further: tuple[float, ...] = ()
    """Values above these, tried one after another as long as the highest value so far is the best."""


@dataclass(frozen=True)
class Family:
    """Policies that differ only in their parameters.

    Attributes:
        make: Creates a policy from its parameters.
        axes: Returns the values to try for each parameter, from the logs model and the users of the tuning.
    """

    make: Callable[..., Policy]
    axes: Callable[[LogsModel, Sequence[str]], tuple[Axis, ...]]


class Tuned(BaseModel):
    """Result of tuning."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    parameters: tuple[float, ...]
    """Best parameters."""
    visits: int
    """Number of visits of train users used for tuning."""


def tune(family: Family, world: World, users: Sequence[str] | None = None, *, max_steps: int = 100) -> Tuned:
    """Return the parameters of a family with the highest total reward, on train users and the train table only.

    Every combination of parameters visits every user twice; each visit leaves out 30% of the catalogue at random. Its
    score is its total reward averaged with its neighbours on the grid, because a single combination may have luck with
    the few items that it recommends to everyone. If the best combination has the highest value of a parameter, the grid
    goes on with a further value, as long as there is one.

    Args:
        family: The policies.
        world: The world.
        users: Train users for the visits; if None, the first 30.
        max_steps: Limit of the visits.

    Returns:
        The best parameters; the smallest ones if several are equal.
    """
    chosen = world.split("train").users[:TUNING_USERS] if users is None else tuple(users)
    axes = list(family.axes(world.logs, chosen))
    totals: dict[tuple[float, ...], float] = {}
    while True:
        for parameters in product(*(axis.values for axis in axes)):
            if parameters not in totals:
                policy = family.make(*parameters)
                visits = (
                    play(policy, world, "train", user_id, seed=seed, max_steps=max_steps, missing=MISSING)
                    for user_id in chosen
                    for seed in range(VISITS_A_USER)
                )
                totals[parameters] = sum(visit["total_reward"] for visit in visits)
        best = _best(axes, totals)
        at_edge = [number for number, axis in enumerate(axes) if best[number] == axis.values[-1] and axis.further]
        if not at_edge:
            return Tuned(parameters=best, visits=len(totals) * len(chosen) * VISITS_A_USER)
        for number in at_edge:
            values, (following, *rest) = axes[number]
            axes[number] = Axis((*values, following), tuple(rest))


_known: WeakKeyDictionary[World, dict[Family, Policy]] = WeakKeyDictionary()
_tuning = threading.Lock()


def tuned(family: Family, world: World) -> Policy:
    """Return the best policy of a family, tuned once per loaded world."""
    # One lock for all, so that parallel visits wait for the first tuning and do not repeat it.
    with _tuning:
        known = _known.setdefault(world, {})
        if family not in known:
            known[family] = family.make(*tune(family, world).parameters)
        return known[family]


def tune_once(family: Family, world: World, file: Path, *, max_steps: int) -> Tuned:
    """Return the result of `tune`, computed once for all processes that share the file."""
    with FileLock(f"{file}.lock"):
        if not file.exists():
            write_atomic(file, tune(family, world, max_steps=max_steps).model_dump_json())
    return Tuned.model_validate_json(file.read_bytes())


def _best(axes: Sequence[Axis], totals: Mapping[tuple[float, ...], float]) -> tuple[float, ...]:
    """Return the combination with the highest score; the smallest one if several are equal."""
    found = [totals[parameters] for parameters in product(*(axis.values for axis in axes))]
    grid = _with_neighbours(np.array(found).reshape([len(axis.values) for axis in axes]))
    best = np.unravel_index(int(np.argmax(grid)), grid.shape)
    return tuple(axis.values[int(place)] for axis, place in zip(axes, best, strict=True))


def _with_neighbours(grid: Doubles) -> Doubles:
    """Return the mean of each cell and its neighbours, along every axis."""
    sums, counts = grid, np.ones_like(grid)
    for axis in range(grid.ndim):
        border = [(1, 1) if other == axis else (0, 0) for other in range(grid.ndim)]
        sums, counts = (
            np.lib.stride_tricks.sliding_window_view(np.pad(one, border), 3, axis).sum(axis=-1)
            for one in (sums, counts)
        )
    return sums / counts


def _thetas(logs: LogsModel, users: Sequence[str]) -> tuple[Axis]:
    n_items = len(logs.vectors)
    rng = np.random.default_rng(0)
    sample = np.sort(rng.choice(n_items, min(n_items, _THETA_ITEMS), replace=False))
    distances = np.concatenate([logs.distances(int(row))[sample[sample > row]] for row in sample])
    if not distances.size:
        return (Axis((0.0,)),)
    tried, further = (np.quantile(distances, some).tolist() for some in (THETA_QUANTILES, FURTHER_QUANTILES))
    return (Axis(tuple(tried), tuple(further)),)


def _genre_weights(logs: LogsModel, users: Sequence[str]) -> tuple[Axis, Axis]:
    unit = _spread(logs, users)
    return _scaled(DISTANCE_SPREADS, unit / _mean_distance(logs) ** 0.5), _scaled(GENRE_SPREADS, unit)


def _popularity_weights(logs: LogsModel, users: Sequence[str]) -> tuple[Axis, Axis]:
    unit = _spread(logs, users)
    deviation = float(np.log1p(logs.popularity).std()) or 1.0
    return _scaled(DISTANCE_SPREADS, unit / _mean_distance(logs)), _scaled(POPULARITY_SPREADS, unit / deviation)


def _scaled(spreads: Sequence[float], unit: float) -> Axis:
    further = (spreads[-1] * 2**doubling for doubling in range(1, _DOUBLINGS + 1))
    return Axis(tuple(spread * unit for spread in spreads), tuple(spread * unit for spread in further))


def _spread(logs: LogsModel, users: Sequence[str]) -> float:
    """Return the standard deviation of a user's predictions over the items, as the mean over users."""
    return float(np.mean([logs.predictions(user_id).std() for user_id in users])) if users else 1.0


def _mean_distance(logs: LogsModel) -> float:
    """Return the mean distance of two items; 1 if it is not positive, as with a single item."""
    n_items = len(logs.vectors)
    # The products of all pairs of distinct unit vectors add up to the squared length of their sum, minus n.
    total = logs.vectors.sum(axis=0, dtype=np.float64)
    mean = 1.0 - (float(total @ total) - n_items) / max(n_items * (n_items - 1), 1)
    return mean if mean > 0 else 1.0


DIVERSE_GREEDY = Family(DiverseGreedy, _thetas)
GENRE_GREEDY = Family(GenreGreedy, _genre_weights)
POP_GREEDY = Family(PopGreedy, _popularity_weights)
