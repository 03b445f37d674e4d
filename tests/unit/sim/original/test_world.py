"""Original environments: worlds with exactly the rewards and distances of the authors' files."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.errors import BadInputError
from sim.original.world import import_original
from sim.policies import run_visit
from sim.world import World
from sim.world.data import SPLITS, TABLE_OF
from tests.original_files import TITLES, write_original


def imported(folder: Path, dataset: Any = "steam", seed: int = 0) -> World:
    scratch = folder.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return import_original("old", dataset, folder, scratch, seed=seed)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_original(tmp_path / "authors")
    return tmp_path / "authors"


@pytest.mark.parametrize(("dataset", "tau"), [("steam", 50.0), ("amazon", 15.0)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rewards_and_distances_are_exactly_those_of_the_files(
    tmp_path: Path, dataset: str, tau: float, dtype: str
) -> None:
    made = write_original(tmp_path / "authors", dataset, dtype=dtype)
    world = imported(tmp_path / "authors", dataset)
    world.save(tmp_path / "old")
    for one in (world, World.load(tmp_path / "old")):
        for name in SPLITS:
            split, table = one.split(name), TABLE_OF[name]
            rewards, distances = made[f"{table}_rewards"], made[f"{table}_distances"]
            assert split.tau == tau and split.users
            for user in split.users:
                assert np.array_equal(split.rewards(user), rewards[int(user)])
                assert split.reward(user, "7") == float(rewards[int(user), 7])
                rule = split.leave_rule(user)
                assert (rule.window, rule.min_reward, rule.min_distance) == (4, 2.0, tau)
            for item in one.catalogue:
                assert np.array_equal(split.distances(item), distances[int(item.id)])
            assert split.distance("2", "5") == distances[2, 5]


def test_train_users_are_those_of_train_and_test_users_are_cut_by_seed(files: Path) -> None:
    world = imported(files)
    users = {name: [int(user) for user in world.split(name).users] for name in SPLITS}
    assert users["train"] == list(range(3, 33))
    assert sorted(users["dev"] + users["test"]) == list(range(40, 70))
    assert len(users["dev"]) == 10
    assert imported(files).split("dev").users == world.split("dev").users
    assert imported(files, seed=1).split("dev").users != world.split("dev").users


def test_histories_and_genres_are_those_of_the_files(files: Path) -> None:
    tasks = json.loads((files / "train.json").read_text())
    tasks[0]["pos_seq_name"] = ["Game 4", "Game 1", "Unheard of", "Game 9", "Game 4"]
    (files / "train.json").write_text(json.dumps(tasks))
    world = imported(files)
    # Game 9 has the ids 9 and 17, and its title means the later one; Game 4 keeps its last place.
    assert world.users["3"].history == ("1", "17", "4")
    assert [item.title for item in world.catalogue] == TITLES
    assert world.catalogue.item("3").genres == ("Children's Books",)
    assert world.catalogue.item("5").genres == ()
    assert all(len(item.genres) == 2 for item in world.catalogue if item.title not in ("Game 3", "Game 5"))
    assert world.facts.left_out == {"titles that datamaps.json lacks": 1}
    assert world.facts.dropped == 1
    assert world.logs.popularity.sum() == sum(len(user.history) for user in world.users.values())


def test_the_facts_are_those_of_the_given_rewards(files: Path) -> None:
    made = write_original(files)
    world = imported(files)
    lived = {"train": made["train_rewards"][3:33], "test": made["test_rewards"][40:70]}
    for table, rewards in lived.items():
        predicted = np.array([world.logs.predictions(str(row + (3 if table == "train" else 40))) for row in range(30)])
        assert world.facts.rmse[table] == pytest.approx(np.sqrt(np.mean((predicted - rewards) ** 2)), rel=1e-5)  # type: ignore[index]
    assert sum(world.facts.histogram.values()) == 2 * 30 * len(TITLES)
    every = np.concatenate(list(lived.values()))
    assert world.facts.histogram["3.5"] == int((np.round(every * 2) == 7).sum())


def test_who_is_in_both_files_is_never_trained_on(files: Path) -> None:
    tasks = {table: json.loads((files / f"{table}.json").read_text()) for table in ("train", "test")}
    (files / "train.json").write_text(json.dumps([*tasks["train"], tasks["test"][0], tasks["train"][0]]))
    found = imported(files)
    assert found.users["40"].split in ("dev", "test")
    assert found.facts.left_out == {"tasks of users who are in test.json too": 1, "further tasks of a user": 1}


def test_the_logs_model_knows_histories_and_no_reward(files: Path, tmp_path: Path) -> None:
    before = imported(files)
    for table in ("train", "test"):
        np.save(files / f"steam_{table}.npy", np.full((90, len(TITLES)), 3.0, dtype="f4"))
    after = imported(files)
    for user in before.users:
        assert before.logs.predictions(user).tobytes() == after.logs.predictions(user).tobytes()
    had = [
        before.logs.predictions(user.id)[[int(item) for item in user.history]].mean() for user in before.users.values()
    ]
    rest = [before.logs.predictions(user.id).mean() for user in before.users.values()]
    assert np.mean(had) > np.mean(rest) + 0.1


def test_a_saved_world_stays_on_the_disk_and_saves_again_to_the_same_bytes(files: Path, tmp_path: Path) -> None:
    imported(files).save(tmp_path / "old")
    loaded = World.load(tmp_path / "old")
    assert isinstance(loaded.data.given["test"].rewards, np.memmap)
    assert isinstance(loaded.data.given["test"].pairs, np.memmap)
    # Of a table, only the users who live on it are saved.
    assert loaded.data.given["test"].rewards.shape == (30, len(TITLES))
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    loaded.save(tmp_path / "old")
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before
    assert not any(name.endswith(("pickle", "pkl")) for name in before)
    for policy in ("random", "greedy", "oracle"):
        user = loaded.split("test").users[0]
        assert run_visit(policy, loaded, "test", user) == run_visit(policy, World.load(tmp_path / "old"), "test", user)


def test_a_visit_is_that_of_the_authors_environment(files: Path, tmp_path: Path) -> None:
    made = write_original(files)
    world = imported(files)
    for split, table in (("train", "train"), ("test", "test")):
        for user in world.split(split).users[:20]:  # type: ignore[arg-type]
            had: list[int] = []
            visit = run_visit("random", world, split, user, max_steps=50)  # type: ignore[arg-type]
            for step in visit["steps"]:
                item = int(step["item_id"])
                reward = made[f"{table}_rewards"][int(user), item]
                # The authors' rule in their words: the item is too near to one of the last four or, if there is one,
                # its reward is below 2.
                leaves = any(made[f"{table}_distances"][item, other] < 50 or reward < 2 for other in had[::-1][:4])
                assert (step["reward"], step["left"]) == (float(reward), leaves)
                had.append(item)


def test_rewards_are_given_for_the_users_of_a_table_alone(files: Path) -> None:
    world = imported(files)
    with pytest.raises(BadInputError, match="split of the user"):
        world.split("train").rewards("40")
    with pytest.raises(BadInputError, match="its own users only"):
        world.split("test").rewards("somebody", ["1", "2"])


@pytest.mark.parametrize("name", ["train_rewards.npy", "test_distances.npy"])
@pytest.mark.parametrize("how", ["missing", "changed", "incomplete"])
def test_a_damaged_table_is_refused(files: Path, tmp_path: Path, name: str, how: str) -> None:
    imported(files).save(tmp_path / "old")
    path = tmp_path / "old" / name
    data = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(data[:-8] + (b"" if how == "incomplete" else b"8" * 8))
    with pytest.raises(BadInputError, match=f"{name} cannot be used.*import-original old"):
        World.load(tmp_path / "old")


def test_known_items_are_allowed_as_in_the_original_and_an_import_that_does_not_say_so_is_refused(
    files: Path, tmp_path: Path
) -> None:
    imported(files).save(tmp_path / "old")
    world = World.load(tmp_path / "old")
    assert world.settings.allow_known and not world.withheld(world.users["3"].history).size
    manifest = json.loads((tmp_path / "old" / "manifest.json").read_text())
    del manifest["settings"]["allow_known"]
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInputError, match="manifest.json cannot be used: .*known items.*import-original old"):
        World.load(tmp_path / "old")


class Runs:
    def __reduce__(self) -> Any:
        return eval, ("1/0",)


class Change:
    """Change to the content of a JSON file."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self.change = change


