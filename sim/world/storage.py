"""World folder: JSON and plain arrays with checksums, written atomically."""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sim.arrays import Numbers
from sim.atomic_files import atomic_folder
from sim.catalogue import ITEM_ADAPTER, Catalogue, Item
from sim.errors import BadInputError
from sim.world.data import MODELS, TABLES, ModelName, TableName, User, WorldData, WorldFacts, WorldSettings, residents
from sim.world.factor_model import FactorModel
from sim.world.reward_table import GivenTable, numbered

MANIFEST = "manifest.json"
ITEMS, USERS, POPULARITY = "items.jsonl", "users.jsonl", "popularity.npz"
_MODEL_FILES: Mapping[ModelName, str] = {name: f"{name}.npz" for name in MODELS}
_GIVEN_REWARDS: Mapping[TableName, str] = {name: f"{name}_rewards.npy" for name in TABLES}
_GIVEN_PAIRS: Mapping[TableName, str] = {name: f"{name}_distances.npy" for name in TABLES}
# Number of rows of a given table that are written at once.
_BLOCK = 256
_ARRAYS = ("user_bias", "user_factors", "item_bias", "item_factors", "vectors")
_USER_ADAPTER: TypeAdapter[User] = TypeAdapter(User)

RowT = TypeVar("RowT")
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    mean: _Finite
    tau: _Finite


