"""Memory controls, learning curves and returning users: each adds its results and changes no others."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from graph.report.terminal import comparison_table, detail_table, name_of, results_table, returning_table
from graph.study import run_study
from graph.study.memory_controls import controlled
from graph.study.schedule import phases, visitors
from graph.study.settings import StudySettings
from memory.embeddings import shared_embeddings
from memory.records import Record
from memory.store import ChromaStore
from nodes.context import Context
from nodes.tools.open_world import load_world
from sim.errors import BadInputError
from sim.metrics import paired, summarize
from tests.full_disk import disk_full
from tests.integration.study.run_files import contents
from tests.integration.study.test_study import Heard, shown

pytestmark = pytest.mark.slow

PLAIN = StudySettings(
    world="tiny", variants=("act_only", "no_macro", "billp", "random"), train=4, test=2, cohort=2, max_steps=10
)
EVERYTHING = StudySettings(
    **PLAIN.model_dump(exclude={"memory", "curve", "curve_users", "visits_per_user", "recall"}),
    memory=("empty", "shuffled", "inverted"),
    curve=1,
    curve_users=2,
    visits_per_user=3,
    recall=("own", "shared", "both", "none"),
)
RECALLS = EVERYTHING.recall
Line = dict[str, Any]


def run(settings: StudySettings, name: str) -> Path:
    return run_study(settings, name, concurrency=4, processes=2, progress=Heard())


def lines(folder: Path, name: str = "visits.jsonl") -> list[Line]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def rows(folder: Path) -> dict[str, Line]:
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"]
    return {name_of(row): row for row in found}


@pytest.fixture(scope="module")
def studied(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A plain study, and a study with all options."""
    base = tmp_path_factory.mktemp("protocol") / "home"
    shutil.copytree(built_home, base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BILLP_HOME", str(base))
        return run(PLAIN, "plain"), run(EVERYTHING, "everything")


def stored(folder: Path) -> list[tuple[str, Line]]:
    with ChromaStore(folder, embeddings=shared_embeddings()) as store:
        return sorted(((item.key, item.value) for item in store.search((), limit=10_000)), key=lambda one: one[0])


def test_what_is_asked_for_besides_changes_nothing_else(studied: tuple[Path, Path]) -> None:
    plain, everything = studied
    assert {one.name for one in plain.iterdir()} == {
        "results.json",
        "run.json",
        "visits.jsonl",
        "report.html",
        "memory",
    }
    assert lines(plain) == [one for one in lines(everything) if one["memory"] == "full"]
    for name, row in rows(plain).items():
        assert row["memory"] == "full" and not {"curve", "returning"} & set(row)
        same = {field: rows(everything)[name][field] for field in row}
        # Usage counts all visits.
        assert {**same, "usage": 0} == {**row, "usage": 0}
    for cell in ("act_only-0", "billp-0", "no_macro-0"):
        assert stored(plain / "memory" / cell) == stored(everything / "memory" / cell)


def test_each_variant_with_a_memory_has_a_row_a_control_and_the_others_one(studied: tuple[Path, Path]) -> None:
    controls = ["", " (empty)", " (shuffled)", " (inverted)"]
    expected = ["act_only", *(f"{name}{how}" for name in ("no_macro", "billp") for how in controls), "random"]
    assert list(rows(studied[1])) == expected
    tested = [one for one in lines(studied[1]) if one["variant"] == "billp" and one["split"] == "dev"]
    full = [one for one in tested if one["memory"] == "full"]
    for how in EVERYTHING.memory[1:]:
        own, row = [one for one in tested if one["memory"] == how], rows(studied[1])[f"billp ({how})"]
        assert [one["user_id"] for one in own] == [one["user_id"] for one in full]
        assert row.items() >= summarize(own).items() and row["minus_billp"] == paired(own, full)
    results = json.loads((studied[1] / "results.json").read_text(encoding="utf-8"))
    # Listed under the name of their variant, so that the tables stay narrow.
    labels = ["act_only", *(["no_macro", *EVERYTHING.memory[1:], "billp", *EVERYTHING.memory[1:]]), "random"]
    for table in (results_table(results), comparison_table(results), detail_table(results)):
        found = [line.split()[0] for line in shown(table).splitlines() if line.strip()]
        assert [one for one in found if one in labels] == labels


def test_each_control_visits_with_the_train_memories_changed_in_its_way(studied: tuple[Path, Path]) -> None:
    taught = [
        Record.model_validate(record)
        for one in lines(studied[1])
        if one["variant"] == "billp"
        for record in one["records"]
    ]
    for how in EVERYTHING.memory:
        folder = studied[1] / "memory" / ("billp-0" if how == "full" else f"billp-0-{how}")
        expected = [(one.key, one.value.model_dump()) for one in controlled(taught, how, 0)]
        assert stored(folder) == expected and bool(expected) == (how != "empty")

    def plans(how: str) -> str:
        own = [one for one in lines(studied[1]) if (one["variant"], one["split"]) == ("billp", "dev")]
        return " ".join(step["plan"] for one in own if one["memory"] == how for step in one["steps"])

    assert "at least" in plans("full") and "at least" in plans("shuffled")
    assert "at most" in plans("inverted") and "at least" not in plans("inverted")
    assert "distance" in plans("full") and "distance" not in plans("empty")


def test_a_learning_curve_is_of_the_same_dev_users_after_so_many_visits(studied: tuple[Path, Path]) -> None:
    points = lines(studied[1], "curves.jsonl")
    users = visitors(load_world("tiny"), "dev", 2, 0)
    curves = {name: row.get("curve") for name, row in rows(studied[1]).items()}
    assert {name for name, curve in curves.items() if curve} == {"no_macro", "billp"}
    for name, curve in curves.items():
        for number, point in enumerate(curve or []):
            own = [one for one in points if one["variant"] == name and one["train_visits"] == 2 * number]
            assert [one["user_id"] for one in own] == users and not any(one["records"] for one in own)
            total = summarize(own)
            assert point == {
                "cohorts": number,
                "train_visits": 2 * number,
                "total_reward": total["total_reward"],
                "total_reward_ci": total["total_reward_ci"],
            }
    billp = [one for one in points if one["variant"] == "billp"]
    assert len(billp) == 6
    # The last point has the memory of the dev visits, which start with the same users; the first point has no memory.
    dev = {
        how: [
            one for one in lines(studied[1]) if (one["variant"], one["split"], one["memory"]) == ("billp", "dev", how)
        ]
        for how in ("full", "empty")
    }
    for how, own in (("empty", billp[:2]), ("full", billp[4:])):
        assert [one["steps"] for one in own] == [one["steps"] for one in dev[how]]


def test_returning_users_are_served_with_own_records_those_of_others_both_or_none(studied: tuple[Path, Path]) -> None:
    visits = [one for one in lines(studied[1], "returning.jsonl") if one["variant"] == "billp"]
    told = rows(studied[1])["billp"]["returning"]
    assert [(one["recall"], one["visit"]) for one in told] == [
        (recall, visit) for recall in RECALLS for visit in (1, 2, 3)
    ]
    for one in told:
        own = [line for line in visits if (line["recall"], line["visit"]) == (one["recall"], one["visit"])]
        assert len(own) == 2 and summarize(own)["total_reward"] == one["total_reward"]
    steps = {
        (recall, visit): [line["steps"] for line in visits if (line["recall"], line["visit"]) == (recall, visit)]
        for recall in RECALLS
        for visit in (1, 2, 3)
    }
    plain = [one for one in lines(studied[1]) if (one["variant"], one["split"]) == ("billp", "dev")]
    first = [one["steps"] for one in plain if one["memory"] == "full"]
    assert all(steps[recall, 1] == first for recall in RECALLS)
    assert steps["none", 1] == steps["none", 2] == steps["none", 3]
    second = [steps[recall, 2] for recall in RECALLS]
    assert all(one != other for number, one in enumerate(second) for other in second[:number])
    assert "returning" not in rows(studied[1])["act_only"]


def test_nothing_is_tried_out_on_users_who_come_back(home: Path) -> None:
    settings = StudySettings(
        world="tiny",
        variants=("billp_outlook",),
        train=4,
        test=2,
        cohort=2,
        max_steps=6,
        visits_per_user=2,
        recall=("shared",),
        context=Context(explore=1.0),
    )
    folder = run(settings, "back")
    plain = [one["steps"] for one in lines(folder) if one["split"] == "dev"]
    back = [one["steps"] for one in lines(folder, "returning.jsonl") if one["visit"] == 1]
    assert plain == back and any(step["risk"] for steps in plain for step in steps)


def test_the_table_of_returning_users_has_a_line_for_each_way_of_recalling(studied: tuple[Path, Path]) -> None:
    plain, everything = (json.loads((one / "results.json").read_text(encoding="utf-8")) for one in studied)
    assert returning_table(plain) is None
    table = returning_table(everything)
    assert table is not None
    found = [line.split() for line in shown(table).splitlines()]
    told = rows(studied[1])["billp"]["returning"]
    for recall in RECALLS:
        assert ["billp", recall, *(f"{one['total_reward']:.1f}" for one in told if one["recall"] == recall)] in found


def test_what_returning_users_recall_is_theirs_alone_or_of_all(studied: tuple[Path, Path]) -> None:
    memory = studied[1] / "memory"
    train = stored(memory / "billp-0")
    assert stored(memory / "billp-0-returning-none") == train
    visits = [one for one in lines(studied[1], "returning.jsonl") if one["variant"] == "billp"]
    for recall in ("own", "shared", "both"):
        kept = {key for key, _ in stored(memory / f"billp-0-returning-{recall}")} - {key for key, _ in train}
        written = [record["key"] for one in visits if one["recall"] == recall for record in one["records"]]
        assert len(written) == len(set(written)) and kept == set(written)


def test_a_study_stopped_amid_any_of_it_ends_with_the_same_bytes(home: Path) -> None:
    changes = {"variants": ("billp",), "memory": ("full", "shuffled"), "visits_per_user": 2, "recall": ("shared",)}
    settings = EVERYTHING.model_copy(update=changes)
    whole = run(settings, "whole")
    with disk_full("cut"):
        run(settings, "cut")
    unfinished = home / "runs" / ".cut.unfinished"
    left = unfinished.rename(home / "left")
    # Cut within the curve, and before the last visits of returning users.
    for kept in (5, -1):
        shutil.copytree(left, unfinished)
        file = unfinished / "cells" / "billp-0" / "visits.jsonl"
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:kept]))
        cut = run(settings, "cut")
        assert contents(cut) == contents(whole)
    for folder in (whole / "memory").iterdir():
        assert stored(cut / "memory" / folder.name) == stored(folder)