def spoil(path: Path, content: Any) -> None:
    """Replace the content of a file, in its own format unless the new content is bytes; delete the file for None."""
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".npy":
        np.save(path, content, allow_pickle=True)
    elif path.suffix == ".pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        thing = content.change(json.loads(path.read_text())) if isinstance(content, Change) else content
        path.write_text(json.dumps(thing))


def task(**fields: Any) -> Change:
    return Change(lambda rows: [rows[0] | fields])


def maps(**fields: Any) -> Change:
    return Change(lambda old: old | fields)


MAPS, GENRES, TRAIN, TEST = "datamaps.json", "list_genre.json", "train.json", "test.json"
REWARDS, DISTANCES = "steam_test.npy", "train_distance_mat.pickle"
FAULTS: dict[str, tuple[str, Any, str]] = {
    "missing": (TRAIN, None, "lacks train.json"),
    "empty json": (MAPS, b"", MAPS),
    "not utf-8": (GENRES, b'{"a": "\xff"}', GENRES),
    "wrong json": (TEST, {"a": 1}, TEST),
    "wrong user": (TEST, task(userid_encoded=-1), "userid_encoded"),
    "one test user": (TEST, task(), "at least 2"),
    "no train user": (TRAIN, [], "at least 1"),
    "no such row": (TRAIN, task(userid_encoded=90), "needs 91 users"),
    "ids from 1": (MAPS, maps(id2item_dict={"1": "Game 0"}), "ids count from 0"),
    "maps that differ": (MAPS, maps(item2id_dict={"Game 1": 2}), "'Game 1'"),
    "no titles": (MAPS, maps(item2id_dict={}), "no history names"),
    "no items": (MAPS, {"id2item_dict": {}, "item2id_dict": {}}, "at least one item"),
    "genres that run": (GENRES, {"Game 1": "__import__('os').getcwd()"}, "'Game 1'"),
    "genres too deep": (GENRES, {"Game 1": "[" * 9_000}, "'Game 1'"),
    "genres as text": (GENRES, {"Game 1": "Action"}, "'Game 1'"),
    "another width": (REWARDS, np.ones((90, 39)), REWARDS),
    "rewards of one row": (REWARDS, np.ones(90), REWARDS),
    "NaN reward": (REWARDS, np.full((90, 40), np.nan), "finite"),
    "whole rewards": (REWARDS, np.ones((90, 40), int), "floating"),
    "rewards as objects": (REWARDS, np.array([[None]]), REWARDS),
    "rewards incomplete": (REWARDS, b"\x93NUMPY\x01\x00", REWARDS),
    "empty rewards": (REWARDS, b"", REWARDS),
    "empty distances": (DISTANCES, b"", DISTANCES),
    "distances of others": (DISTANCES, np.ones((3, 3)), "40 x 40"),
    "NaN distance": (DISTANCES, np.full((40, 40), np.nan), "finite"),
    "distances as list": (DISTANCES, [[0.0]], "contain a NumPy array"),
    "hostile distances": (DISTANCES, Runs(), "the name 'builtins.eval'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_file_is_named_in_one_line(files: Path, name: str) -> None:
    file, content, said = FAULTS[name]
    spoil(files / file, content)
    with pytest.raises(BadInputError) as caught:
        imported(files)
    message = str(caught.value)
    assert said in message and "\n" not in message and len(message) < 500


def test_a_name_that_is_no_folder_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not a valid name of a world"):
        import_original("../up", "steam", files, tmp_path)


def test_a_scratch_folder_that_cannot_be_written_is_named(files: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="distances cannot be put into .*gone"):
        import_original("old", "steam", files, tmp_path / "gone")
