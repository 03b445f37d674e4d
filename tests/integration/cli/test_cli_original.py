"""Commands for the authors' files and for recorded runs, run in this process."""

import json
import pickle
from pathlib import Path

import numpy as np

from tests.commands import billp, refused
from tests.original_files import write_original


def test_the_authors_files_become_a_world_in_which_visits_run(home: Path, tmp_path: Path) -> None:
    made = write_original(tmp_path / "authors", "amazon")
    run = billp(home, "world", "import-original", "books", "--dataset", "amazon", "--dir", str(tmp_path / "authors"))
    assert run.returncode == 0, run.stderr
    assert "users     30 train, 10 dev, 20 test" in run.stdout and "tau       train 15.000, test 15.000" in run.stdout
    assert sorted(path.name for path in (home / "worlds").iterdir()) == ["books", "tiny"]
    shown = billp(home, "world", "show", "books", "--json")
    assert json.loads(shown.stdout)["items"] == 40
    for user, table in (("3", "train"), ("40", "test"), ("", "test")):
        visit = billp(home, "episode", "--world", "books", "--user", user, "--max-steps", "6", "--json")
        assert visit.returncode == 0, visit.stderr
        output = json.loads(visit.stdout)
        rewards = made[f"{table}_rewards"][int(output["user_id"])]
        assert output["steps"]
        for step in output["steps"]:
            assert step["reward"] == float(rewards[int(step["item_id"])])
    newcomer = billp(home, "episode", "--world", "books", "--user", "someone", "--history", "Game 1")
    assert "its own users only" in refused(newcomer)


def test_a_hostile_pickle_is_refused_and_nothing_is_left(home: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return np.save, (str(tmp_path / "ran"), [1.0])

    write_original(tmp_path / "authors")
    (tmp_path / "authors" / "test_distance_mat.pickle").write_bytes(pickle.dumps(Runs()))
    run = billp(home, "world", "import-original", "old", "--dataset", "steam", "--dir", str(tmp_path / "authors"))
    assert "test_distance_mat.pickle does not contain a NumPy array of numbers" in refused(run)
    assert not list(tmp_path.glob("ran*"))
    assert [path.name for path in (home / "worlds").iterdir()] == ["tiny"]


def test_a_folder_without_the_files_is_refused(home: Path, tmp_path: Path) -> None:
    run = billp(home, "world", "import-original", "old", "--dataset", "steam", "--dir", str(tmp_path / "nowhere"))
    assert "steam_train.npy" in refused(run)
    assert refused(billp(home, "world", "import-original", "old", "--dataset", "movie", "--dir", str(tmp_path)))
    assert refused(billp(home, "world", "import-original", "../up", "--dataset", "steam", "--dir", str(tmp_path)))


def test_recorded_runs_are_checked_with_an_exit_code(home: Path, tmp_path: Path) -> None:
    row = {"run": "r", "user_id": 1, "t": 0, "action": "a", "v": 0.0, "v_next": 1.0, "memory": 1}
    good, bad, odd = (tmp_path / name for name in ("good", "bad", "odd"))
    good.write_text(json.dumps(row))
    bad.write_text(json.dumps(row | {"memory": -1}))
    odd.write_bytes(b"\xff\n")
    run = billp(home, "world", "check-recorded", str(good))
    assert run.returncode == 0 and "everything agrees" in run.stdout
    run = billp(home, "world", "check-recorded", str(good), str(bad))
    assert run.returncode == 1 and "user 1, round 0" in run.stdout and run.stderr == ""
    run = billp(home, "world", "check-recorded", str(bad), "--json")
    found = json.loads(run.stdout)
    assert run.returncode == 1 and not found["agrees"] and len(found["checks"][-1]["contradictions"]) == 1
    assert "is not UTF-8" in refused(billp(home, "world", "check-recorded", str(odd)))
    assert "nowhere" in refused(billp(home, "world", "check-recorded", str(tmp_path / "nowhere")))
    assert refused(billp(home, "world", "check-recorded"))