class _RewardTableFacts(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tau: _Finite


class _WorldManifest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["billp-world"]
    version: Literal[1]
    name: str
    settings: WorldSettings
    facts: WorldFacts
    models: dict[ModelName, _Model]
    given: dict[TableName, _RewardTableFacts] = {}
    files: dict[str, str]


def world_checksum(path: Path) -> str:
    """Return the checksum of a saved world: of its manifest, which has those of all other files.

    Raises:
        OSError: There is no world in the folder.
    """
    return hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()


def saved_worlds(folder: Path) -> list[str]:
    """Return the names of the worlds in a folder, sorted; none if the folder is missing."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def allows_known(path: Path) -> bool:
    """Return whether the world in a folder allows known items; False if its manifest cannot be used."""
    try:
        return _read_manifest(path).settings.allow_known
    except BadInputError:
        return False


def write(contents: WorldData, path: Path, add: Callable[[Path], None] = lambda folder: None) -> None:
    """Write a world into the folder `path`, completely or not at all; an existing world is replaced.

    `add` adds further files to the new folder before it replaces the old one.

    Raises:
        BadInputError: `path` holds something other than a world, or cannot be written.
    """
    if _is_foreign(path):
        raise BadInputError(f"{path} is not a world, so it is not replaced; choose another name")
    try:
        with atomic_folder(path) as fresh:
            checksums = {name: _write_file(fresh / name, [data]) for name, data in _files_of(contents).items()}
            checksums |= {name: _write_file(fresh / name, parts) for name, parts in _given_files(contents).items()}
            _write_file(fresh / MANIFEST, [_manifest_of(contents, checksums)])
            add(fresh)
    except OSError as error:
        raise BadInputError(
            f"the world cannot be written to {path}: {error.strerror}; free some space or choose another folder"
        ) from error


def read(path: Path) -> WorldData:
    """Read a world from the folder `path`; no file in it can run code.

    Raises:
        BadInputError: There is no world, or one of its files is missing, damaged or foreign.
    """
    if not path.is_dir():
        raise BadInputError(f"there is no world at {path}; run: billp world build {path.name}")
    manifest = _read_manifest(path)
    fitted: tuple[ModelName, ...] = ("logs",) if manifest.given else MODELS
    names = (ITEMS, USERS, POPULARITY, *(_MODEL_FILES[name] for name in fitted))
    data = {name: _read_checked(path, name, manifest.files.get(name)) for name in names}
    items = _read_rows(path, ITEMS, data[ITEMS], ITEM_ADAPTER)
    users = _read_rows(path, USERS, data[USERS], _USER_ADAPTER)
    try:
        catalogue = Catalogue(items)
    except BadInputError as error:
        raise _unusable(path, ITEMS, str(error)) from error
    _check_users(path, users, catalogue)
    popularity = _read_arrays(path, POPULARITY, data[POPULARITY], {"popularity": ("i8", (len(items),))})["popularity"]
    return WorldData(
        name=manifest.name,
        catalogue=catalogue,
        users=tuple(users),
        models={name: _read_model(path, name, data, manifest, len(users), len(items)) for name in fitted},
        popularity=popularity,
        settings=manifest.settings,
        facts=manifest.facts,
        given={name: _read_given(path, name, manifest, users, len(items)) for name in TABLES} if manifest.given else {},
    )


def _files_of(contents: WorldData) -> dict[str, bytes]:
    files = {
        ITEMS: _rows([_item_row(item) for item in contents.catalogue]),
        USERS: _rows([_USER_ADAPTER.dump_python(user) for user in contents.users]),
        POPULARITY: _arrays({"popularity": contents.popularity}),
    }
    for name, model in contents.models.items():
        files[_MODEL_FILES[name]] = _arrays({array: getattr(model, array) for array in _ARRAYS})
    return files


def _item_row(item: Item) -> dict[str, Any]:
    row = {"id": item.id, "title": item.title, "genres": item.genres}
    # What is unknown is left out, so that a world has the same bytes as before there were such fields.
    more = {"year": item.year, "description": item.description}
    return row | {name: value for name, value in more.items() if value is not None}


def _given_files(contents: WorldData) -> dict[str, Iterator[bytes]]:
    """Return the arrays of given tables in blocks, so that a table may exceed memory."""
    files = {}
    for name, table in contents.given.items():
        rows = table.rows[residents(contents.users, name)]
        files[_GIVEN_REWARDS[name]] = _npy(table.rewards, rows)
        files[_GIVEN_PAIRS[name]] = _npy(table.pairs, np.arange(len(table.pairs)))
    return files


def _npy(array: NDArray[Any], rows: NDArray[np.intp]) -> Iterator[bytes]:
    """Yield the bytes of an .npy file with the given rows of an array."""
    head = io.BytesIO()
    shape = (len(rows), *array.shape[1:])
    described = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, described)
    yield head.getvalue()
    for first in range(0, len(rows), _BLOCK):
        yield np.ascontiguousarray(array[rows[first : first + _BLOCK]]).tobytes()


def _manifest_of(contents: WorldData, checksums: dict[str, str]) -> bytes:
    manifest = _WorldManifest(
        format="billp-world",
        version=1,
        name=contents.name,
        settings=contents.settings,
        facts=contents.facts,
        models={name: _Model(mean=model.mean, tau=model.tau) for name, model in contents.models.items()},
        given={name: _RewardTableFacts(tau=table.tau) for name, table in contents.given.items()},
        files=checksums,
    )
    content = manifest.model_dump(mode="json")
    if not contents.facts.read_as:
        # As in worlds that were built before this field.
        del content["facts"]["read_as"]
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode()


def _write_file(path: Path, parts: Iterable[bytes]) -> str:
    """Write a file, flush it to the disk, and return its checksum."""
    checksum = hashlib.sha256()
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
            checksum.update(part)
        file.flush()
        os.fsync(file.fileno())
    return checksum.hexdigest()


def _rows(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def _is_foreign(path: Path) -> bool:
    """Return whether `path` exists and is neither an empty folder nor a world."""
    if not os.path.lexists(path):
        return False
    try:
        names = [entry.name for entry in path.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return True
    return bool(names) and MANIFEST not in names


def _read_manifest(path: Path) -> _WorldManifest:
    try:
        manifest = _WorldManifest.model_validate_json((path / MANIFEST).read_bytes())
    except OSError as error:
        raise _unusable(path, MANIFEST, _why(error)) from error
    except ValidationError as error:
        raise _unusable(path, MANIFEST, _first_fault(error)) from error
    if manifest.given and "allow_known" not in manifest.settings.model_fields_set:
        # Imports of earlier versions lack the rule of the original.
        raise _unusable(path, MANIFEST, "it does not say that known items are allowed", imported=True)
    return manifest


def _read_checked(path: Path, name: str, checksum: str | None) -> bytes:
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise _unusable(path, name, _why(error)) from error
    if hashlib.sha256(data).hexdigest() != checksum:
        raise _unusable(path, name, "its checksum is not that of the manifest")
    return data


def _read_rows(path: Path, name: str, data: bytes, adapter: TypeAdapter[RowT]) -> list[RowT]:
    rows = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            rows.append(adapter.validate_json(line))
        except ValidationError as error:
            raise _unusable(path, name, f"line {number}: {_first_fault(error)}") from error
    return rows


def _check_users(path: Path, users: list[User], catalogue: Catalogue) -> None:
    if len({user.id for user in users}) != len(users):
        raise _unusable(path, USERS, "a user id occurs twice")
    known = {item.id for item in catalogue}
    for user in users:
        if any(item_id not in known for item_id in user.history):
            raise _unusable(path, USERS, f"the history of user {user.id!r} names an item that the catalogue lacks")


def _read_arrays(
    path: Path, name: str, data: bytes, expected: Mapping[str, tuple[str, tuple[int, ...]]]
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file; check their names, types and shapes, and that all numbers are finite."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        raise _unusable(path, name, "it is no archive of plain arrays") from error
    if set(arrays) != set(expected):
        raise _unusable(path, name, f"it holds {sorted(arrays)} instead of {sorted(expected)}")
    for key, (kind, shape) in expected.items():
        array = arrays[key]
        if array.dtype != np.dtype(kind) or array.shape != shape or not np.isfinite(array).all():
            raise _unusable(path, name, f"{key} has the wrong type, shape or values")
    return arrays


def _read_model(
    path: Path, name: ModelName, data: Mapping[str, bytes], manifest: _WorldManifest, n_users: int, n_items: int
) -> FactorModel:
    if name not in manifest.models:
        raise _unusable(path, MANIFEST, f"it describes no model {name!r}")
    file, width = _MODEL_FILES[name], manifest.settings.fit.factors
    shapes = ((n_users,), (n_users, width), (n_items,), (n_items, width), (n_items, width))
    expected = {array: ("f4", shape) for array, shape in zip(_ARRAYS, shapes, strict=True)}
    return FactorModel(
        mean=manifest.models[name].mean,
        tau=manifest.models[name].tau,
        ridge_vector=manifest.settings.fit.ridge_vector,
        ridge_bias=manifest.settings.fit.ridge_bias,
        **_read_arrays(path, file, data[file], expected),
    )


def _read_given(path: Path, name: TableName, manifest: _WorldManifest, users: list[User], n_items: int) -> GivenTable:
    if name not in manifest.given:
        raise _unusable(path, MANIFEST, f"it describes no table {name!r}")
    living = residents(users, name)
    return GivenTable(
        rewards=_mapped(path, _GIVEN_REWARDS[name], manifest, (len(living), n_items)),
        rows=numbered(living, len(users)),
        pairs=_mapped(path, _GIVEN_PAIRS[name], manifest, (n_items, n_items)),
        tau=manifest.given[name].tau,
    )


def _mapped(path: Path, name: str, manifest: _WorldManifest, shape: tuple[int, ...]) -> Numbers:
    """Return a memory-mapped array; check its checksum, type and shape."""
    try:
        with (path / name).open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if checksum != manifest.files.get(name):
            raise _unusable(path, name, "its checksum is not that of the manifest")
        array = np.lib.format.open_memmap(path / name, mode="r")
    except OSError as error:
        raise _unusable(path, name, _why(error)) from error
    except ValueError as error:
        raise _unusable(path, name, "it is no plain array") from error
    if array.dtype.kind != "f" or array.shape != shape:
        raise _unusable(path, name, "it has the wrong type or shape")
    return array


def _unusable(path: Path, name: str, why: str, *, imported: bool = False) -> BadInputError:
    given = imported or name in (*_GIVEN_REWARDS.values(), *_GIVEN_PAIRS.values())
    command = f"billp world {'import-original' if given else 'build'} {path.name}"
    return BadInputError(f"{path / name} cannot be used: {why}; rebuild it with: {command}")


def _why(error: OSError) -> str:
    return "it is missing" if isinstance(error, FileNotFoundError) else str(error.strerror)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]
