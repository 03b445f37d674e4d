"""Memory that grows during test visits: cohort by cohort, and only if `learn_at_test` is set."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from graph.report.terminal import results_table
from graph.study import run_study
from graph.study.memory_controls import controlled
from graph.study.schedule import phases
from graph.study.settings import StudySettings
from memory.embeddings import shared_embeddings
from memory.records import Record
from memory.store import ChromaStore
from nodes.context import Context
from nodes.tools.open_world import load_world
from tests.full_disk import disk_full
from tests.integration.study.run_files import contents
from tests.integration.study.test_study import Heard, shown

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.slow]
FROZEN = StudySettings(world="tiny", variants=("billp", "act_only"), train=0, test=7, cohort=3, max_steps=8)
GROWING = FROZEN.model_copy(update={"learn_at_test": True})
Line = dict[str, Any]


def run(settings: StudySettings, name: str, concurrency: int = 4, processes: int = 2) -> Path:
    return run_study(settings, name, concurrency=concurrency, processes=processes, progress=Heard())


def lines(folder: Path, variant: str = "billp", memory: str = "full") -> list[Line]:
    found = map(json.loads, (folder / "visits.jsonl").read_text(encoding="utf-8").splitlines())
    return [one for one in found if (one["variant"], one["split"], one["memory"]) == (variant, "dev", memory)]


def taught(visits: list[Line]) -> set[str]:
    return {one["value"]["text"] for line in visits for one in line["records"] if one["value"]["kind"] == "lessons"}


def recalled(visits: list[Line]) -> set[str]:
    return {one["text"] for line in visits for one in line["lessons"]}


def stored(folder: Path) -> set[str]:
    with ChromaStore(folder, embeddings=shared_embeddings()) as store:
        return {item.key for item in store.search((), limit=10_000)}


def test_each_cohort_of_test_visits_recalls_what_those_before_it_taught() -> None:
    folder = run(GROWING, "growing")
    visits = lines(folder)
    first, second, third = visits[:3], visits[3:6], visits[6:]
    assert recalled(first) == set()
    assert all(line["lessons"] for line in [*second, *third])
    assert recalled(second) <= taught(first) and recalled(third) <= taught(first + second)
    written = [one["key"] for line in visits for one in line["records"]]
    assert len(written) == len(set(written)) and stored(folder / "memory" / "billp-0") == set(written)
    # Variants without memory make the same visits in both studies.
    frozen = run(FROZEN, "frozen")
    assert lines(folder, "act_only") == lines(frozen, "act_only")
    assert [one["user_id"] for one in lines(frozen)] == [one["user_id"] for one in visits]
    assert [one["steps"] for one in lines(frozen)[:3]] == [one["steps"] for one in first]


def test_a_control_changes_what_test_visits_teach_too() -> None:
    # Without train visits, all that a changed memory holds was learned at test.
    folder = run(GROWING.model_copy(update={"memory": ("full", "shuffled", "inverted", "empty")}), "changed")
    for control in ("shuffled", "inverted"):
        visits = lines(folder, memory=control)
        with ChromaStore(folder / "memory" / f"billp-0-{control}", embeddings=shared_embeddings()) as store:
            kept = {item.key: item.value for item in store.search((), limit=10_000)}
        for start in range(0, len(visits), GROWING.cohort):
            cohort = visits[start : start + GROWING.cohort]
            records = [Record.model_validate(one) for line in cohort for one in line["records"]]
            changed = {one.key: one.value.model_dump(mode="json") for one in controlled(records, control, 0)}
            assert changed != {one.key: one.value.model_dump(mode="json") for one in records}
            assert all(kept[key] == kept[key] | value for key, value in changed.items())
    assert not any(line["lessons"] for line in lines(folder, memory="empty"))
    assert stored(folder / "memory" / "billp-0-empty") == set()


def test_without_being_asked_nothing_is_learned_at_test() -> None:
    assert not StudySettings(world="tiny", variants=("billp",)).learn_at_test
    batches = [batch for phase in phases(load_world("tiny"), FROZEN, 0, remembers=True) for batch in phase.batches]
    assert [(batch.split, batch.learns) for batch in batches] == [("dev", False)]
    folder = run(FROZEN, "frozen")
    assert not any(line["records"] or line["lessons"] for line in lines(folder))
    assert stored(folder / "memory" / "billp-0") == set()


def test_the_bytes_are_the_same_at_any_concurrency_and_after_a_stop(home: Path) -> None:
    settings = GROWING.model_copy(update={"train": 3, "memory": ("full", "inverted")})
    whole = run(settings, "whole", concurrency=1, processes=1)
    with disk_full("cut"):
        run(settings, "cut", concurrency=16)
    unfinished = home / "runs" / ".cut.unfinished"
    left = unfinished.rename(home / "left")
    # Cut within the second cohort of test visits, and within the second cohort with the inverted memory.
    for kept in (3 + 4, 3 + 7 + 5):
        shutil.copytree(left, unfinished)
        file = unfinished / "cells" / "billp-0" / "visits.jsonl"
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:kept]))
        cut = run(settings, "cut")
        assert contents(cut) == contents(whole)
        for folder in (whole / "memory").iterdir():
            assert stored(cut / "memory" / folder.name) == stored(folder)
    # A changed memory grows in the same way, starting from the changed train records.
    inverted = lines(whole, memory="inverted")
    written = {one["key"] for line in inverted for one in line["records"]}
    assert written and written < stored(whole / "memory" / "billp-0-inverted")


def test_nothing_is_tried_out_on_test_users_while_memory_grows() -> None:
    changes = {"variants": ("billp_outlook",), "train": 6, "test": 6, "context": Context(explore=1.0)}
    growing, frozen = (
        lines(run(one.model_copy(update=changes), name), "billp_outlook")
        for one, name in ((GROWING, "growing"), (FROZEN, "frozen"))
    )
    # The first cohort has the same memory in both studies, so it would differ only by exploration.
    assert [one["steps"] for one in growing[:3]] == [one["steps"] for one in frozen[:3]]
    assert any(step["risk"] for one in growing[:3] for step in one["steps"])


def test_tables_and_report_say_that_memory_grew() -> None:
    said = "Memory kept growing during these visits."
    for settings, name in ((GROWING, "growing"), (FROZEN, "frozen")):
        folder = run(settings.model_copy(update={"test": 2}), name)
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        table = " ".join(shown(results_table(results)).split())
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert (said in table) == (said in page) == settings.learn_at_test
