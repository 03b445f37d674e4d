"""Original environments: worlds with the rewards and distances of the authors' files."""

import ast
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from sim.arrays import Numbers
from sim.catalogue import Catalogue, make_item
from sim.errors import BadInputError
from sim.original.numpy_pickle import read_array
from sim.world import World
from sim.world.data import (
    TABLES,
    ModelName,
    SplitName,
    TableName,
    User,
    WorldData,
    WorldFacts,
    WorldSettings,
    residents,
)
from sim.world.factor_model import FactorModel, fit
from sim.world.reward_table import GivenTable
from sim.world.world import ASSUMED_RATING, check_name

DatasetName = Literal["steam", "amazon"]
TAU: Mapping[DatasetName, float] = {"steam": 50.0, "amazon": 15.0}
"""Distances below which items count as similar, as in the authors' runs."""
UNSEEN_RATING = 2.5
"""Rating that the logs model assumes for items drawn from those outside a user's history."""
DEV_SHARE = 1 / 3
MAX_JSON = 512 * 2**20
_LONGEST_GENRES = 10_000
_BLOCK = 256

T = TypeVar("T")


class _DataMaps(BaseModel):
    id2item_dict: dict[str, str]
    item2id_dict: dict[str, int]


class _Task(BaseModel):
    userid_encoded: Annotated[int, Field(ge=0)]
    pos_seq_name: list[str]


_MAPS: TypeAdapter[_DataMaps] = TypeAdapter(_DataMaps)
_GENRES: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
_TASKS: TypeAdapter[list[_Task]] = TypeAdapter(list[_Task])


@dataclass(frozen=True, eq=False)
class _People:
    users: tuple[User, ...]
    encoded: NDArray[np.intp]
    left_out: dict[str, int]


def import_original(name: str, dataset: DatasetName, folder: Path, scratch: Path, *, seed: int = 0) -> World:
    """Build a world from the authors' files, with exactly their rewards and distances.

    Train users live on the train table. Test users are split into dev and test users by the seed, and live on the test
    table. The logs model is fitted on the histories alone.

    Args:
        name: Small letters, digits, `-` and `_`.
        dataset: One of the two environments; it determines the names of files and tau.
        folder: Folder with all the files.
        scratch: Folder for the distances while the world is in use; save the world before it is deleted.
        seed: Seed of the split of the test users, and of the logs model.

    Raises:
        BadInputError: A file is missing, damaged, of another shape, or holds more than plain numbers.
    """
    check_name(name)
    _check_files(dataset, folder)
    maps = _read_json(folder / "datamaps.json", _MAPS)
    catalogue = _catalogue(folder, maps)
    tasks = {table: _read_json(folder / f"{table}.json", _TASKS) for table in TABLES}
    people = _people(folder, tasks, maps, catalogue, seed)
    given = {table: _table(table, dataset, folder, scratch, people, len(catalogue)) for table in TABLES}
    # The authors recommend items of the history too.
    settings = WorldSettings(seed=seed, allow_known=True)
    logs, popularity = _logs_model(people.users, catalogue, settings)
    facts = _facts(dataset, people, given, logs, int(popularity.sum()))
    return World(WorldData(name, catalogue, people.users, {"logs": logs}, popularity, settings, facts, given))


def _check_files(dataset: DatasetName, folder: Path) -> None:
    names = ["datamaps.json", "list_genre.json"]
    for table in TABLES:
        names += [f"{dataset}_{table}.npy", f"{table}_distance_mat.pickle", f"{table}.json"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BadInputError(f"{folder} lacks {', '.join(missing)}; put all files of the authors into one folder")


def _read_json(path: Path, adapter: TypeAdapter[T]) -> T:
    try:
        if path.stat().st_size > MAX_JSON:
            raise BadInputError(f"{path} is larger than {MAX_JSON:,} bytes; use the authors' file")
        return adapter.validate_json(path.read_bytes())
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])[:100]
        raise BadInputError(f"{path}: {where + ': ' if where else ''}{fault['msg']}; use the authors' file") from error


