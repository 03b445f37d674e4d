"""Baselines: policies without a language model that any planner must be held against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.arrays import Numbers
from sim.leave import WINDOW
from sim.policies.base import Choose, Knowledge, best, fresh_items
from sim.world import Split
from sim.world.data import User


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
        theta: Lowest distance of the logs model.
    """

    theta: float

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit."""
        logs = knowledge.logs
        predictions = logs.predictions(knowledge.user.id)
        distances = lru_cache(maxsize=WINDOW)(logs.distances)

        def choose(recommended: Sequence[int]) -> int:
            fresh = fresh_items(len(predictions), recommended)
            if not recommended:
                return best(predictions, fresh)
            nearest = _least(distances, recommended)
            far = fresh & (nearest >= self.theta)
            # With nothing far enough left, the farthest item is the least risk.
            return best(predictions, far) if far.any() else best(nearest, fresh)

        return choose


@dataclass(frozen=True)
class GenreGreedy:
    """Recommend the best sum of predicted rating, vector_weight x sqrt(v) and genre_weight x sqrt(g).

    v is the least distance to the last four items by the logs model, g that by genres (`Catalogue.genre_distances`).

    Attributes:
        vector_weight: Rating points that a distance of 1 by the logs model is worth.
        genre_weight: Rating points that a distance of 1 by genres is worth.
    """

    vector_weight: float
    genre_weight: float

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit."""
        predictions = knowledge.logs.predictions(knowledge.user.id)
        by_vector = lru_cache(maxsize=WINDOW)(knowledge.logs.distances)
        by_genre = lru_cache(maxsize=WINDOW)(knowledge.catalogue.genre_distances)

        def choose(recommended: Sequence[int]) -> int:
            scores = predictions
            if recommended:
                apart = np.sqrt(_least(by_vector, recommended)) * np.float32(self.vector_weight)
                unlike = np.sqrt(_least(by_genre, recommended)) * np.float32(self.genre_weight)
                scores = predictions + apart + unlike
            return best(scores, fresh_items(len(predictions), recommended))

        return choose


@dataclass(frozen=True)
class PopGreedy:
    """Recommend the best sum of predicted rating, vector_weight x v and popularity_weight x log(1 + popularity).

    v is the least distance to the last four items by the logs model; popularity counts an item's ratings in the logs.

    Attributes:
        vector_weight: Rating points that a distance of 1 by the logs model is worth.
        popularity_weight: Rating points that being e times as popular is worth.
    """

    vector_weight: float
    popularity_weight: float

    def begin(self, knowledge: Knowledge) -> Choose:
        """Begin a visit."""
        popularity = np.log1p(knowledge.logs.popularity).astype(np.float32)
        liked = knowledge.logs.predictions(knowledge.user.id) + np.float32(self.popularity_weight) * popularity
        distances = lru_cache(maxsize=WINDOW)(knowledge.logs.distances)

        def choose(recommended: Sequence[int]) -> int:
            scores = liked
            if recommended:
                scores = liked + _least(distances, recommended) * np.float32(self.vector_weight)
            return best(scores, fresh_items(len(liked), recommended))

        return choose


@dataclass(frozen=True)
class Oracle:
    """Recommend the best reward among what keeps the user: an upper mark, since it alone reads the table.

    It looks one round ahead, and recommends no item twice.
    """

    def begin_with_truth(self, split: Split, user: User) -> Choose:
        """Begin a visit with the truth at hand."""
        rewards = split.rewards(user.id, user.history)
        rule = split.leave_rule(user.id, user.history)
        distances = lru_cache(maxsize=rule.window)(split.distances)

        def choose(recommended: Sequence[int]) -> int:
            fresh = fresh_items(len(rewards), recommended)
            if not recommended:
                return best(rewards, fresh)
            nearest = _least(distances, recommended, rule.window)
            # The best of what is far enough keeps the user if anything does; once all end the visit, any item will do.
            far = fresh & (nearest >= rule.min_distance)
            return best(rewards, far if far.any() else fresh)

        return choose


def _least(distances: Callable[[int], Numbers], recommended: Sequence[int], window: int = WINDOW) -> Numbers:
    """Return the least distance of every item to the last items recommended, shape (n_items,)."""
    least: Numbers = np.minimum.reduce([distances(position) for position in recommended[-window:]])
    return least
