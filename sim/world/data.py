"""World data: users, settings, facts and fitted models, as saved in a world's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from sim.catalogue import Catalogue
from sim.world.factor_model import FactorModel, FitSettings
from sim.world.reward_table import GivenTable

SplitName = Literal["train", "dev", "test"]
TableName = Literal["train", "test"]
ModelName = Literal["logs", "train", "test"]
CutName = Literal["random", "time"]

TABLES: tuple[TableName, ...] = ("train", "test")
SPLITS: tuple[SplitName, ...] = ("train", "dev", "test")
MODELS: tuple[ModelName, ...] = ("logs", "train", "test")
# Dev users live on the test table, so that results on them predict results on test users.
TABLE_OF: Mapping[SplitName, TableName] = {"train": "train", "dev": "test", "test": "test"}

_Rating = Annotated[float, Field(ge=0.5, le=5.0, allow_inf_nan=False)]


@checked_dataclass(frozen=True, config=ConfigDict(strict=False))
class User:
    """User of a world.

    Attributes:
        id: Unique id.
        split: Purpose of the user's visits: training, daily work or the final test.
        history: Ids of all items that the user rated in the logs, oldest first; may be empty.
        ratings: Ratings of the items in `history`, 0.5 to 5.
    """

    id: str
    split: SplitName
    history: tuple[str, ...] = ()
    ratings: tuple[_Rating, ...] = ()

    def __post_init__(self) -> None:
        if len(self.history) != len(self.ratings):
            raise ValueError("history and ratings must have the same length")


class WorldSettings(BaseModel):
    """Settings that a world was built with."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = Field(0, ge=0)
    """Seed of the split and the fits."""
    cut: CutName = "random"
    """Choice of the logs: at random, or the earliest ratings of each user."""
    min_reward_quantile: float | None = Field(None, gt=0, lt=1)
    """Quantile of a user's own rewards below which the user leaves; None for the fixed bound of 2.0."""
    allow_known: bool = False
    """Whether items that the user's history holds may be recommended again."""
    fit: FitSettings = FitSettings()
    """Settings of the three fits."""


class WorldFacts(BaseModel):
    """Facts about the ratings that a world was built from, and the errors of the fits."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: str | None = None
    """Name of the source of the ratings; None if unknown."""
    ratings: int = Field(ge=1)
    """Number of ratings of the items that were kept."""
    dropped: int = Field(ge=0)
    """Number of ratings left out: unusable rows of the source, and ratings of items with fewer than 10 ratings."""
    left_out: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Numbers of ratings left out, by reason."""
    read_as: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Numbers of values that were read as what they plainly mean, by meaning."""
    histogram: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Numbers of ratings by half points, after rounding. For given tables: numbers of rewards."""
    rmse: dict[ModelName, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    """Held-out error (RMSE): the logs model on train and test ratings, each table on the ratings of the other.
    For given tables: the logs model on the rewards of each table."""


@dataclass(frozen=True, eq=False)
class WorldData:
    """Contents of a world, as saved in its folder.

    Attributes:
        name: Name of the world.
        catalogue: Items of the world.
        users: Users of the world; a user's index here is the user's row in every model.
        models: The logs model and the fitted tables.
        popularity: Number of log ratings of each item, shape (n_items,), int64.
        settings: Settings that the world was built with.
        facts: Facts about its ratings.
        given: Given tables: both of them, or none.
    """

    name: str
    catalogue: Catalogue
    users: tuple[User, ...]
    models: Mapping[ModelName, FactorModel]
    popularity: NDArray[np.int64]
    settings: WorldSettings
    facts: WorldFacts
    given: Mapping[TableName, GivenTable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.popularity.flags.writeable = False

    def table(self, name: TableName) -> FactorModel | GivenTable:
        """Return the reward table of this name: the truth in its environment."""
        return self.given[name] if self.given else self.models[name]


def residents(users: Sequence[User], name: TableName) -> NDArray[np.intp]:
    """Return the rows of the users who live on a table."""
    return np.array([row for row, user in enumerate(users) if TABLE_OF[user.split] == name], dtype=np.intp)
