"""Baselines: policies without a language model that any planner must be held against."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.contents import User
from sim.errors import BadInputError
from sim.knowledge import WINDOW, Choose, Knowledge, best, fresh_items
from sim.world import Split


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
        return lambda recommended: best(popularity, fresh_items(len(popularity), recommended))


@dataclass(frozen=True)
class Greedy:
    """Recommend what the logs model predicts best and the visit has not had yet."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit."""
        predictions = knowledge.logs.predictions(knowledge.user.id)
        return lambda recommended: best(predictions, fresh_items(len(predictions), recommended))


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
                return best(predictions, fresh)
            nearest = np.minimum.reduce([distances(position) for position in recommended[-WINDOW:]])
            far = fresh & (nearest >= theta)
            # With nothing far enough left, the farthest item is the least risk.
            return best(predictions, far) if far.any() else best(nearest, fresh)

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
                return best(rewards, fresh)
            nearest = np.minimum.reduce([distances(position) for position in recommended[-rule.window :]])
            # The best of what is far enough keeps the user if anything does; once all end the visit, any item will do.
            far = fresh & (nearest >= rule.min_distance)
            return best(rewards, far if far.any() else fresh)

        return choose