def test_curves_are_of_dev_users_when_test_users_are_visited(home: Path) -> None:
    world = load_world("tiny")
    final = EVERYTHING.model_copy(update={"final": True})
    batches = [batch for phase in phases(world, final, 0, remembers=True) for batch in phase.batches]
    assert {batch.split for batch in batches if batch.name.startswith("curve")} == {"dev"}
    assert {batch.split for batch in batches if not batch.name.startswith("curve")} == {"train", "test"}


@pytest.mark.parametrize(("every", "after"), [(1, [0, 3, 6, 7]), (2, [0, 6]), (3, [0, 7]), (4, [0])])
def test_a_curve_has_a_point_before_the_first_cohort_and_after_every_so_many(
    home: Path, every: int, after: Sequence[int]
) -> None:
    settings = EVERYTHING.model_copy(update={"curve": every, "cohort": 3, "train": 7})
    batches = next(phases(load_world("tiny"), settings, 0, remembers=True)).batches
    assert [batch.about["train_visits"] for batch in batches if "train_visits" in batch.about] == after


def test_full_memory_is_always_among_the_controls_and_nothing_is_done_twice() -> None:
    settings = StudySettings(
        world="tiny", variants=("billp",), memory=("empty", "full", "empty"), recall=("own", "none", "own")
    )
    assert (settings.memory, settings.recall) == (("full", "empty"), ("own", "none"))
    for wrong in ({"recall": ()}, {"memory": ("half",)}, {"recall": ("theirs",)}, {"visits_per_user": 100_000}):
        with pytest.raises(ValidationError):
            StudySettings.model_validate({"world": "tiny", "variants": ("billp",)} | wrong)


def test_more_users_for_a_curve_than_there_are_are_refused(home: Path) -> None:
    with pytest.raises(BadInputError, match="dev users: --curve-users can be \\d+ at most"):
        run(EVERYTHING.model_copy(update={"curve_users": 999}), "x")
