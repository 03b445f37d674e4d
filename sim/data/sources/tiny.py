"""Synthetic ratings: a small data set generated in code."""

import numpy as np
from numpy.typing import NDArray

from sim.catalogue import Catalogue, Item
from sim.data.ratings import HIGHEST_RATING, LOWEST_RATING, Ratings
from sim.data.source import Source


def tiny(seed: int) -> Ratings:
    """Generate a small synthetic data set: 120 items of 6 genres, and 60 users with 45 ratings each.

    Users like genres to different degrees, and items for their own traits. Every item has at least 12 ratings. Ratings
    are whole and half points from 0.5 to 5. The same seed gives the same ratings.
    """
    rng = np.random.default_rng(seed)
    catalogue = Catalogue(_tiny_items(rng))
    scores = _tiny_scores(catalogue, rng)
    rated = _tiny_rated(scores, rng)
    n_users, per_user = rated.shape
    users, items = np.repeat(np.arange(n_users), per_user), rated.ravel()
    noisy = scores[users, items] + rng.normal(0.0, 0.45, len(users))
    return Ratings(
        users=users,
        items=items,
        values=np.clip(np.round(noisy * 2) / 2, LOWEST_RATING, HIGHEST_RATING),
        timestamps=np.arange(len(users), dtype=np.int64),
        user_ids=tuple(str(user + 1) for user in range(n_users)),
        catalogue=catalogue,
    )


_TINY_USERS = 60
_TINY_RATED, _TINY_SHARED = 45, 24
_TINY_GENRES = ("Adventure", "Comedy", "Crime", "Documentary", "Fantasy", "Romance")
_TINY_FIRST = "Amber Broken Crooked Distant Electric Forgotten Golden Hollow Midnight Paper Silent Winter"
_TINY_SECOND = "Harbour Garden Letter Orchard Passage Signal Station Summer Tower Voyage"


def _tiny_items(rng: np.random.Generator) -> list[Item]:
    titles = [f"{first} {second}" for first in _TINY_FIRST.split() for second in _TINY_SECOND.split()]
    items = []
    for index, title in enumerate(titles):
        count = 1 + int(rng.random() < 0.4)
        chosen = rng.choice(len(_TINY_GENRES), size=count, replace=False)
        items.append(Item(str(index + 1), title, tuple(_TINY_GENRES[genre] for genre in sorted(chosen))))
    return items


def _tiny_scores(catalogue: Catalogue, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the score of every user for every item, without noise, shape (n_users, n_items)."""
    genres = catalogue.genre_matrix.astype(np.float64)
    n_items, n_genres = genres.shape
    traits = 3
    liked_genres = rng.normal(0.0, 1.1, (_TINY_USERS, n_genres)) @ (genres / genres.sum(axis=1, keepdims=True)).T
    liked_traits = rng.normal(0.0, 0.45, (_TINY_USERS, traits)) @ rng.normal(0.0, 1.0, (n_items, traits)).T
    scores: NDArray[np.float64] = liked_genres + liked_traits
    return scores + rng.normal(3.4, 0.3, (_TINY_USERS, 1)) + rng.normal(0.0, 0.45, n_items)


def _tiny_rated(scores: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the items that each user rates, in the order of time, shape (n_users, 45)."""
    n_users, n_items = scores.shape
    fame = rng.gamma(4.0, 1.0, n_items)
    ring = rng.permutation(n_items)
    rated = np.empty((n_users, _TINY_RATED), dtype=np.intp)
    for user in range(n_users):
        # Consecutive parts of a ring give each item the same number of raters, so that none is too rare for a world.
        shared = ring[(user * _TINY_SHARED + np.arange(_TINY_SHARED)) % n_items]
        # The other ratings go to well-known items, and more often to liked ones, because real ratings are no
        # random sample.
        weight = fame * np.exp(0.5 * (scores[user] - scores[user].mean()))
        weight[shared] = 0.0
        chosen = rng.choice(n_items, size=_TINY_RATED - _TINY_SHARED, replace=False, p=weight / weight.sum())
        rated[user] = rng.permutation(np.concatenate([shared, chosen]))
    return rated


SOURCE = Source("tiny", lambda given, seed: tiny(seed), takes=(), ready=lambda: True)
