import hashlib
import io
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.policies import run_visit
from sim.world import World
from sim.world.storage import allows_known, world_checksum

FILES = {"items.jsonl", "logs.npz", "manifest.json", "popularity.npz", "test.npz", "train.npz", "users.jsonl"}


@pytest.fixture(scope="module")
def world() -> World:
    return World.build("tiny", load_ratings("tiny", 1), seed=1, min_reward_quantile=0.1)


@pytest.fixture
def saved(world: World, tmp_path: Path) -> Path:
    world.save(tmp_path / "tiny")
    return tmp_path / "tiny"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def resign(folder: Path, name: str, data: bytes) -> None:
    """Replace the bytes of a file, and update its checksum."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def refused(folder: Path, name: str) -> str:
    with pytest.raises(BadInputError) as caught:
        World.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    assert f"billp world build {folder.name}" in message
    return message


def test_a_loaded_world_equals_the_saved_one(world: World, saved: Path) -> None:
    loaded = World.load(saved)
    assert loaded.name == world.name
    assert loaded.catalogue == world.catalogue
    assert dict(loaded.users) == dict(world.users)
    assert (loaded.settings, loaded.facts) == (world.settings, world.facts)
    assert np.array_equal(loaded.logs.popularity, world.logs.popularity)
    assert loaded.logs.vectors.tobytes() == world.logs.vectors.tobytes()
    newcomer = [world.catalogue[0].id]
    assert loaded.logs.fold_in(newcomer).tobytes() == world.logs.fold_in(newcomer).tobytes()
    for name in ("train", "dev", "test"):
        mine, theirs = loaded.split(name), world.split(name)
        assert (mine.users, mine.tau) == (theirs.users, theirs.tau)
        for user in mine.users:
            assert mine.rewards(user).tobytes() == theirs.rewards(user).tobytes()
            assert mine.leave_rule(user) == theirs.leave_rule(user)
    user = world.split("dev").users[0]
    assert run_visit("random", loaded, "dev", user) == run_visit("random", world, "dev", user)


def test_the_same_seed_gives_byte_identical_files(saved: Path, tmp_path: Path) -> None:
    again = World.build("tiny", load_ratings("tiny", 1), seed=1, min_reward_quantile=0.1)
    again.save(tmp_path / "again")
    World.load(saved).save(tmp_path / "resaved")
    assert contents(saved).keys() == FILES
    assert contents(tmp_path / "again") == contents(saved) == contents(tmp_path / "resaved")


def test_a_world_says_whether_known_items_may_come_and_an_earlier_one_forbids_them(tmp_path: Path) -> None:
    ratings, folder = load_ratings("tiny", 1), tmp_path / "tiny"
    for allow_known in (True, False):
        World.build("tiny", ratings, allow_known=allow_known).save(folder)
        world = World.load(folder)
        history = world.users["1"].history
        assert world.settings.allow_known == allows_known(folder) == allow_known
        held = [world.catalogue[position].id for position in world.withheld(history).tolist()]
        assert held == ([] if allow_known else [*history])
    checksum = world_checksum(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["settings"]["allow_known"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert (
        not World.load(folder).settings.allow_known and not allows_known(folder) and world_checksum(folder) != checksum
    )
    (folder / "manifest.json").write_text("{")
    assert not allows_known(folder) and not allows_known(tmp_path / "nowhere")


def test_an_existing_world_is_replaced_and_nothing_else_left(saved: Path) -> None:
    (saved / "left-over").write_text("x")
    other = World.build("tiny", load_ratings("tiny", 2), seed=2)
    other.save(saved)
    assert contents(saved).keys() == FILES
    assert World.load(saved).settings.seed == 2
    assert [path.name for path in saved.parent.iterdir()] == ["tiny"]


def test_what_is_no_world_is_not_replaced(world: World, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(BadInputError, match="is not a world"):
        world.save(tmp_path / "notes")
    assert (tmp_path / "notes" / "diary.txt").read_text() == "dear diary"
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInputError, match="is not a world"):
        world.save(tmp_path / "file")


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_failed_save_leaves_the_old_world_and_no_debris(
    world: World, saved: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    before = contents(saved)
    real: Callable[..., Path] = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if ".new-" in self.name:
            raise OSError(28, "No space left on device")
        return real(self, target)

    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    if moment == "rename":
        monkeypatch.setattr(Path, "rename", rename)
    else:
        monkeypatch.setattr("sim.world.storage.os.fsync", fsync)
    with pytest.raises(BadInputError, match="No space left on device"):
        world.save(saved)
    monkeypatch.undo()
    assert contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["tiny"]


def test_worlds_saved_to_one_place_at_once_leave_one_whole_world(tmp_path: Path) -> None:
    worlds = [World.build("tiny", load_ratings("tiny", seed), seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda world: world.save(tmp_path / "tiny"), worlds))
    assert World.load(tmp_path / "tiny").settings.seed in range(4)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_missing_world_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no world at .*nowhere; run: billp world build nowhere"):
        World.load(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert "it is missing" in refused(saved, name)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_truncated_file_is_refused(saved: Path, name: str) -> None:
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: len(data) // 2])
    refused(saved, name)
    assert contents(saved).keys() == FILES


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_a_changed_byte_is_refused(saved: Path, name: str) -> None:
    data = bytearray((saved / name).read_bytes())
    data[len(data) // 2] ^= 1
    (saved / name).write_bytes(bytes(data))
    assert "checksum" in refused(saved, name)


class Trap:
    """Object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_objects_are_never_opened(saved: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    objects = np.array([Trap(sprung)], dtype=object)
    for data in (archive(popularity=objects), pickle.dumps(Trap(sprung))):
        resign(saved, "popularity.npz", data)
        assert "no archive of plain arrays" in refused(saved, "popularity.npz")
    assert not sprung.exists()
    np.load(io.BytesIO(archive(popularity=objects)), allow_pickle=True)["popularity"]
    assert sprung.exists(), "the trap itself must work"


def test_arrays_of_the_wrong_kind_are_refused(saved: Path) -> None:
    with np.load(saved / "logs.npz") as loaded:
        arrays = dict(loaded)
    wrong: list[dict[str, Any]] = [
        arrays | {"vectors": arrays["vectors"][:-1]},
        arrays | {"user_bias": arrays["user_bias"].astype(np.float64)},
        arrays | {"item_bias": np.full_like(arrays["item_bias"], np.nan)},
        arrays | {"more": np.zeros(1)},
        {name: array for name, array in arrays.items() if name != "vectors"},
    ]
    for changed in wrong:
        resign(saved, "logs.npz", archive(**changed))
        refused(saved, "logs.npz")


def test_rows_of_the_wrong_kind_are_refused(saved: Path) -> None:
    users = (saved / "users.jsonl").read_text().splitlines()
    row = json.loads(users[0])
    for changed in (
        row | {"split": "valid"},
        row | {"ratings": row["ratings"][1:]},
        row | {"history": ["nothing", *row["history"][1:]]},
        json.loads(users[1]),
    ):
        text = "\n".join([json.dumps(changed), *users[1:]])
        resign(saved, "users.jsonl", text.encode())
        refused(saved, "users.jsonl")
    items = (saved / "items.jsonl").read_text().splitlines()
    resign(saved, "items.jsonl", "\n".join([items[1], *items[1:]]).encode())
    assert "occurs twice" in refused(saved, "items.jsonl")


@pytest.mark.parametrize(
    "change",
    [{"format": "other"}, {"version": 2}, {"models": {}}, {"files": {}}, {"unheard": 1}, {"settings": {"cut": "x"}}],
)
def test_a_foreign_manifest_is_refused(saved: Path, change: dict[str, Any]) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | change))
    refused(saved, "")
