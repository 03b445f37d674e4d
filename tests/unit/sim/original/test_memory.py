"""Memories of the original: read as stored, without any added content."""

import json
from pathlib import Path
from typing import Any

import pytest

from graph.cli.memory.files import recorded_records
from memory.records import Experience, Value
from sim.catalogue import Catalogue, Item
from sim.errors import BadInputError
from sim.original.memory import Judged, Tried, read_memory, titles
from tests.shared_data import recorded

CATALOGUE = Catalogue(
    [
        Item("1", "Doom", ("Action",)),
        Item("2", "Papers, Please", ("Indie", "Adventure")),
        Item("3", "Papers", ()),
        Item("4", "Twin", ("Action",)),
        Item("5", "Twin", ("Racing",)),
    ]
)


def situation(*names: str) -> str:
    return f"The user viewing history is [{','.join(names)}]"


def written(folder: Path, content: Any) -> Path:
    file = folder / "memory.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content, indent=2), encoding="utf-8")
    return file


def test_the_content_tells_whose_memory_it_is(tmp_path: Path) -> None:
    actor = {situation("Doom", "[x]"): {"Twin": 1, "E": -1}, situation(): {}}
    assert read_memory(written(tmp_path, actor)) == [Tried("Doom,[x]", "Twin", 1), Tried("Doom,[x]", "E", -1)]
    critic = {situation("Doom"): "2", situation("E"): " -1.5\n", situation("4"): 5}
    assert read_memory(written(tmp_path, critic)) == [Judged("Doom", 2.0), Judged("E", -1.5), Judged("4", 5.0)]


def test_titles_with_commas_are_told_apart_by_the_catalogue() -> None:
    history = "Doom,Papers, Please,Papers,Something, else"
    assert titles(history, CATALOGUE) == ["Doom", "Papers, Please", "Papers", "Something", "else"]
    assert titles(history, None) == ["Doom", "Papers", "Please", "Papers", "Something", "else"]
    assert titles("", CATALOGUE) == []


def test_what_the_original_did_not_keep_stays_unknown(tmp_path: Path) -> None:
    file = written(tmp_path, {situation("Doom", "Twin"): {"Papers, Please": -1, "Twin": 1}})
    known, twin = recorded_records(file, "somebody", CATALOGUE)
    assert isinstance(known.value, Experience) and isinstance(twin.value, Experience)
    assert known.value.situation == "Doom (Action)\nTwin"
    assert known.value.model_dump(exclude={"situation", "visit"}) == {
        "kind": "experiences", "user_id": "somebody", "plan": "", "item_id": "2", "title": "Papers, Please",
        "genres": ["Indie", "Adventure"], "recent": [], "predicted": None, "distance": None, "reward": None,
        "advantage": -1.0, "left": None,
    }  # fmt: skip
    # Two items have that title, so the item is unknown too.
    assert (twin.value.item_id, twin.value.genres) == ("", [])
    (value,) = recorded_records(written(tmp_path, {situation("Doom"): "2"}), "somebody", None)
    assert isinstance(value.value, Value) and value.value.distance is None
    assert (value.value.situation, value.value.target) == ("Doom", 2.0)


def test_the_same_entry_is_the_same_record_wherever_it_stands(tmp_path: Path) -> None:
    first = recorded_records(written(tmp_path, {situation("a"): {"x": 1, "y": -1}}), "u", None)
    grown = {situation("b"): {"x": 1}, situation("a"): {"y": -1, "z": 1, "x": 1}}
    later = recorded_records(written(tmp_path, grown), "u", None)
    assert {one.key: one for one in first}.items() <= {one.key: one for one in later}.items()
    assert len({one.key for one in later}) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "Invalid JSON"),
        ("[]", "an object"),
        ({}, "0 entries"),
        ({"Doom": "2"}, "'Doom' is not a situation"),
        ({situation("a"): "good"}, "valid number.*history is"),
        ({situation("a"): "7.5"}, "less than or equal to 5"),
        ({situation("a"): float("nan")}, "finite|equal to"),
        ({situation("a"): {"x": 0}}, "-1 or 1"),
        ({situation("a"): {"x": 1}, situation("b"): "2"}, "an object"),
        ({situation("a"): {"": 1}}, "at least 1 character"),
        ({situation("a" * 30_000): "1"}, "at most 20000"),
        ({situation(*["a"] * 201): "1"}, "201 titles"),
        ('{"a":' * 400, "recursion limit"),
    ],
)
def test_what_is_no_such_memory_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        recorded_records(written(tmp_path, content), "u", CATALOGUE)


@pytest.mark.shared_data
def test_the_recorded_memories_of_steam_are_read_title_by_title(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in recorded("memory_rule_train.jsonl").read_text(encoding="utf-8").splitlines()]
    catalogue = Catalogue(
        Item(row["id"], row["title"], tuple(row["genres"]))
        for row in map(json.loads, recorded("catalogue.jsonl").read_text(encoding="utf-8").splitlines())
    )
    actor = {situation(*row["state"]): {row["action"]: row["memory"]} for row in rows}
    critic = {situation(*row["state"]): str(row["v"]) for row in rows}
    assert sum(any("," in title for title in row["state"]) for row in rows) == 25
    experiences = recorded_records(written(tmp_path, actor), "recorded", catalogue)
    values = recorded_records(written(tmp_path, critic), "recorded", catalogue)
    assert len(experiences) == len(values) == len(rows) == 363
    for row, experience, value in zip(rows, experiences, values, strict=True):
        assert isinstance(experience.value, Experience) and isinstance(value.value, Value)
        assert titles(",".join(row["state"]), catalogue) == row["state"]
        assert experience.value.situation.count("\n") == value.value.situation.count("\n") == len(row["state"]) - 1
        assert (experience.value.title, experience.value.advantage) == (row["action"], row["memory"])
        assert value.value.target == row["v"]
