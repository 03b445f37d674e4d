"""Factor model of explicit ratings: predicted rewards of every user for every item, and distances between items."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field

from sim.arrays import Doubles, Floats, Positions
from sim.errors import BadInputError

LOWEST_REWARD, HIGHEST_REWARD = 1.0, 5.0
# Bounds of an uncut prediction, so that a degenerate fit fits into a record (`memory.records.Predicted`).
LOWEST_PREDICTION, HIGHEST_PREDICTION = -5.0, 15.0
TAU_QUANTILE = 0.05
# Tau is exact for up to this many items. For more, it comes from a seeded sample of this size.
TAU_ITEMS = 2_000
_BLOCK = 256
# Ratings whose features are in memory at once, and how many of them the equations of one row are worth.
_RATINGS_AT_ONCE = 200_000
_RATINGS_A_ROW = 16


class FitSettings(BaseModel):
    """Settings of a fit.

    The defaults give a held-out RMSE of 0.87 on MovieLens (logs model, 40% of the ratings as logs). More factors do not
    fit better, and they make the distances of the logs model so similar to those of the tables that diversity becomes
    trivial.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    factors: int = Field(10, ge=1, le=512)
    """Length of user and item vectors."""
    sweeps: int = Field(10, ge=1, le=1_000)
    """Number of sweeps of alternating least squares."""
    ridge_vector: float = Field(8.0, gt=0, allow_inf_nan=False)
    """Weight of a user's squared vector, and of the squared own part of an item's vector."""
    ridge_bias: float = Field(4.0, gt=0, allow_inf_nan=False)
    """Weight of a squared bias."""
    ridge_genre: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Weight of the squared genre vectors."""
    own_weight: float = Field(1.4, ge=0, allow_inf_nan=False)
    """Weight of an item's own part in distances, next to its genre part; with 0, genres alone would solve a world."""


@dataclass(frozen=True, eq=False)
class FactorModel:
    """Fitted model; immutable, and without any array of n_items x n_items.

    Attributes:
        mean: Mean of the fitted ratings.
        user_bias: Shape (n_users,).
        user_factors: Shape (n_users, factors).
        item_bias: Shape (n_items,).
        item_factors: Genre part plus own part, shape (n_items, factors).
        vectors: Unit vectors; their cosine distance is the distance of the items, shape (n_items, factors).
        tau: The 5% quantile of the distances of all pairs of items; items closer than this count as similar.
        ridge_vector: Weight of the squared user vector in `fold_in`.
        ridge_bias: Weight of the squared user bias in `fold_in`.
    """

    mean: float
    user_bias: Floats
    user_factors: Floats
    item_bias: Floats
    item_factors: Floats
    vectors: Floats
    tau: float
    ridge_vector: float
    ridge_bias: float

    def __post_init__(self) -> None:
        for array in (self.user_bias, self.user_factors, self.item_bias, self.item_factors, self.vectors):
            array.flags.writeable = False

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.user_bias)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_bias)

    def ratings(self, user_row: int) -> Floats:
        """Return the predicted ratings of one user, clipped to 1-5, shape (n_items,)."""
        return as_rewards(self.predictions(user_row))

    def predictions(self, user_row: int) -> Floats:
        """Return the predicted ratings of one user, not clipped to 1-5, shape (n_items,)."""
        return self._predict(self.user_bias[user_row], self.user_factors[user_row])

    def pairs(self, user_rows: Positions, item_rows: Positions) -> Floats:
        """Return the predicted ratings of (user, item) pairs, clipped to 1-5, shape (n,)."""
        vectors = (self.user_factors[user_rows] * self.item_factors[item_rows]).sum(axis=1)
        scores: Doubles = self.mean + self.user_bias[user_rows] + self.item_bias[item_rows] + vectors
        return np.clip(scores, LOWEST_REWARD, HIGHEST_REWARD).astype(np.float32)

    def fold_in(self, positions: ArrayLike, ratings: ArrayLike) -> Floats:
        """Predict the ratings of a user outside the fit from some ratings of theirs.

        One ridge step for the bias and the vector, with the items fixed. It equals the user step of the fit: from the
        ratings of a fitted user it gives that user's predictions.

        Args:
            positions: Rows of the rated items, shape (n,); may be empty, which predicts the ratings of the mean user.
            ratings: Ratings of these items on the 1-5 scale, shape (n,).

        Returns:
            Predicted ratings, not clipped to 1-5, shape (n_items,).

        Raises:
            BadInputError: The shapes differ, a row is out of range, or a rating is not a finite number.
        """
        rows = np.asarray(positions, dtype=np.intp)
        values = np.asarray(ratings, dtype=np.float64)
        if rows.ndim != 1 or rows.shape != values.shape:
            raise BadInputError("folding in needs one rating for each item; give as many ratings as items")
        if ((rows < 0) | (rows >= self.n_items)).any() or not np.isfinite(values).all():
            raise BadInputError(
                "folding in got an item row out of range or a rating that is no number; check the history"
            )
        features = _with_one(self.item_factors[rows].astype(np.float64))
        target = values - self.mean - self.item_bias[rows]
        ridge = _ridge(self.ridge_bias, self.ridge_vector, self.item_factors.shape[1])
        solved = _solved(features.T @ features + np.diag(ridge), features.T @ target)
        return self._predict(solved[0], solved[1:])

    def distances(self, position: int) -> Floats:
        """Return the cosine distances (0-2) of one item to every item, shape (n_items,)."""
        distances: Floats = 1.0 - self.vectors @ self.vectors[position]
        return np.maximum(distances, 0.0, out=distances)

    def distances_to(self, positions: Positions) -> Floats:
        """Return the cosine distances (0-2) of every item to the items at some positions, shape (n_items, n)."""
        distances: Floats = 1.0 - self.vectors @ self.vectors[positions].T
        return np.maximum(distances, 0.0, out=distances)

    def distance(self, a: int, b: int) -> float:
        """Return the cosine distance (0-2) of the items at two positions."""
        return max(0.0, 1.0 - float(self.vectors[a] @ self.vectors[b]))

    def _predict(self, bias: np.float32 | np.float64, factors: Floats | Doubles) -> Floats:
        scores = self.mean + bias + self.item_bias + self.item_factors @ factors
        return np.clip(scores, LOWEST_PREDICTION, HIGHEST_PREDICTION).astype(np.float32)


