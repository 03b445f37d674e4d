"""What a world consists of, before anyone lives in it: users, settings, facts and fitted models."""

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
# Dev users live on the test table, so that work on them tells what test users will do.
TABLE_OF: Mapping[SplitName, TableName] = {"train": "train", "dev": "test", "test": "test"}

_Rating = Annotated[float, Field(ge=0.5, le=5.0, allow_inf_nan=False)]


@checked_dataclass(frozen=True, config=ConfigDict(strict=False))
class User:
    """Hold one user of a world.

    Attributes:
        id: Identifies the user.
        split: Whose visits these are for: training, daily work, or the final test.
        history: Ids of the items that the user rated in the logs, oldest first; may be empty.
        ratings: The ratings of `history`, 0.5 to 5.
    """

    id: str
    split: SplitName
    history: tuple[str, ...] = ()
    ratings: tuple[_Rating, ...] = ()

    def __post_init__(self) -> None:
        if len(self.history) != len(self.ratings):
            raise ValueError("history and ratings must have the same length")


class WorldSettings(BaseModel):
    """Hold what a world was built with."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = Field(0, ge=0)
    """Seeds the cut and the fits."""
    cut: CutName = "random"
    """How logs are chosen: at random, or each user's earliest ratings."""
    min_reward_quantile: float | None = Field(None, gt=0, lt=1)
    """Quantile of a user's own rewards below which they leave; None means the fixed bar of 2.0."""
    fit: FitSettings = FitSettings()
    """Settings of the three fits."""


class WorldFacts(BaseModel):
    """Hold what is known about the ratings that a world was built from, and how well they were fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    ratings: int = Field(ge=1)
    """Ratings of the items that were kept."""
    dropped: int = Field(ge=0)
    """Ratings left out: unusable rows of the source, and those of items with fewer than 10 ratings."""
    left_out: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """The same by reason."""
    histogram: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """How many ratings were rounded to which half point; where tables are given, how many of their rewards."""
    rmse: dict[ModelName, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    """Held-out error: the logs model on train and test ratings, each table on the ratings of the other. Where
    tables are given: the logs model on the rewards of each."""


@dataclass(frozen=True, eq=False)
class WorldData:
    """Hold everything that a world is made of and that is saved with it.

    Attributes:
        name: Name of the world.
        catalogue: Its items.
        users: Its users; the row of a user in every model is their place here.
        models: The logs model, and the tables that are fitted.
        popularity: How many log ratings each item has, shape (n_items,), int64.
        settings: What it was built with.
        facts: What is known about its ratings.
        given: The tables that are given; all or none are.
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
        """Return the truth of one of the two environments."""
        return self.given[name] if self.given else self.models[name]


def residents(users: Sequence[User], name: TableName) -> NDArray[np.intp]:
    """Return which of the users live on a table, by their places."""
    return np.array([row for row, user in enumerate(users) if TABLE_OF[user.split] == name], dtype=np.intp)
