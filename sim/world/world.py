"""World: catalogue, users, the logs model that a recommender may use, and the reward tables that test it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from sim.arrays import Floats, Numbers, Positions
from sim.catalogue import Catalogue, Item
from sim.data.ratings import Ratings
from sim.errors import BadInputError
from sim.leave import LeaveRule
from sim.world import storage
from sim.world.clusters import with_clusters
from sim.world.data import (
    SPLITS,
    TABLE_OF,
    CutName,
    ModelName,
    SplitName,
    TableName,
    User,
    WorldData,
    WorldFacts,
    WorldSettings,
)
from sim.world.factor_model import FactorModel, FitSettings, as_rewards, fit
from sim.world.reward_table import GivenTable
from sim.world.splitting import RatingSplit, cut_ratings, keep_rated, oldest_first

# Rating assumed for each title that an unknown user names: people name titles that they like.
ASSUMED_RATING = 4.5
MIN_REWARD = 2.0
_PAIRS_AT_ONCE = 100_000
# Names become folders, also on file systems that ignore case.
WORLD_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
ModelT = TypeVar("ModelT", bound=FactorModel | GivenTable)


class _Predicting(Generic[ModelT]):
    """Access by ids to a fitted model or a given table, for known users and for newcomers."""

    def __init__(self, catalogue: Catalogue, rows: Mapping[str, int], model: ModelT) -> None:
        self._catalogue = catalogue
        self._rows = rows
        self._model = model

    def position(self, item: str | Item | int) -> int:
        """Return the row of an item, given by id, as an `Item`, or by the row itself.

        Raises:
            BadInputError: The catalogue has no such item.
        """
        if isinstance(item, str | Item):
            return self._catalogue.position(item)
        if not 0 <= item < len(self._catalogue):
            raise BadInputError(
                f"there is no item at position {item}; positions run from 0 to {len(self._catalogue) - 1}"
            )
        return int(item)

    def _row(self, user_id: str) -> int:
        if user_id not in self._rows:
            raise BadInputError(f"the world does not know the user {user_id!r}; give a history of titles they like")
        return self._rows[user_id]

    def _rated(self, history: Sequence[str | Item], ratings: ArrayLike | None) -> tuple[Positions, ArrayLike]:
        positions = self._catalogue.positions(history)
        return positions, np.full(len(positions), ASSUMED_RATING) if ratings is None else ratings


class LogsModel(_Predicting[FactorModel]):
    """Logs model: the model fitted on the logs alone, and each item's number of log ratings. A recommender may use it.

    Items are given by id, as an `Item`, or by position (an int).
    """

    def __init__(
        self, catalogue: Catalogue, rows: Mapping[str, int], model: FactorModel, popularity: NDArray[np.int64]
    ) -> None:
        super().__init__(catalogue, rows, model)
        self.popularity = popularity

    @property
    def vectors(self) -> Floats:
        """Unit item vectors whose cosine distance is `distance`, shape (n_items, factors), read-only."""
        return self._model.vectors

    @property
    def tau(self) -> float:
        """The 5% quantile of the distances of the logs model; each table has its own tau."""
        return self._model.tau

    def predictions(self, user_id: str) -> Floats:
        """Return the predicted rewards of a user for every item, shape (n_items,).

        They are not clipped to 1-5, so that they rank the items that a user likes best. They lie between -5 and 15.

        Raises:
            BadInputError: The world does not know the user.
        """
        return self._model.predictions(self._row(user_id))

    def fold_in(self, history: Sequence[str | Item], ratings: ArrayLike | None = None) -> Floats:
        """Predict the rewards of a user whom the world does not know, as `predictions` does, shape (n_items,).

        Args:
            history: Items that the user rated or named; may be empty, which predicts the rewards of the mean user.
            ratings: The user's ratings, one per item; if None, `ASSUMED_RATING` (4.5) for all.

        Raises:
            BadInputError: The history names an unknown item, or the ratings do not match it.
        """
        return self._model.fold_in(*self._rated(history, ratings))

    def distances(self, item: str | Item | int) -> Floats:
        """Return the distances (0-2) of one item to every item, shape (n_items,)."""
        return self._model.distances(self.position(item))

    def distances_to(self, items: Iterable[str | Item]) -> Floats:
        """Return the distances (0-2) of every item to some items, shape (n_items, n)."""
        return self._model.distances_to(self._catalogue.positions(items))

    def distance(self, a: str | Item | int, b: str | Item | int) -> float:
        """Return the distance (0-2) of two items."""
        return self._model.distance(self.position(a), self.position(b))


class Split(_Predicting[FactorModel | GivenTable]):
    """Users of one split, and the table that is their truth.

    Attributes:
        name: "train", "dev" or "test".
        users: Ids of the split's users who have a history, in the order of the world.
    """

    def __init__(
        self,
        name: SplitName,
        users: tuple[str, ...],
        catalogue: Catalogue,
        rows: Mapping[str, int],
        table: FactorModel | GivenTable,
        min_reward_quantile: float | None,
    ) -> None:
        super().__init__(catalogue, rows, table)
        self.name = name
        self.users = users
        self._min_reward_quantile = min_reward_quantile

    @property
    def tau(self) -> float:
        """Distance below which items count as similar on this table."""
        return self._model.tau

    def reward(self, user: str, item: str | Item) -> float:
        """Return the reward of a user for an item, from 1 to 5.

        Raises:
            BadInputError: The world does not know the user or the item.
        """
        return float(self._model.ratings(self._row(user))[self.position(item)])

    def rewards(self, user_id: str, history: Sequence[str | Item] = ()) -> Numbers:
        """Return the rewards of a user for every item, from 1 to 5, shape (n_items,).

        Args:
            user_id: Id of a user of the world, or any other id.
            history: Items that the user likes, taken as rated 4.5 (`ASSUMED_RATING`). Used only for a user whom the
                world does not know, because the ratings of its own users are known.

        Raises:
            BadInputError: The world does not know the user and the history is empty, or the history names an unknown
                item, or the rewards are given and do not include this user.
        """
        if user_id in self._rows or not history:
            return self._model.ratings(self._row(user_id))
        return as_rewards(self._model.fold_in(*self._rated(history, None)))

    def distance(self, a: str | Item, b: str | Item) -> float:
        """Return the distance (0-2) of two items.

        Raises:
            BadInputError: An item is not in the catalogue.
        """
        return self._model.distance(self.position(a), self.position(b))

    def distances(self, item: str | Item | int) -> Numbers:
        """Return the distances (0-2) of one item to every item, shape (n_items,)."""
        return self._model.distances(self.position(item))

    def leave_rule(self, user_id: str, history: Sequence[str | Item] = ()) -> LeaveRule:
        """Return the rule by which a user leaves.

        Its `min_distance` is tau of this table. Its `min_reward` is 2.0, or the world's quantile of the user's rewards.

        Raises:
            BadInputError: The bound is the user's own quantile, the world does not know the user, and the history is
                empty.
        """
        bar = MIN_REWARD
        if self._min_reward_quantile is not None:
            bar = float(np.quantile(self.rewards(user_id, history), self._min_reward_quantile))
        return LeaveRule(min_reward=bar, min_distance=self.tau)


class World:
    """World; create one with `World.build` or `World.load`.

    Attributes:
        name: Name of the world and of its folder.
        catalogue: Items of the world.
        users: All users by id, including those without a history.
        logs: The logs model, which a recommender may use.
        data: Contents as saved. They include the reward tables, which no recommender may read.
        settings: Settings that the world was built with.
        facts: Facts about its ratings.

    Examples:
        Build a world from ratings, save it, and ask for a user's true reward and its prediction by the logs model:

        >>> from sim.data.sources import load_ratings
        >>> World.build("films", load_ratings("tiny", 0)).save("films")
        >>> world = World.load("films")
        >>> world
        World('films', 120 items, 60 users)
        >>> dev = world.split("dev")
        >>> user, item = dev.users[0], world.catalogue[0].id
        >>> 1 <= dev.reward(user, item) <= 5
        True
        >>> world.logs.predictions(user).shape
        (120,)
    """

    def __init__(self, contents: WorldData) -> None:
        self.data = contents
        self.name = contents.name
        self.catalogue = contents.catalogue
        self.users: Mapping[str, User] = MappingProxyType({user.id: user for user in contents.users})
        self.settings = contents.settings
        self.facts = contents.facts
        self._rows = {user.id: row for row, user in enumerate(contents.users)}

    def __repr__(self) -> str:
        return f"World({self.name!r}, {len(self.catalogue)} items, {len(self.users)} users)"

    def __deepcopy__(self, memo: object) -> "World":
        # A world never changes and may be large: Gymnasium copies the arguments of an environment and gets the same
        # world.
        return self

    def __reduce__(self) -> tuple[type["World"], tuple[WorldData]]:
        """Pickle the data, from which everything else follows."""
        return World, (self.data,)

    @cached_property
    def logs(self) -> LogsModel:
        """The logs model, which a recommender may use."""
        return LogsModel(self.catalogue, self._rows, self.data.models["logs"], self.data.popularity)

    def withheld(self, history: Iterable[str | Item]) -> Positions:
        """Return the positions of the items not to be recommended to a user with this history: all items of it.

        Empty if the world allows known items (`WorldSettings.allow_known`).

        Raises:
            BadInputError: The history names an unknown item.
        """
        return self.catalogue.positions(() if self.settings.allow_known else history)

    def split(self, name: SplitName) -> Split:
        """Return the users of one split with their truth; dev and test users share the test table.

        Raises:
            BadInputError: There is no such split.
        """
        if name not in SPLITS:
            raise BadInputError(f"there is no split {name!r}; choose one of: {', '.join(SPLITS)}")
        return self._splits[name]

    def table_of(self, user_id: str) -> TableName:
        """Return the name of the reward table by which a simulated user reacts; newcomers react as dev users."""
        known = self.users.get(user_id)
        return TABLE_OF[known.split if known else "dev"]

    @cached_property
    def _splits(self) -> dict[SplitName, Split]:
        return {
            name: Split(
                name,
                tuple(user.id for user in self.data.users if user.split == name and user.history),
                self.catalogue,
                self._rows,
                self.data.table(TABLE_OF[name]),
                self.settings.min_reward_quantile,
            )
            for name in SPLITS
        }

    def save(self, path: str | Path, add: Callable[[Path], None] = lambda folder: None) -> None:
        """Write the world into the folder `path`, completely or not at all; an existing world is replaced.

        Args:
            path: Folder of the world.
            add: Adds further files of the world to the new folder before it replaces the old one.

        Raises:
            BadInputError: `path` holds something other than a world, or cannot be written.
        """
        storage.write(self.data, Path(path), add)

    @classmethod
    def load(cls, path: str | Path) -> "World":
        """Read a world from the folder `path`; no file in it can run code.

        Raises:
            BadInputError: There is no world, or one of its files is missing, damaged or foreign.
        """
        return cls(storage.read(Path(path)))

    @classmethod
    def build(
        cls,
        name: str,
        ratings: Ratings,
        *,
        seed: int = 0,
        factors: int | None = None,
        min_reward_quantile: float | None = None,
        cut: CutName = "random",
        allow_known: bool = False,
        clusters: int = 0,
    ) -> "World":
        """Build a world from ratings: split them, and fit the logs model and the two tables.

        Args:
            name: Small letters, digits, `-` and `_`; it becomes the name of a folder.
            ratings: Ratings; items with fewer than 10 are left out.
            seed: Seed of the split and the fits; the same seed gives the same world.
            factors: Length of the fitted vectors; if None, the default of `FitSettings`.
            min_reward_quantile: Quantile of a user's own rewards below which the user leaves; if None, the bound is
                2.0.
            cut: "random", or "time" to take each user's earliest ratings as the logs.
            allow_known: Whether items that the user's history holds may be recommended again.
            clusters: Number of clusters of the logs' factors that become the items' categories; 0 to keep theirs.

        Raises:
            BadInputError: The name or a setting is invalid, or there are too few ratings.
        """
        check_name(name)
        try:
            fit_settings = FitSettings() if factors is None else FitSettings(factors=factors)
            settings = WorldSettings(
                seed=seed,
                cut=cut,
                min_reward_quantile=min_reward_quantile,
                allow_known=allow_known,
                fit=fit_settings,
            )
        except ValidationError as error:
            fault = error.errors()[0]
            raise BadInputError(f"{fault['loc'][-1]}: {fault['msg']} (got {fault['input']!r}); correct it") from error
        kept = keep_rated(ratings)
        parts = cut_ratings(kept, seed=seed, how=cut)
        if clusters:
            kept = with_clusters(kept, parts.logs, clusters, fit_settings, seed)
        models = _fit_models(kept, parts, settings)
        return cls(
            WorldData(
                name=name,
                catalogue=kept.catalogue,
                users=_users(kept, parts),
                models=models,
                popularity=np.bincount(kept.items[parts.logs], minlength=len(kept.catalogue)).astype(np.int64),
                settings=settings,
                facts=_facts(kept, parts, models),
            )
        )


def check_name(name: str) -> None:
    """Check that a string is a valid name for a world.

    Raises:
        BadInputError: The name is invalid.
    """
    if not WORLD_NAME.fullmatch(name):
        raise BadInputError(
            f"{name!r} is not a valid name of a world; use up to 64 lower-case letters, digits, `-` and `_`"
        )


def _fit_models(ratings: Ratings, cut: RatingSplit, settings: WorldSettings) -> dict[ModelName, FactorModel]:
    rows: dict[ModelName, Positions] = {
        "logs": cut.logs,
        "train": np.concatenate([cut.logs, cut.train]),
        "test": np.concatenate([cut.logs, cut.test]),
    }
    return {
        name: fit(
            ratings.users[chosen],
            ratings.items[chosen],
            ratings.values[chosen],
            n_users=len(ratings.user_ids),
            genres=ratings.catalogue.genre_matrix,
            settings=settings.fit,
            seed=settings.seed,
        )
        for name, chosen in rows.items()
    }


def _users(ratings: Ratings, cut: RatingSplit) -> tuple[User, ...]:
    return tuple(
        User(
            user_id,
            split,
            tuple(ratings.catalogue[int(position)].id for position in ratings.items[rows]),
            tuple(float(value) for value in ratings.values[rows]),
        )
        for user_id, split, rows in zip(ratings.user_ids, cut.splits, oldest_first(ratings, cut.logs), strict=True)
    )


def _facts(ratings: Ratings, cut: RatingSplit, models: Mapping[ModelName, FactorModel]) -> WorldFacts:
    held_out: dict[ModelName, Positions] = {
        "logs": np.concatenate([cut.train, cut.test]),
        "train": cut.test,
        "test": cut.train,
    }
    points, counts = np.unique(np.round(ratings.values * 2) / 2, return_counts=True)
    return WorldFacts(
        source=ratings.source,
        ratings=len(ratings),
        dropped=ratings.dropped,
        left_out=dict(ratings.left_out),
        read_as=dict(ratings.read_as),
        histogram={f"{point:g}": int(count) for point, count in zip(points, counts, strict=True)},
        rmse={name: _rmse(models[name], ratings, rows) for name, rows in held_out.items()},
    )


def _rmse(model: FactorModel, ratings: Ratings, rows: Positions) -> float:
    errors = [
        model.pairs(ratings.users[part], ratings.items[part]) - ratings.values[part]
        for part in np.array_split(rows, max(1, len(rows) // _PAIRS_AT_ONCE))
    ]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
