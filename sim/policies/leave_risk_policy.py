"""Leave-risk policy: baseline that recommends the highest expected return by the leave-risk model, without roles."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sim.leave import WINDOW
from sim.policies.base import Choose, Knowledge, best
from sim.policies.leave_risk import (
    AHEAD,
    WEIGHT_PRIOR,
    LeaveRiskModel,
    PairFeatures,
    RoundOutcome,
    WeightPrior,
    expected_return,
    fit_leave_risk,
)
from sim.policies.rollout import VisitRecord, play
from sim.world import World


@dataclass(frozen=True)
class LeaveRiskPolicy:
    """Policy that recommends the highest expected return by a leave-risk model, or random items without a model.

    Attributes:
        outlook: The fitted leave-risk model; None before the first fit.
        ahead: Number of steps lost if the user leaves: the limit of the visit.
    """

    outlook: LeaveRiskModel | None
    ahead: int = AHEAD

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit."""
        predictions, rng = knowledge.logs.predictions(knowledge.user.id), knowledge.rng

        def choose(recommended: Sequence[int]) -> int:
            scores = rng.random(len(predictions))
            if self.outlook is not None:
                risks = self.outlook.risks(recommended[-WINDOW:], predictions)
                scores = expected_return(risks, predictions, self.ahead)
            return best(scores, knowledge.fresh(recommended))

        return choose


def learn_leave_risk_policy(
    world: World,
    users: Sequence[str],
    *,
    cohort: int,
    explore: float,
    seed: int = 0,
    max_steps: int = 100,
    prior: WeightPrior = WEIGHT_PRIOR,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[LeaveRiskPolicy, int]:
    """Learn a leave-risk policy from visits that the policy itself plays.

    Args:
        world: The world.
        users: Train users, in the order of their visits.
        cohort: Number of visits between two fits.
        explore: Share of visits that recommend random items; in the first cohort, all do.
        seed: Seed of the choice of exploring visits, and of their items.
        max_steps: Limit of a visit.
        prior: Prior of the weights.
        progress: Called with the number of visits played.

    Returns:
        The policy, and the number of steps that it learned from.
    """
    pairs, rng = PairFeatures(world.catalogue, world.logs), np.random.default_rng(seed)
    observations: list[RoundOutcome] = []
    policy = nothing = LeaveRiskPolicy(None, max_steps)
    for number, user_id in enumerate(users):
        if number and number % cohort == 0:
            policy = LeaveRiskPolicy(fit_leave_risk(pairs, observations, prior), max_steps)
        chosen = nothing if rng.random() < explore else policy
        # The visit's number is part of the seed, so that a user's next visit draws other random items.
        visit = play(chosen, world, "train", user_id, seed=seed * 1_000_000 + number, max_steps=max_steps)
        observations += _observed(world, visit)
        progress(number + 1)
    return LeaveRiskPolicy(fit_leave_risk(pairs, observations, prior), max_steps), len(observations)


def _observed(world: World, visit: VisitRecord) -> Iterator[RoundOutcome]:
    predictions = world.logs.predictions(visit["user_id"])
    items = [world.catalogue.position(step["item_id"]) for step in visit["steps"]]
    for index, (item, step) in enumerate(zip(items, visit["steps"], strict=True)):
        recent = tuple(items[max(0, index - WINDOW) : index])
        yield RoundOutcome(item, recent, float(predictions[item]), step["left"])
