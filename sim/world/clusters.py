"""Categories from the logs: clusters of the items' factors, named by their most typical titles."""

import re
import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim.arrays import Floats
from sim.catalogue import Catalogue
from sim.data.ratings import Ratings
from sim.world.factor_model import FitSettings, fit

# A name is typical of a cluster if many know it: it is one of this many most popular items.
_WELL_KNOWN = 20
_TITLES = 2
_BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]\s*$")
# Signs and words by which a list of categories is separated.
_SEPARATORS = re.compile(r"[,;|/&.]|\b(?:and|or|not|no|but|without)\b", re.IGNORECASE)


def with_clusters(ratings: Ratings, logs: NDArray[np.intp], most: int, settings: FitSettings, seed: int) -> Ratings:
    """Return the ratings with items that have one category each, its cluster in the logs.

    Only the logs are used, since categories are known to a recommender.

    Args:
        ratings: All ratings.
        logs: Rows of the logs.
        most: Number of clusters at most.
        settings: Settings of the fit.
        seed: Seed of the fit and of the clusters.
    """
    # Slow to import, and most worlds need no clusters.
    from scipy.cluster.vq import kmeans2

    users, items = ratings.users[logs], ratings.items[logs]
    size = len(ratings.catalogue)
    model = fit(
        users,
        items,
        ratings.values[logs],
        n_users=len(ratings.user_ids),
        genres=np.zeros((size, 0)),
        settings=settings,
        seed=seed,
    )
    vectors = model.vectors.astype(np.float64)
    with warnings.catch_warnings():
        # An empty cluster is no fault: there are fewer categories then.
        warnings.simplefilter("ignore", UserWarning)
        centres, labels = kmeans2(vectors, min(most, size), minit="++", seed=np.random.default_rng(seed))
    popularity = np.bincount(items, minlength=size)
    names = {
        int(label): _name(ratings.catalogue, np.flatnonzero(labels == label), model.vectors, centres[label], popularity)
        for label in np.unique(labels)
    }
    catalogue = Catalogue(
        replace(item, genres=(names[int(label)],)) for item, label in zip(ratings.catalogue, labels, strict=True)
    )
    return replace(ratings, catalogue=catalogue)


def _name(
    catalogue: Catalogue,
    members: NDArray[np.intp],
    vectors: Floats,
    centre: NDArray[np.float64],
    popularity: NDArray[np.intp],
) -> str:
    """Return the titles of the well-known items nearest to the centre of a cluster, as one name."""
    known = members[np.argsort(-popularity[members], kind="stable")][:_WELL_KNOWN]
    nearest = known[np.argsort(-(vectors[known] @ centre), kind="stable")]
    whole = [catalogue[int(position)].title for position in nearest]
    titles = [_BRACKETS.sub("", title) or title for title in whole]
    plain = [title for title in titles if not _SEPARATORS.search(title)]
    return " · ".join(list(dict.fromkeys([*plain, *titles]))[:_TITLES])