def _catalogue(folder: Path, maps: _DataMaps) -> Catalogue:
    genres = _read_json(folder / "list_genre.json", _GENRES)
    titles = [maps.id2item_dict.get(str(column)) for column in range(len(maps.id2item_dict))]
    if None in titles:
        raise BadInputError(
            f"{folder / 'datamaps.json'}: id2item_dict lacks the id {titles.index(None)}; ids count from 0"
        )
    for title, column in maps.item2id_dict.items():
        if maps.id2item_dict.get(str(column)) != title:
            raise BadInputError(
                f"{folder / 'datamaps.json'}: item2id and id2item_dict differ for {title!r}; use the authors' file"
            )
    return Catalogue(
        make_item(str(column), title, _genre_names(folder, str(title), genres.get(str(title))))
        for column, title in enumerate(titles)
    )


def _genre_names(folder: Path, title: str, value: object) -> list[str]:
    """Return genres given as a list or as the text of a list; a title without genres may lack them in several ways."""
    if value is None or value in ("", "nan") or (isinstance(value, float) and math.isnan(value)):
        return []
    if isinstance(value, str) and len(value) <= _LONGEST_GENRES:
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BadInputError(
            f"{folder / 'list_genre.json'}: the genres of {title[:80]!r} are not a list of names; correct them"
        )
    return list(dict.fromkeys(name for name in value if name.strip()))


def _people(
    folder: Path, tasks: Mapping[TableName, Sequence[_Task]], maps: _DataMaps, catalogue: Catalogue, seed: int
) -> _People:
    """Return the users of both task files. A user in both is a test user only, so that no test user is trained on."""
    first: dict[TableName, dict[int, _Task]] = {table: {} for table in tasks}
    for table, rows in tasks.items():
        for task in rows:
            first[table].setdefault(task.userid_encoded, task)
    both = first["train"].keys() & first["test"].keys()
    train = [task for user, task in first["train"].items() if user not in both]
    test = list(first["test"].values())
    for table, size, least in (("train", len(train), 1), ("test", len(test), 2)):
        if size < least:
            raise BadInputError(
                f"{folder / f'{table}.json'} holds {size} users of its own; at least {least} are needed"
            )
    n_dev = max(1, round(DEV_SHARE * len(test)))
    dev = set(np.random.default_rng(seed).permutation(len(test))[:n_dev].tolist())
    splits: list[SplitName] = ["train"] * len(train)
    splits += ["dev" if row in dev else "test" for row in range(len(test))]
    histories = [_history(task, maps, catalogue) for task in train + test]
    unknown = sum(title not in maps.item2id_dict for task in train + test for title in task.pos_seq_name)
    repeated = sum(len(rows) for rows in tasks.values()) - sum(len(rows) for rows in first.values())
    counts = {
        "tasks of users who are in test.json too": len(both),
        "further tasks of a user": repeated,
        "titles that datamaps.json lacks": unknown,
    }
    return _People(
        users=tuple(
            User(str(task.userid_encoded), split, history, (ASSUMED_RATING,) * len(history))
            for task, split, history in zip(train + test, splits, histories, strict=True)
        ),
        encoded=np.array([task.userid_encoded for task in train + test], dtype=np.intp),
        left_out={why: count for why, count in counts.items() if count},
    )


