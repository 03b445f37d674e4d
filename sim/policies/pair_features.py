"""Features of pairs of items, as a recommender sees them: distance, shared genres and isolation."""

import numpy as np

from sim.arrays import Doubles, Floats, Positions
from sim.catalogue import Catalogue
from sim.world import LogsModel

# Size of the sample of items that represents the catalogue if all pairs would be too many.
_SAMPLE = 2_000
# Share of the sample that counts as near: an item's isolation is its mean distance to these nearest items.
_NEAREST = 0.025
# Pairs whose features are computed at once, to bound the memory.
_AT_ONCE = 50_000


class PairFeatures:
    """Features of pairs of items.

    Distances are in units of the world, 0 at their median and -1 at their 5% quantile, so that the same prior suits
    every world.

    Args:
        catalogue: The items.
        logs: The logs model.
    """

    def __init__(self, catalogue: Catalogue, logs: LogsModel) -> None:
        self.n_items = len(catalogue)
        self._logs = logs
        self._genres = catalogue.genre_matrix.astype(np.float32)
        self._counts = self._genres.sum(axis=1)
        sample = np.sort(np.random.default_rng(0).choice(self.n_items, min(self.n_items, _SAMPLE), replace=False))
        nearest = max(1, round(_NEAREST * len(sample)))
        between = []
        rows = np.empty((len(sample), self.n_items), dtype=np.float32)
        for row, item in enumerate(sample):
            rows[row] = logs.distances(int(item))
            between.append(rows[row, sample[row + 1 :]])
        # The sample may contain the item itself, at distance 0.
        total = np.partition(rows, min(nearest, len(sample) - 1), axis=0)[: nearest + 1].sum(axis=0) / nearest
        spread = float(total.std())
        self._isolation = (total - total.mean()) / (spread if spread > 0 else 1.0)
        distances = np.concatenate(between) if len(sample) > 1 else np.zeros(1)
        low, self._median = (float(value) for value in np.quantile(distances, (0.05, 0.5)))
        self._unit = max(self._median - low, 1e-6)

    def with_item(self, other: int) -> Doubles:
        """Return the features of every item paired with one item, shape (n_items, 5)."""
        shared = self._genres @ self._genres[other]
        return self._features(np.arange(self.n_items), np.asarray(other), self._logs.distances(other), shared)

    def of(self, items: Positions, others: Positions) -> Doubles:
        """Return the features of each item paired with the other of the same index, shape (n_pairs, 5)."""
        shared = _products(self._genres, items, others)
        return self._features(items, others, self.distances(items, others), shared)

    def distances(self, items: Positions, others: Positions) -> Floats:
        """Return the distance of each item to the other of the same index, shape (n_pairs,)."""
        return np.asarray(1 - _products(self._logs.vectors, items, others), dtype=np.float32)

    def _features(self, items: Positions, others: Positions, distances: Floats, shared: Floats) -> Doubles:
        distance = (distances - self._median) / self._unit
        alike = shared / np.maximum(self._counts[items] + self._counts[others] - shared, 1.0)
        isolation = (self._isolation[items] + self._isolation[others]) / 2
        columns = (np.ones(len(distance)), distance, alike, isolation, isolation * distance)
        return np.stack(columns, axis=1).astype(np.float64)


def _products(rows: Floats, items: Positions, others: Positions) -> Floats:
    """Return the dot product of the rows of each pair."""
    found = np.empty(len(items), dtype=np.float32)
    for start in range(0, len(items), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found[part] = np.einsum("ij,ij->i", rows[items[part]], rows[others[part]])
    return found
