"""Baselines: policies without a language model that any planner must be held against."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypedDict, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sim.catalogue import Catalogue
from sim.contents import SplitName, User
from sim.errors import BadInputError
from sim.leave import LeaveReason, LeaveRule
from sim.users import SimulatedUser
from sim.world import LogsModel, Split, World

WINDOW = LeaveRule().window
# Quantiles of the logs model's distances that are tried as theta.
THETA_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
TUNING_USERS = 60
# So many items, drawn by a fixed seed, stand for all pairs when the quantiles are taken.
_THETA_ITEMS = 500

Mask = NDArray[np.bool_]
Choose = Callable[[Sequence[int]], int]
"""Gives the position of the next item, from those that the visit recommended so far, oldest first."""


class StepRecord(TypedDict):
    """Hold one round of a visit."""

    index: int
    item_id: str
    title: str
    genres: list[str]
    reward: float
    left: bool


class UsageRecord(TypedDict):
    """Hold what a visit cost in calls and tokens of a language model; nothing, for a baseline."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


class VisitRecord(TypedDict):
    """Hold a finished visit, with the fields of a VisitOutput; sums leave out the step at which the user left."""

    user_id: str
    steps: list[StepRecord]
    length: int
    length_with_exit: int
    total_reward: float
    mean_reward: float
    left: bool
    leave_reason: LeaveReason | None
    usage: UsageRecord
    records: list[object]


@dataclass(frozen=True)
class Knowledge:
    """Hold all that a policy may know: nothing here leads to a reward table.

    Attributes:
        catalogue: The items.
        logs: The fit on the logs alone, and popularity.
        user: Whose visit it is, with history.
        rng: Draws for this visit only.
        ratings: What the user gave the items of this visit so far, oldest first.
    """

    catalogue: Catalogue
    logs: LogsModel
    user: User
    rng: np.random.Generator
    ratings: list[float] = field(default_factory=list)


@runtime_checkable
class Policy(Protocol):
    """Recommend from knowledge alone."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit and return how its items are chosen."""
        ...


@dataclass(frozen=True)
class Random:
    """Recommend any item that the visit has not had yet, all alike."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit."""
        n_items, rng = len(knowledge.catalogue), knowledge.rng
        return lambda recommended: int(rng.choice(np.flatnonzero(fresh_items(n_items, recommended))))


@dataclass(frozen=True)
class Popular:
    """Recommend what occurs most in the logs and the visit has not had yet."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit."""
        popularity = knowledge.logs.popularity.astype(np.float64)
        return lambda recommended: _best(popularity, fresh_items(len(popularity), recommended))


@dataclass(frozen=True)
class Greedy:
    """Recommend what the logs model predicts best and the visit has not had yet."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit."""
        predictions = knowledge.logs.predictions(knowledge.user.id)
        return lambda recommended: _best(predictions, fresh_items(len(predictions), recommended))


