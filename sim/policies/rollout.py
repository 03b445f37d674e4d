"""Rollout: one visit of a policy to a simulated user, and its record."""

from typing import TypedDict

import numpy as np

from sim.catalogue import Item
from sim.errors import BadInputError
from sim.leave import WINDOW, LeaveReason
from sim.policies.base import Knowledge, OraclePolicy, Policy, visit_rng
from sim.world import World
from sim.world.data import SplitName, User
from sim.world.simulated_user import Reaction, SimulatedUser


class StepRecord(TypedDict):
    """Record of one step of a visit."""

    index: int
    item_id: str
    title: str
    genres: list[str]
    reward: float
    left: bool


class UsageRecord(TypedDict):
    """Calls and tokens of a language model used in a visit; all 0 for a baseline."""

    calls: int
    prompt_tokens: int
    completion_tokens: int


class VisitRecord(TypedDict):
    """Record of a finished visit, with the fields of a VisitOutput; sums exclude the step at which the user left."""

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


def play(
    policy: Policy | OraclePolicy,
    world: World,
    split_name: SplitName,
    user_id: str,
    *,
    seed: int = 0,
    max_steps: int = 100,
    missing: float = 0.0,
) -> VisitRecord:
    """Play one visit of a user of the world.

    Args:
        policy: The policy that recommends.
        world: The world of the user.
        split_name: The user's split.
        user_id: Id of the user.
        seed: Seed of the policy's draws, combined with the user's id, so that the order of visits does not matter.
        max_steps: Limit of the visit, at least 1; the visit ends here if the user still stays.
        missing: Share of the catalogue, drawn by the seed, that the visit does not offer.

    Raises:
        BadInputError: The user is not in this split, or `max_steps` is below 1.

    Examples:
        >>> from sim.data.sources import load_ratings
        >>> from sim.policies.heuristics import Random
        >>> world = World.build("films", load_ratings("tiny", 0))
        >>> visit = play(Random(), world, "train", world.split("train").users[0], max_steps=5)
        >>> visit["length"] == len(visit["steps"]) - visit["left"] <= 5
        True
    """
    if max_steps < 1:
        raise BadInputError(f"max_steps is {max_steps}; give at least 1")
    user = world.users.get(user_id)
    if user is None or user.split != split_name:
        raise BadInputError(
            f"{user_id!r} is not a user of the split {split_name!r}; choose one of world.split(...).users"
        )
    split = world.split(split_name)
    knowledge = _knowledge(world, user, seed, missing)
    choose = policy.begin_with_truth(knowledge, split) if isinstance(policy, OraclePolicy) else policy.begin(knowledge)
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
        steps.append(_step(len(steps), item, reaction))
    return _record(user_id, steps, reason)


def _knowledge(world: World, user: User, seed: int, missing: float) -> Knowledge:
    rng = visit_rng(seed, user.id)
    gone = np.flatnonzero(rng.random(len(world.catalogue)) < missing) if missing else np.empty(0, dtype=np.intp)
    return Knowledge(world.catalogue, world.logs, user, rng, missing=gone, known=world.withheld(user.history))


def _step(index: int, item: Item, reaction: Reaction) -> StepRecord:
    return StepRecord(
        index=index,
        item_id=item.id,
        title=item.title,
        genres=list(item.genres),
        reward=reaction.reward,
        left=reaction.left,
    )


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
