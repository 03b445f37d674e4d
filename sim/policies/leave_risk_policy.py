"""The learned outlook as a baseline of its own: it recommends what promises most, with no role around it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sim.leave import WINDOW
from sim.policies.base import Choose, Knowledge, best, fresh_items
from sim.policies.leave_risk import LeaveRiskModel, PairFeatures, RoundOutcome, expected_return, fit_leave_risk
from sim.policies.rollout import VisitRecord, play
from sim.world import World


@dataclass(frozen=True)
class LeaveRiskPolicy:
    """Recommend what promises most by an outlook; items at random where there is none.

    Attributes:
        outlook: What was learned.
    """

    outlook: LeaveRiskModel | None

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit."""
        predictions, rng = knowledge.logs.predictions(knowledge.user.id), knowledge.rng

        def choose(recommended: Sequence[int]) -> int:
            scores = rng.random(len(predictions))
            if self.outlook is not None:
                scores = expected_return(self.outlook.risks(recommended[-WINDOW:], predictions), predictions)
            return best(scores, fresh_items(len(predictions), recommended))

        return choose


def learn_leave_risk_policy(
    world: World,
    users: Sequence[str],
    *,
    cohort: int,
    explore: float,
    seed: int = 0,
    max_steps: int = 100,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[LeaveRiskPolicy, int]:
    """Learn an outlook from visits that it guides itself.

    Args:
        world: The world.
        users: Train users, in the order of their visits.
        cohort: Visits after which it is fitted anew.
        explore: Share of the visits that try items at random; the first cohort's all do.
        seed: Seeds which visits explore, and what they try.
        max_steps: Limit of a visit.
        progress: Is told how many visits are done.

    Returns:
        The policy, and the number of rounds that it learned from.
    """
    pairs, rng = PairFeatures(world.catalogue, world.logs), np.random.default_rng(seed)
    observations: list[RoundOutcome] = []
    policy = nothing = LeaveRiskPolicy(None)
    for number, user_id in enumerate(users):
        if number and number % cohort == 0:
            policy = LeaveRiskPolicy(fit_leave_risk(pairs, observations))
        chosen = nothing if rng.random() < explore else policy
        # A user who comes again is not recommended the same at random.
        visit = play(chosen, world, "train", user_id, seed=seed * 1_000_000 + number, max_steps=max_steps)
        observations += _observed(world, visit)
        progress(number + 1)
    return LeaveRiskPolicy(fit_leave_risk(pairs, observations)), len(observations)


def _observed(world: World, visit: VisitRecord) -> Iterator[RoundOutcome]:
    predictions = world.logs.predictions(visit["user_id"])
    items = [world.catalogue.position(step["item_id"]) for step in visit["steps"]]
    for index, (item, step) in enumerate(zip(items, visit["steps"], strict=True)):
        recent = tuple(items[max(0, index - WINDOW) : index])
        yield RoundOutcome(item, recent, float(predictions[item]), step["left"])