@dataclass(frozen=True)
class DiverseGreedy:
    """Recommend what is predicted best among what lies at least theta away from the last four items.

    Attributes:
        theta: Lowest distance of the logs model; if None, `run_visit` puts in the one tuned on train users.
    """

    theta: float | None = None

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit.

        Raises:
            BadInputError: theta was not set.
        """
        theta = self.theta
        if theta is None:
            raise BadInputError("diverse greedy has no theta; use tune_theta(world)")
        logs = knowledge.logs
        predictions = logs.predictions(knowledge.user.id)
        distances = lru_cache(maxsize=WINDOW)(logs.distances)

        def choose(recommended: Sequence[int]) -> int:
            fresh = fresh_items(len(predictions), recommended)
            if not recommended:
                return _best(predictions, fresh)
            nearest = np.minimum.reduce([distances(position) for position in recommended[-WINDOW:]])
            far = fresh & (nearest >= theta)
            # With nothing far enough left, the farthest item is the least risk.
            return _best(predictions, far) if far.any() else _best(nearest, fresh)

        return choose


@dataclass(frozen=True)
class Oracle:
    """Recommend the best reward among what keeps the user: an upper mark, since it alone reads the table.

    It looks one round ahead, and recommends no item twice.
    """

    def begin_knowing(self, split: Split, user: User) -> Choose:
        """Begin a visit with the truth at hand."""
        rewards = split.rewards(user.id, user.history)
        rule = split.leave_rule(user.id, user.history)
        distances = lru_cache(maxsize=rule.window)(split.distances)

        def choose(recommended: Sequence[int]) -> int:
            fresh = fresh_items(len(rewards), recommended)
            if not recommended:
                return _best(rewards, fresh)
            nearest = np.minimum.reduce([distances(position) for position in recommended[-rule.window :]])
            # The best of what is far enough keeps the user if anything does; once all end the visit, any item will do.
            far = fresh & (nearest >= rule.min_distance)
            return _best(rewards, far if far.any() else fresh)

        return choose


POLICIES: dict[str, Policy | Oracle] = {
    "random": Random(),
    "popular": Popular(),
    "greedy": Greedy(),
    "diverse_greedy": DiverseGreedy(),
    "oracle": Oracle(),
}


def run_visit(
    policy: str | Policy | Oracle,
    world: World,
    split_name: SplitName,
    user_id: str,
    *,
    seed: int = 0,
    max_steps: int = 100,
) -> VisitRecord:
    """Play one visit of a user of the world.

    Args:
        policy: A name in `POLICIES`, or a policy.
        world: Where the user lives.
        split_name: The user's split.
        user_id: Whose visit it is.
        seed: Seeds the policy's draws, together with the user: the order of visits does not matter.
        max_steps: The visit ends here if the user has not left before, at least 1.

    Raises:
        BadInputError: An unknown policy, a user who is not of this split, or `max_steps` below 1.
    """
    if max_steps < 1:
        raise BadInputError(f"max_steps is {max_steps}; give at least 1")
    user = world.users.get(user_id)
    if user is None or user.split != split_name:
        raise BadInputError(f"{user_id!r} is no user of the split {split_name!r}; take one of world.split(...).users")
    split = world.split(split_name)
    knowledge = Knowledge(world.catalogue, world.logs, user, visit_rng(seed, user_id))
    choose = _begin(_resolve(policy, world), knowledge, split)
    simulated = SimulatedUser(split, user_id, user.history)
    recommended: list[int] = []
    steps: list[StepRecord] = []
    reason: LeaveReason | None = None
    while reason is None and len(steps) < max_steps:
        position = choose(recommended)
        item = world.catalogue[position]
        reaction = simulated.react(item.id, [world.catalogue[other].id for other in recommended[-WINDOW:]])
        reason = reaction.leave_reason
        recommended.append(position)
        knowledge.ratings.append(reaction.reward)
        steps.append(
            StepRecord(
                index=len(steps),
                item_id=item.id,
                title=item.title,
                genres=list(item.genres),
                reward=reaction.reward,
                left=reaction.left,
            )
        )
    return _record(user_id, steps, reason)


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
        total = sum(
            run_visit(policy, world, "train", user_id, max_steps=max_steps)["total_reward"] for user_id in chosen
        )
        if total > best_total:
            best, best_total = theta, total
    return best


def visit_rng(seed: int, user_id: str) -> np.random.Generator:
    """Return the generator of one user's visit: the same in every process, whatever was drawn before."""
    digest = hashlib.blake2b(f"{seed}:{user_id}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


_tuned: WeakKeyDictionary[World, float] = WeakKeyDictionary()
_tuning = threading.Lock()


def tuned_theta(world: World) -> float:
    """Return `tune_theta(world)`, worked out once for a loaded world."""
    # One lock for all: visits that run at once wait for the first to tune instead of tuning themselves.
    with _tuning:
        if world not in _tuned:
            _tuned[world] = tune_theta(world)
        return _tuned[world]


def _resolve(policy: str | Policy | Oracle, world: World) -> Policy | Oracle:
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise BadInputError(f"there is no policy {policy!r}; choose one of: {', '.join(POLICIES)}")
        policy = POLICIES[policy]
    if isinstance(policy, DiverseGreedy) and policy.theta is None:
        return DiverseGreedy(tuned_theta(world))
    return policy


def _begin(policy: Policy | Oracle, knowledge: Knowledge, split: Split) -> Choose:
    return policy.begin_knowing(split, knowledge.user) if isinstance(policy, Oracle) else policy.begin(knowledge)


def _record(user_id: str, steps: list[StepRecord], reason: LeaveReason | None) -> VisitRecord:
    rewards = [step["reward"] for step in steps if not step["left"]]
    total = sum(rewards)
    return VisitRecord(
        user_id=user_id,
        steps=steps,
        length=len(rewards),
        length_with_exit=len(steps),
        total_reward=total,
        mean_reward=total / len(rewards) if rewards else 0.0,
        left=reason is not None,
        leave_reason=reason,
        usage=UsageRecord(calls=0, prompt_tokens=0, completion_tokens=0),
        records=[],
    )


def fresh_items(n_items: int, recommended: Sequence[int]) -> Mask:
    """Return which items the visit has not had; once it had all, which ones it has not had lately."""
    mask = np.ones(n_items, dtype=bool)
    mask[list(recommended)] = False
    if not mask.any():
        mask[:] = True
        mask[list(recommended[-WINDOW:])] = False
    # A catalogue no larger than the window leaves nothing but repeats.
    return mask if mask.any() else ~mask


def _best(scores: NDArray[np.floating], allowed: Mask) -> int:
    """Return the position of the highest allowed score; of equals, the first."""
    return int(np.argmax(np.where(allowed, scores, -np.inf)))


def _thetas(logs: LogsModel) -> list[float]:
    n_items = len(logs.vectors)
    rng = np.random.default_rng(0)
    sample = np.sort(rng.choice(n_items, min(n_items, _THETA_ITEMS), replace=False))
    distances = np.concatenate([logs.distances(int(row))[sample[sample > row]] for row in sample])
    return [float(value) for value in np.quantile(distances, THETA_QUANTILES)] if distances.size else [0.0]
