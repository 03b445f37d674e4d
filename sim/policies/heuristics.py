"""Heuristic baselines: policies without a language model, as a yardstick for every planner."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.arrays import Numbers
from sim.leave import WINDOW
from sim.policies.base import Choose, Knowledge, best
from sim.world import Split


@dataclass(frozen=True)
class Random:
    """Policy that recommends a random item, each item new to the visit with equal probability."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit."""
        rng = knowledge.rng
        return lambda recommended: int(rng.choice(np.flatnonzero(knowledge.fresh(recommended))))


@dataclass(frozen=True)
class Popular:
    """Policy that recommends the item with the most ratings in the logs among the items new to the visit."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit."""
        popularity = knowledge.logs.popularity.astype(np.float64)
        return lambda recommended: best(popularity, knowledge.fresh(recommended))


@dataclass(frozen=True)
class Greedy:
    """Policy that recommends the item with the highest predicted rating among the items new to the visit."""

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit."""
        predictions = knowledge.logs.predictions(knowledge.user.id)
        return lambda recommended: best(predictions, knowledge.fresh(recommended))


@dataclass(frozen=True)
class DiverseGreedy:
    """Policy that recommends the highest predicted rating among items at least theta away from the last four items.

    Attributes:
        theta: Lowest allowed distance by the logs model.
    """

    theta: float

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit."""
        logs = knowledge.logs
        predictions = logs.predictions(knowledge.user.id)
        distances = lru_cache(maxsize=WINDOW)(logs.distances)

        def choose(recommended: Sequence[int]) -> int:
            fresh = knowledge.fresh(recommended)
            if not recommended:
                return best(predictions, fresh)
            nearest = _least(distances, recommended)
            far = fresh & (nearest >= self.theta)
            # If every item left is too close, the farthest item has the lowest risk.
            return best(predictions, far) if far.any() else best(nearest, fresh)

        return choose


@dataclass(frozen=True)
class GenreGreedy:
    """Policy that maximises predicted rating + vector_weight x sqrt(v) + genre_weight x sqrt(g).

    v is the least distance to the last four items by the logs model, g by genres (`Catalogue.genre_distances`).

    Attributes:
        vector_weight: Rating points for a distance of 1 by the logs model.
        genre_weight: Rating points for a distance of 1 by genres.
    """

    vector_weight: float
    genre_weight: float

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit."""
        predictions = knowledge.logs.predictions(knowledge.user.id)
        by_vector = lru_cache(maxsize=WINDOW)(knowledge.logs.distances)
        by_genre = lru_cache(maxsize=WINDOW)(knowledge.catalogue.genre_distances)

        def choose(recommended: Sequence[int]) -> int:
            scores = predictions
            if recommended:
                apart = np.sqrt(_least(by_vector, recommended)) * np.float32(self.vector_weight)
                unlike = np.sqrt(_least(by_genre, recommended)) * np.float32(self.genre_weight)
                scores = predictions + apart + unlike
            return best(scores, knowledge.fresh(recommended))

        return choose


@dataclass(frozen=True)
class PopGreedy:
    """Policy that maximises predicted rating + vector_weight x v + popularity_weight x log(1 + popularity).

    v is the least distance to the last four items by the logs model. Popularity is an item's number of ratings in the
    logs.

    Attributes:
        vector_weight: Rating points for a distance of 1 by the logs model.
        popularity_weight: Rating points for a popularity e times as high.
    """

    vector_weight: float
    popularity_weight: float

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit."""
        popularity = np.log1p(knowledge.logs.popularity).astype(np.float32)
        liked = knowledge.logs.predictions(knowledge.user.id) + np.float32(self.popularity_weight) * popularity
        distances = lru_cache(maxsize=WINDOW)(knowledge.logs.distances)

        def choose(recommended: Sequence[int]) -> int:
            scores = liked
            if recommended:
                scores = liked + _least(distances, recommended) * np.float32(self.vector_weight)
            return best(scores, knowledge.fresh(recommended))

        return choose


@dataclass(frozen=True)
class Oracle:
    """Policy that recommends the highest reward among items at which the user stays: an upper bound.

    It alone reads the reward table. It looks one step ahead and never repeats an item.
    """

    def begin_with_truth(self, knowledge: Knowledge, split: Split) -> Choose:
        """Start a visit with access to the truth."""
        user = knowledge.user
        rewards = split.rewards(user.id, user.history)
        rule = split.leave_rule(user.id, user.history)
        distances = lru_cache(maxsize=rule.window)(split.distances)

        def choose(recommended: Sequence[int]) -> int:
            fresh = knowledge.fresh(recommended)
            if not recommended:
                return best(rewards, fresh)
            nearest = _least(distances, recommended, rule.window)
            # If the user stays at any item, the user stays at the best of those far enough. If not, any item will do.
            far = fresh & (nearest >= rule.min_distance)
            return best(rewards, far if far.any() else fresh)

        return choose


def _least(distances: Callable[[int], Numbers], recommended: Sequence[int], window: int = WINDOW) -> Numbers:
    """Return the least distance of every item to the last recommended items, shape (n_items,)."""
    least: Numbers = np.minimum.reduce([distances(position) for position in recommended[-window:]])
    return least