def as_rewards(predictions: Floats) -> Floats:
    """Return predicted ratings as rewards: clipped to 1-5."""
    return np.clip(predictions, LOWEST_REWARD, HIGHEST_REWARD)


def fit(
    users: ArrayLike,
    items: ArrayLike,
    ratings: ArrayLike,
    *,
    n_users: int,
    genres: ArrayLike,
    settings: FitSettings | None = None,
    seed: int = 0,
) -> FactorModel:
    """Fit r(u, i) = mean + b(u) + b(i) + p(u) . v(i) to explicit ratings.

    An item's (b, v) is a linear function of its genres plus a part of its own: regression-based latent factors
    (Agarwal & Chen, KDD 2009), fitted by alternating least squares with ridge. A user without ratings gets zero bias
    and vector. An item without ratings gets the bias and vector of its genres.

    Args:
        users: Row of the user of each rating, shape (n,).
        items: Row of the item of each rating, shape (n,).
        ratings: The ratings, shape (n,).
        n_users: Number of users.
        genres: Genres of each item as 0/1, shape (n_items, n_genres).
        settings: Sizes and weights of the fit.
        seed: Seed of the initial values and of tau's sample; the same seed gives the same model.

    Raises:
        BadInputError: There are no ratings.
    """
    settings = settings or FitSettings()
    values = np.asarray(ratings, dtype=np.float64)
    if not values.size:
        raise BadInputError("there are no ratings to fit; use a source with more ratings")
    rng = np.random.default_rng(seed)
    mean = float(values.mean())
    features = _genre_features(np.asarray(genres, dtype=np.float64))
    user_rows, item_rows = np.asarray(users, dtype=np.intp), np.asarray(items, dtype=np.intp)
    user, item, genre_weights = _alternate(
        _Grouped(user_rows, item_rows, values - mean, n_users),
        _Grouped(item_rows, user_rows, values - mean, len(features)),
        features,
        settings,
        rng,
    )
    genre_part = features @ genre_weights
    vectors = _distance_vectors(genre_part[:, 1:], (item - genre_part)[:, 1:], settings.own_weight)
    return FactorModel(
        mean=mean,
        user_bias=user[:, 0].astype(np.float32),
        user_factors=user[:, 1:].astype(np.float32),
        item_bias=item[:, 0].astype(np.float32),
        item_factors=item[:, 1:].astype(np.float32),
        vectors=vectors,
        tau=_distance_quantile(vectors, TAU_QUANTILE, rng),
        ridge_vector=settings.ridge_vector,
        ridge_bias=settings.ridge_bias,
    )


