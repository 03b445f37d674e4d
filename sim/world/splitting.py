"""Split of ratings into logs, train and test, and of users into train, dev and test."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.catalogue import Catalogue
from sim.data.ratings import Ratings
from sim.errors import BadInputError
from sim.world.data import CutName, SplitName

MIN_RATINGS = 10
MIN_USERS = 5
LOGS_SHARE, TRAIN_SHARE = 0.4, 0.3
TRAIN_USERS, DEV_USERS = 0.4, 0.2

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RatingSplit:
    """Split of ratings and users, three parts each.

    Attributes:
        logs: Rows of the ratings that a recommender may know, sorted.
        train: Rows of the ratings that only the train table is fitted on, sorted.
        test: Rows of the ratings that only the test table is fitted on, sorted.
        splits: Split of every user, in the order of `Ratings.user_ids`.
    """

    logs: Rows
    train: Rows
    test: Rows
    splits: tuple[SplitName, ...]


def keep_rated(ratings: Ratings, at_least: int = MIN_RATINGS) -> Ratings:
    """Return the ratings of items with at least `at_least` ratings, and the users who rated one of these items.

    Raises:
        BadInputError: No item has that many ratings.
    """
    counts = np.bincount(ratings.items, minlength=len(ratings.catalogue))
    kept = (counts >= at_least)[ratings.items]
    if not kept.any():
        raise BadInputError(f"no item has {at_least} ratings or more; use a source with more ratings")
    return _chosen(ratings, kept, "ratings of rare items")


def keep_core(ratings: Ratings, k: int) -> Ratings:
    """Return the k-core: the largest set of ratings in which every user and every item has at least `k`.

    Raises:
        BadInputError: The k-core is empty.
    """
    kept = np.ones(len(ratings), dtype=bool)
    while True:
        enough = kept.copy()
        for rows in (ratings.users, ratings.items):
            enough &= (np.bincount(rows[kept], minlength=int(rows.max()) + 1) >= k)[rows]
        if not enough.any():
            raise BadInputError(f"the ratings have no {k}-core; give a smaller --k-core or use a source with more")
        if (enough == kept).all():
            return _chosen(ratings, kept, f"ratings outside the {k}-core")
        kept = enough


def cut_ratings(ratings: Ratings, *, seed: int, how: CutName = "random") -> RatingSplit:
    """Split ratings into logs 40%, train 30% and test 30%, and users into train 40%, dev 20% and test 40%.

    Args:
        ratings: Ratings to split; filter them with `keep_rated` first.
        seed: The same seed gives the same split.
        how: "random" draws the logs from all ratings; "time" takes each user's earliest 40%, at least one rating.

    Raises:
        BadInputError: There are too few users for three splits.
    """
    n_users = len(ratings.user_ids)
    if n_users < MIN_USERS:
        raise BadInputError(f"{n_users} users are too few to be split in three; use a source with at least {MIN_USERS}")
    # Users and ratings have separate generators, so that `how` does not change the users' splits.
    for_ratings, for_users = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(2))
    order = for_ratings.permutation(len(ratings))
    if how == "time":
        early = _earliest(ratings)
        logs, rest = np.flatnonzero(early), order[~early[order]]
    else:
        size = round(LOGS_SHARE * len(ratings))
        logs, rest = order[:size], order[size:]
    n_train = round(len(rest) * TRAIN_SHARE / (1.0 - LOGS_SHARE))
    return RatingSplit(
        logs=np.sort(logs),
        train=np.sort(rest[:n_train]),
        test=np.sort(rest[n_train:]),
        splits=_split_users(n_users, for_users),
    )


def oldest_first(ratings: Ratings, rows: Rows) -> list[Rows]:
    """Return, for every user, the user's rows among `rows`, oldest first; ties follow catalogue order."""
    ordered = rows[np.lexsort((ratings.items[rows], ratings.timestamps[rows], ratings.users[rows]))]
    bounds = np.searchsorted(ratings.users[ordered], np.arange(1, len(ratings.user_ids)))
    return list(np.split(ordered, bounds))


def _chosen(ratings: Ratings, kept: NDArray[np.bool_], why: str) -> Ratings:
    """Return the kept ratings with their users and items. The other ratings count as left out for the reason `why`."""
    kept_users, users = np.unique(ratings.users[kept], return_inverse=True)
    kept_items, items = np.unique(ratings.items[kept], return_inverse=True)
    left_out = {why: int((~kept).sum())} if not kept.all() else {}
    return Ratings(
        users=users,
        items=items,
        values=ratings.values[kept],
        timestamps=ratings.timestamps[kept],
        user_ids=tuple(ratings.user_ids[row] for row in kept_users),
        catalogue=Catalogue(ratings.catalogue[int(position)] for position in kept_items),
        left_out={**ratings.left_out, **left_out},
        source=ratings.source,
        read_as=ratings.read_as,
    )


def _earliest(ratings: Ratings) -> NDArray[np.bool_]:
    early = np.zeros(len(ratings), dtype=bool)
    for rows in oldest_first(ratings, np.arange(len(ratings))):
        early[rows[: max(1, round(LOGS_SHARE * len(rows)))]] = True
    return early


def _split_users(n_users: int, rng: np.random.Generator) -> tuple[SplitName, ...]:
    first, second = round(TRAIN_USERS * n_users), round((TRAIN_USERS + DEV_USERS) * n_users)
    splits: list[SplitName] = ["test"] * n_users
    for place, row in enumerate(rng.permutation(n_users)):
        if place < second:
            splits[row] = "train" if place < first else "dev"
    return tuple(splits)
