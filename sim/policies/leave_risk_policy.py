"""Leave-risk policy: baseline that recommends the highest expected return by the leave-risk model, without roles."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sim.leave import WINDOW
from sim.policies.base import Choose, Knowledge, best
from sim.policies.leave_risk import (
    WEIGHT_PRIOR,
    LeaveRiskModel,
    WeightPrior,
    expected_return,
    fit_leave_risk,
)
from sim.policies.pair_evidence import RoundOutcome, Rounds
from sim.policies.pair_features import PairFeatures
from sim.policies.rollout import VisitRecord, play
from sim.world import World
from sim.world.data import TABLE_OF, SplitName, TableName


@dataclass(frozen=True)
class LeaveRiskPolicy:
    """Policy that recommends the highest expected return by a leave-risk model, or random items without a model.

    Attributes:
        outlook: The leave-risk model; None for random items.
        limit: Limit of the visit: if the user leaves, the steps up to it are lost.
    """

    outlook: LeaveRiskModel | None
    limit: int = 100

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit."""
        predictions, rng = knowledge.logs.predictions(knowledge.user.id), knowledge.rng

        def choose(recommended: Sequence[int]) -> int:
            scores = rng.random(len(predictions))
            if self.outlook is not None:
                risks = self.outlook.risks(recommended[-WINDOW:], predictions)
                scores = expected_return(risks, predictions, max(0, self.limit - len(recommended) - 1))
            return best(scores, knowledge.fresh(recommended))

        return choose


class LeaveRiskLearner:
    """Leave-risk policy that learns on: it is fitted to the rounds of all visits observed so far.

    Args:
        world: The world.
        max_steps: Limit of a visit.
        prior: Prior of the weights.
        rounds: Rounds of train users observed earlier.
    """

    def __init__(
        self,
        world: World,
        max_steps: int = 100,
        *,
        prior: WeightPrior = WEIGHT_PRIOR,
        rounds: Iterable[RoundOutcome] = (),
    ) -> None:
        self.rounds = list(rounds)
        """Rounds observed so far, in order."""
        self._tables: list[TableName] = ["train"] * len(self.rounds)
        self._world = world
        self._max_steps = max_steps
        self._prior = prior
        self._features = PairFeatures(world.catalogue, world.logs)

    def observe(self, visit: VisitRecord) -> None:
        """Add the rounds of a visit."""
        self.rounds += _observed(self._world, visit)
        self._tables += [self._world.table_of(visit["user_id"])] * len(visit["steps"])

    def fitted(self, split: SplitName) -> LeaveRiskPolicy:
        """Return the policy for users of a split, fitted to the rounds; at the prior if there are none."""
        elsewhere = np.array([table != TABLE_OF[split] for table in self._tables], dtype=np.bool_)
        rounds = replace(Rounds.of(self.rounds), elsewhere=elsewhere)
        return LeaveRiskPolicy(fit_leave_risk(self._features, rounds, self._prior), self._max_steps)


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
) -> LeaveRiskLearner:
    """Learn a leave-risk policy from visits that the policy itself plays.

    Args:
        world: The world.
        users: Train users, in the order of their visits.
        cohort: Number of visits between two fits.
        explore: Share of visits that recommend random items.
        seed: Seed of the choice of exploring visits, and of their items.
        max_steps: Limit of a visit.
        prior: Prior of the weights.
        progress: Called with the number of visits played.

    Returns:
        The learner with the rounds of all visits.
    """
    learner, rng = LeaveRiskLearner(world, max_steps, prior=prior), np.random.default_rng(seed)
    policy, at_random = learner.fitted("train"), LeaveRiskPolicy(None, max_steps)
    for number, user_id in enumerate(users):
        if number and number % cohort == 0:
            policy = learner.fitted("train")
        chosen = at_random if rng.random() < explore else policy
        # The visit's number is part of the seed, so that a user's next visit draws other random items.
        visit = play(chosen, world, "train", user_id, seed=seed * 1_000_000 + number, max_steps=max_steps)
        learner.observe(visit)
        progress(number + 1)
    return learner


def _observed(world: World, visit: VisitRecord) -> Iterator[RoundOutcome]:
    predictions = world.logs.predictions(visit["user_id"])
    items = [world.catalogue.position(step["item_id"]) for step in visit["steps"]]
    for index, (item, step) in enumerate(zip(items, visit["steps"], strict=True)):
        recent = tuple(items[max(0, index - WINDOW) : index])
        yield RoundOutcome(item, recent, float(predictions[item]), step["left"])
