"""Small files in the formats of the authors' environments, which the project does not have."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

TITLES = [f"Game {number}" for number in range(40)]
# Two ids with one title: the map from titles has the later id, as in the authors' map of Steam.
TITLES[17] = TITLES[9]
GENRES = ["Action", "Indie", "RPG", "Strategy"]


def write_original(folder: Path, dataset: str = "steam", *, protocol: int = 4, dtype: str = "f4") -> dict[str, Any]:
    """Write all files of a data set, and return their arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    n_users, n_items = 90, len(TITLES)
    maps = {
        "id2item_dict": {str(column): title for column, title in enumerate(TITLES)},
        "item2id_dict": {title: column for column, title in enumerate(TITLES)},
    }
    genres = {title: str(sorted(rng.choice(GENRES, size=2, replace=False).tolist())) for title in TITLES}
    genres |= {"Game 3": '["Children\'s Books"]', "Not in the catalogue": "['Action']"}
    del genres["Game 5"]
    (folder / "datamaps.json").write_text(json.dumps(maps))
    (folder / "list_genre.json").write_text(json.dumps(genres))
    made: dict[str, Any] = {}
    for table, users in (("train", range(3, 33)), ("test", range(40, 70))):
        rewards = rng.uniform(1.0, 5.0, (n_users, n_items)).astype(dtype)
        points = rng.normal(0.0, 40.0 if dataset == "steam" else 10.0, (n_items, 3))
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.save(folder / f"{dataset}_{table}.npy", rewards)
        with (folder / f"{table}_distance_mat.pickle").open("wb") as file:
            pickle.dump(distances, file, protocol=protocol)
        tasks = [
            {
                "userid_encoded": user,
                "pos_seq_name": [TITLES[column] for column in rng.integers(0, n_items, 15)],
                "question": "The user's viewing history is …",
            }
            for user in users
        ]
        (folder / f"{table}.json").write_text(json.dumps(tasks))
        made |= {f"{table}_rewards": rewards, f"{table}_distances": distances, f"{table}_tasks": tasks}
    return made