class _Grouped:
    """Ratings sorted by one side (users or items), to solve that side with the other side fixed."""

    def __init__(self, rows: Positions, others: Positions, values: Doubles, size: int) -> None:
        order = np.lexsort((others, rows))
        self.others = others[order]
        self.values = values[order]
        self.bounds = np.searchsorted(rows[order], np.arange(size + 1))
        self._equal = list(self._of_equal_length())

    def _of_equal_length(self) -> Iterator[tuple[Positions, int]]:
        """Yield rows with the same number of ratings, and this number; few enough at once for little memory."""
        counts = np.diff(self.bounds)
        order = np.argsort(counts, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(counts[order])) + 1):
            count = int(counts[rows[0]])
            most = max(1, _RATINGS_AT_ONCE // (count + _RATINGS_A_ROW))
            for first in range(0, len(rows), most):
                yield rows[first : first + most], count

    def solve(self, other: Doubles, ridge: Doubles, prior: Doubles) -> Doubles:
        """Return the ridge solution (bias, vector) of every row, drawn towards `prior`, shape (n_rows, 1 + factors)."""
        size, width = prior.shape
        solved = np.empty((size, width))
        for rows, count in self._equal:
            # Rows with the same number of ratings are one stack of small products: for users with few ratings, a loop
            # over users takes several times as long.
            places = self.bounds[rows][:, None] + np.arange(count)
            others = other[self.others[places]]
            features = np.concatenate([np.ones((len(rows), count, 1)), others[:, :, 1:]], axis=2)
            targets = self.values[places] - others[:, :, 0]
            gram = np.matmul(features.transpose(0, 2, 1), features)
            gram[:, range(width), range(width)] += ridge
            right = prior[rows] * ridge + np.matmul(targets[:, None, :], features)[:, 0]
            solved[rows] = _solved(gram, right[:, :, None])[:, :, 0]
        return solved


def _alternate(
    by_user: _Grouped, by_item: _Grouped, features: Doubles, settings: FitSettings, rng: np.random.Generator
) -> tuple[Doubles, Doubles, Doubles]:
    """Return the rows (bias, vector) of users and of items, and the weights that map genres to an item's row."""
    width = settings.factors + 1
    n_users, n_items = len(by_user.bounds) - 1, len(by_item.bounds) - 1
    ridge = _ridge(settings.ridge_bias, settings.ridge_vector, settings.factors)
    nothing = np.zeros((n_users, width))
    weights: Doubles = rng.normal(0.0, 0.1, (features.shape[1], width))
    item: Doubles = features @ weights + rng.normal(0.0, 0.1, (n_items, width))
    weights[:, 0] = item[:, 0] = 0.0
    gram = features.T @ features + settings.ridge_genre * np.eye(features.shape[1])
    for _ in range(settings.sweeps):
        user = by_user.solve(item, ridge, nothing)
        item = by_item.solve(user, ridge, features @ weights)
        weights = _solved(gram, features.T @ item)
    # Users are solved last, so that `fold_in` of a user's ratings gives the same user.
    return by_user.solve(item, ridge, nothing), item, weights


def _genre_features(genres: Doubles) -> Doubles:
    # Unit rows: an item of five genres weighs no more than an item of one genre.
    lengths = np.linalg.norm(genres, axis=1, keepdims=True)
    return _with_one(genres / np.where(lengths > 0, lengths, 1.0))


def _solved(matrix: Doubles, right: Doubles) -> Doubles:
    return np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)


def _with_one(matrix: Doubles) -> Doubles:
    return np.hstack([np.ones((len(matrix), 1)), matrix])


def _ridge(bias: float, vector: float, factors: int) -> Doubles:
    return np.array([bias, *[vector] * factors])


def _distance_vectors(genre_part: Doubles, own_part: Doubles, own_weight: float) -> Floats:
    """Return unit vectors of both parts, each first centred and scaled to unit variance (mean squared length 1)."""
    vectors = _standardised(genre_part) + own_weight * _standardised(own_part)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def _standardised(part: Doubles) -> Doubles:
    # One scale for the whole part: the axes of the factors are arbitrary, so a scale for each would be arbitrary too.
    centred: Doubles = part - part.mean(axis=0)
    spread = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return centred / spread if spread > 0 else centred


def _distance_quantile(vectors: Floats, quantile: float, rng: np.random.Generator) -> float:
    """Return a quantile of the distances of all pairs of distinct items; 0 if there is only one item."""
    if len(vectors) < 2:
        return 0.0
    if len(vectors) > TAU_ITEMS:
        vectors = vectors[np.sort(rng.choice(len(vectors), TAU_ITEMS, replace=False))]
    return float(np.quantile(np.concatenate(list(_pair_distances(vectors))), quantile))


def _pair_distances(vectors: Floats) -> Iterator[Floats]:
    for first in range(0, len(vectors), _BLOCK):
        block = 1.0 - vectors[first : first + _BLOCK] @ vectors[first:].T
        yield block[np.triu_indices(len(block), k=1, m=block.shape[1])]