def _history(task: _Task, maps: _DataMaps, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the items of a history, oldest first; a repeated item stays at its last place only."""
    columns = [maps.item2id_dict[title] for title in task.pos_seq_name if title in maps.item2id_dict]
    return tuple(catalogue[column].id for column in reversed(dict.fromkeys(reversed(columns))))


def _table(
    table: TableName, dataset: DatasetName, folder: Path, scratch: Path, people: _People, n_items: int
) -> GivenTable:
    path = folder / f"{dataset}_{table}.npy"
    rewards = _mapped(path)
    living = residents(people.users, table)
    last = int(people.encoded[living].max())
    if rewards.ndim != 2 or rewards.shape[1] != n_items or last >= len(rewards):
        raise BadInputError(
            f"{path} has the shape {rewards.shape}; {table}.json needs {last + 1} users or more, and datamaps.json "
            f"{n_items} items"
        )
    rows = np.full(len(people.users), -1, dtype=np.intp)
    rows[living] = people.encoded[living]
    _check_finite(path, rewards, rows[living])
    return GivenTable(rewards, rows, _distances(table, folder, scratch, n_items), TAU[dataset])


def _distances(table: TableName, folder: Path, scratch: Path, n_items: int) -> Numbers:
    """Return the distances in a pickle, copied to a memory-mapped file, so that only one table is in memory."""
    path = folder / f"{table}_distance_mat.pickle"
    values = read_array(path)
    if values.dtype.kind != "f" or values.shape != (n_items, n_items):
        raise BadInputError(
            f"{path} holds {values.dtype} of the shape {values.shape}; {n_items} x {n_items} distances are needed"
        )
    _check_finite(path, values, np.arange(n_items))
    copy = scratch / f"{table}_distances.npy"
    try:
        with copy.open("wb") as file:
            np.lib.format.write_array(file, values, allow_pickle=False)
    except OSError as error:
        raise BadInputError(
            f"distances cannot be put into {scratch}: {error.strerror or error}; free some space"
        ) from error
    return _mapped(copy)


def _mapped(path: Path) -> Numbers:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise BadInputError(f"{path} is not a complete .npy file of numbers; use the authors' file") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}") from error
    if array.dtype.kind != "f":
        raise BadInputError(f"{path} holds {array.dtype}, not floating numbers; use the authors' file")
    return array


def _check_finite(path: Path, values: Numbers, rows: NDArray[np.intp]) -> None:
    for start in range(0, len(rows), _BLOCK):
        if not np.isfinite(values[rows[start : start + _BLOCK]]).all():
            raise BadInputError(f"{path} contains values that are not finite numbers; use the authors' file")


def _logs_model(
    users: Sequence[User], catalogue: Catalogue, settings: WorldSettings
) -> tuple[FactorModel, NDArray[np.int64]]:
    """Fit the logs model on histories: their items count as liked, as many random other items as less liked."""
    rng = np.random.default_rng(settings.seed)
    rows, items, ratings = [], [], []
    popularity = np.zeros(len(catalogue), dtype=np.int64)
    for row, user in enumerate(users):
        had = catalogue.positions(user.history)
        popularity[had] += 1
        others = np.setdiff1d(np.arange(len(catalogue)), had)
        unseen = rng.choice(others, size=min(len(had), len(others)), replace=False)
        rows.append(np.full(len(had) + len(unseen), row))
        items.append(np.concatenate([had, unseen]))
        ratings.append(np.repeat([ASSUMED_RATING, UNSEEN_RATING], [len(had), len(unseen)]))
    if not popularity.any():
        raise BadInputError("no history names an item of datamaps.json; use files of the same data set")
    model = fit(
        np.concatenate(rows),
        np.concatenate(items),
        np.concatenate(ratings),
        n_users=len(users),
        genres=catalogue.genre_matrix,
        settings=settings.fit,
        seed=settings.seed,
    )
    return model, popularity


def _facts(
    dataset: DatasetName, people: _People, given: Mapping[TableName, GivenTable], logs: FactorModel, ratings: int
) -> WorldFacts:
    """Return the facts about the given rewards: their histogram, and the error of the logs model on them."""
    halves: Counter[float] = Counter()
    rmse: dict[ModelName, float] = {}
    for name, table in given.items():
        errors = []
        for row in residents(people.users, name).tolist():
            rewards = table.ratings(row)
            errors.append(float(np.mean((logs.ratings(row) - rewards) ** 2)))
            points, counts = np.unique(np.round(rewards * 2), return_counts=True)
            halves.update(dict(zip((points / 2).tolist(), counts.tolist(), strict=True)))
        rmse[name] = float(np.sqrt(np.mean(errors)))
    return WorldFacts(
        source=f"original {dataset}",
        ratings=ratings,
        dropped=sum(people.left_out.values()),
        left_out=people.left_out,
        histogram={f"{half:g}": count for half, count in sorted(halves.items())},
        rmse=rmse,
    )
