"""Study: the same bytes for every way to run it, no partial files, no learning from dev users."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from graph.report.schema import RULE_BASELINES
from graph.report.terminal import comparison_table, detail_table, effort_table, results_table
from graph.study import run_study
from graph.study.run import RESULTS, STUDY_FILE, visits_done
from graph.study.schedule import Batch, visitors
from graph.study.settings import Cell, StudySettings
from graph.study.visit_log import VisitLog, VisitResult
from graph.study.workers import CELLS
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.llm.endpoint.usage import Usage
from nodes.state import VisitOutput
from nodes.tools.open_world import load_world
from sim.atomic_files import RUN_LOCK, resumable_folder
from sim.errors import BadInputError
from sim.metrics import paired, summarize
from sim.metrics.calibration import judge_values
from sim.metrics.diversity import long_tail, variety
from sim.policies import POLICIES
from sim.policies.tuning import DIVERSE_GREEDY, tune
from sim.world import World
from sim.world.storage import world_checksum
from tests.full_disk import disk_full
from tests.integration.study.run_files import PROVENANCE, contents

VARIANTS = ("act_only", "reflexion", "billp", "random", "diverse_greedy", "oracle")
SMALL = StudySettings(world="tiny", variants=VARIANTS, train=6, test=5, cohort=3, max_steps=15)

FILES = {"results.json", "run.json", "visits.jsonl", "report.html"}


class Heard:
    def __init__(self) -> None:
        self.events: list[tuple[Cell, str, int, int]] = []

    def __call__(self, cell: Cell, batch: str, done: int, total: int) -> None:
        self.events.append((cell, batch, done, total))


def run(settings: StudySettings = SMALL, name: str = "a", concurrency: int = 4, processes: int = 2) -> Path:
    return run_study(settings, name, concurrency=concurrency, processes=processes, progress=Heard())


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    lines = (folder / "visits.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads((folder / "results.json").read_text(encoding="utf-8")), [json.loads(line) for line in lines]


@pytest.mark.slow
def test_results_are_the_same_bytes_at_any_concurrency_and_number_of_processes(home: Path) -> None:
    one = run(name="one", concurrency=1, processes=1)
    many = run(name="many", concurrency=16, processes=2)
    assert contents(one) == contents(many)
    again = run(name="one", concurrency=16)
    assert again == one
    assert contents(one) == contents(many)


@pytest.fixture(scope="module")
def studied(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import os
    import shutil

    base = tmp_path_factory.mktemp("studied") / "home"
    shutil.copytree(built_home, base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "BILLP_HOME", str(base))
        return run()


@pytest.mark.slow
def test_results_hold_what_the_design_names(studied: Path) -> None:
    results, visits = read(studied)
    told = {"world", "world_checksum", "model", "note", "settings", "rows", "verdict", "warnings", "provenance"}
    assert set(results) == told
    assert (results["world"], results["model"]) == ("tiny", "rules")
    assert results["world_checksum"] == world_checksum(studied.parents[1] / "worlds" / "tiny")
    assert "no LLM" in results["note"]
    assert [row["variant"] for row in results["rows"]] == list(VARIANTS)
    for row in results["rows"]:
        assert row["split"] == "dev" and row["visits"] == 5
        own = [one for one in visits if one["variant"] == row["variant"] and one["split"] == "dev"]
        assert row.items() >= {"variant": row["variant"], "split": "dev", **summarize(own)}.items()
        every = [one for one in visits if one["variant"] == row["variant"]]
        assert row["usage"]["calls"] == sum(one["usage"]["calls"] for one in every)
        assert (row["cost"], row["failed"]) == (0.0, 0)
        assert sum(row["leave_reasons"].values()) == 5
        assert row.items() >= variety(own, long_tail(load_world_of(studied))).items()
    text = (studied / "results.json").read_text() + (studied / "visits.jsonl").read_text()
    assert str(studied.parents[1]) not in text and "concurrency" not in text


def test_each_line_is_a_visit_with_its_variant_split_and_seed(studied: Path) -> None:
    _, visits = read(studied)
    for line in visits:
        VisitOutput.model_validate(line)
        assert line["variant"] in VARIANTS and line["split"] in ("train", "dev") and line["seed"] == 0
    trained = {
        line["variant"]: sum(one["variant"] == line["variant"] and one["split"] == "train" for one in visits)
        for line in visits
    }
    assert trained == {variant: 0 if variant in POLICIES else 6 for variant in VARIANTS}


@pytest.mark.slow
def test_each_visit_tells_which_lessons_it_recalled(studied: Path) -> None:
    _, visits = read(studied)
    written = {
        (line["variant"], one["value"]["text"])
        for line in visits
        for one in line["records"]
        if one["value"]["kind"] == "lessons"
    }
    recalled = {(line["variant"], one["text"]) for line in visits for one in line["lessons"]}
    assert recalled and recalled <= written
    for line in visits:
        early = line["split"] == "train" and line in [one for one in visits if one["variant"] == line["variant"]][:3]
        assert bool(line["lessons"]) == (line["variant"] in ("reflexion", "billp") and not early)


def test_visits_of_a_split_are_of_its_users_and_paired_across_variants(studied: Path) -> None:
    world = load_users(studied)
    _, visits = read(studied)
    for line in visits:
        assert world[line["user_id"]] == line["split"]
    dev = {
        variant: [one["user_id"] for one in visits if one["variant"] == variant and one["split"] == "dev"]
        for variant in VARIANTS
    }
    assert len({tuple(users) for users in dev.values()}) == 1


def load_world_of(folder: Path) -> World:
    return World.load(folder.parents[1] / "worlds" / "tiny")


def load_users(folder: Path) -> dict[str, str]:
    return {user.id: user.split for user in load_world_of(folder).users.values()}


def test_each_variant_is_held_against_billp_and_between_the_best_rule_and_the_oracle(studied: Path) -> None:
    results, visits = read(studied)
    rows = {row["variant"]: row for row in results["rows"]}
    own = {name: [one for one in visits if one["variant"] == name and one["split"] == "dev"] for name in rows}
    for name, row in rows.items():
        assert row["minus_billp"] == (None if name == "billp" else paired(own[name], own["billp"]))
    best = max(rows["random"]["total_reward"], rows["diverse_greedy"]["total_reward"])
    oracle = rows["oracle"]["total_reward"]
    for row in rows.values():
        assert row["gap_closed"] == pytest.approx((row["total_reward"] - best) / (oracle - best))
    assert set(RULE_BASELINES) | {"oracle"} == set(POLICIES)


def test_the_critic_is_measured_on_dev_visits_and_null_where_there_is_none(studied: Path) -> None:
    results, visits = read(studied)
    dev = [one for one in visits if one["variant"] == "billp" and one["split"] == "dev"]
    for row in results["rows"]:
        assert (row["critic"] is None) == (row["variant"] != "billp")
        if row["critic"]:
            assert row["critic"] == judge_values(dev, gamma=0.5, reward_offset=3.0)
            assert row["critic"]["steps"] == sum(one["length_with_exit"] for one in dev)


def test_the_visits_that_tuning_took_are_shown(studied: Path) -> None:
    results, _ = read(studied)
    found = tune(DIVERSE_GREEDY, load_world_of(studied), max_steps=SMALL.max_steps)
    for row in results["rows"]:
        if row["variant"] == "diverse_greedy":
            assert (row["tuning_visits"], row["parameters"]) == (found.visits, list(found.parameters))
        else:
            assert (row["tuning_visits"], row["parameters"]) == (0, None)


@pytest.mark.slow
def test_a_study_of_one_variant_has_nothing_to_compare_it_with(home: Path) -> None:
    results, _ = read(run(SMALL.model_copy(update={"variants": ("random",)})))
    (row,) = results["rows"]
    assert (row["minus_billp"], row["gap_closed"], row["critic"]) == (None, None, None)
    assert comparison_table(results) is None and "items" in shown(detail_table(results))


async def test_memory_holds_train_users_only_and_each_variant_its_own(studied: Path) -> None:
    split = load_users(studied)
    folders = {folder.name for folder in (studied / "memory").iterdir()}
    assert folders == {"act_only-0", "reflexion-0", "billp-0"}
    async with ChromaStore(studied / "memory" / "billp-0", embeddings=shared_embeddings()) as store:
        owners = {item.value["user_id"] for item in await store.asearch((), limit=10_000)}
        lessons = await store.asearch(("lessons",), limit=100)
    assert owners and {split[owner] for owner in owners} == {"train"}
    assert len(lessons) == 6


def test_memories_are_of_train_users_only(studied: Path) -> None:
    _, visits = read(studied)
    memories = [one["value"] for line in visits for one in line["records"]]
    assert memories
    split = load_users(studied)
    assert {split[one["user_id"]] for one in memories} == {"train"}


@pytest.mark.slow
def test_a_cohort_recalls_what_earlier_cohorts_learned_and_nothing_of_its_own(home: Path) -> None:
    def plans(settings: StudySettings) -> list[list[str]]:
        _, visits = read(run(settings))
        return [[step["plan"] for step in one["steps"]] for one in visits if one["split"] == "train"]

    taught = "at least"
    by_three = plans(SMALL.model_copy(update={"variants": ("reflexion",)}))
    assert not any(taught in plan for visit in by_three[:3] for plan in visit)
    assert all(taught in plan for visit in by_three[3:] for plan in visit)
    at_once = plans(SMALL.model_copy(update={"variants": ("reflexion",), "cohort": 6}))
    assert at_once[:3] == by_three[:3]
    assert not any(taught in plan for visit in at_once for plan in visit)


@pytest.mark.slow
def test_a_failed_study_leaves_the_former_run_and_is_gone_on_with(home: Path) -> None:
    former = run(SMALL.model_copy(update={"variants": ("random",)}))
    before = (former / "results.json").read_bytes()
    settings = SMALL.model_copy(update={"variants": ("reflexion", "random")})

    with disk_full("a"):
        run(settings)
    assert (former / "results.json").read_bytes() == before
    assert {one.name for one in former.parent.iterdir()} == {"a", ".a.unfinished"}
    assert visits_done("a") == 11

    context = settings.context.model_copy(update={"lessons_k": 3, "planner_prompt": "x" * 200})
    others = (
        r"'a' was started with other settings \(cohort: 3, now 2; context.planner_prompt; context.lessons_k: 2, now 3\)"
    )
    with pytest.raises(BadInputError, match=others):
        run(settings.model_copy(update={"cohort": 2, "context": context}))
    heard = Heard()
    run_study(settings, "a", concurrency=2, processes=1, progress=heard)
    assert [event for event in heard.events if event[0].variant == "reflexion"] == []
    whole = run(settings, name="b")
    assert contents(former) == contents(whole)
    assert {one.name for one in former.parent.iterdir()} == {"a", "b"}


@pytest.mark.slow
def test_an_unfinished_study_is_thrown_away_when_asked(home: Path) -> None:
    unfinished = home / "runs" / ".a.unfinished"
    (unfinished / "cells" / "random-0").mkdir(parents=True)
    (unfinished / "study.json").write_text("{}")
    (unfinished / "cells" / "random-0" / "visits.jsonl").write_text("{}\n")
    settings = SMALL.model_copy(update={"variants": ("random",)})
    folder = run_study(settings, "a", concurrency=1, processes=1, progress=Heard(), fresh=True)
    assert {one.name for one in folder.iterdir()} == FILES


def test_a_line_that_was_being_written_is_done_again(tmp_path: Path) -> None:
    file = tmp_path / "visits.jsonl"
    output = VisitOutput(
        user_id="1",
        steps=[],
        length=0,
        length_with_exit=0,
        total_reward=0,
        mean_reward=0,
        left=False,
        leave_reason=None,
        usage=Usage(),
        records=[],
    )
    batch = Batch("train", "train", ["1", "2"], 0, True, {})
    VisitLog(file).add(VisitResult(stage="train", number=0, output=output))
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:30])
    done = VisitLog(file)
    assert done.count("train") == 1 and done.missing(batch) == [1]
    done.add(VisitResult(stage="train", number=1, failed="no answer"))
    assert VisitLog(file).outputs(batch) == [output] and VisitLog(file).failures(batch) == {1: "no answer"}
    assert VisitLog(file).missing(batch) == VisitLog(file).missing(batch._replace(start=1, users=["2"])) == []
    file.write_bytes(whole[:30])
    assert VisitLog(file).count("train") == 0 and file.read_bytes() == b""


@pytest.mark.slow
def test_a_damaged_line_is_told_of_by_its_number_once_and_its_visit_is_made_again(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SMALL.model_copy(update={"variants": ("reflexion",)})
    whole = run(settings, name="whole")
    with disk_full("a"):
        run(settings)
    file = home / "runs" / ".a.unfinished" / "cells" / "reflexion-0" / "visits.jsonl"
    lines = file.read_bytes().splitlines()
    # A train visit of the first cohort, and a dev visit.
    for number in (1, 8):
        lines[number] = lines[number][:50] + b"\xff\x00" + lines[number][60:]
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    heard = Heard()
    run_study(settings, "a", concurrency=2, processes=1, progress=heard)
    assert [one.getMessage() for one in caplog.records if "damaged" in one.getMessage()] == [
        f"line {number} of {file} is damaged: its visit runs again" for number in (2, 9)
    ]
    assert {(batch, done) for _, batch, done, _ in heard.events} >= {("train", 5), ("train", 6), ("dev", 4), ("dev", 5)}
    for name in ("results.json", "visits.jsonl"):
        assert contents(home / "runs" / "a")[name] == contents(whole)[name]


def test_two_studies_of_one_name_do_not_run_at_once(home: Path) -> None:
    with (
        resumable_folder(home / "runs" / "a"),
        pytest.raises(BadInputError, match="in use by another process"),
    ):
        run(SMALL.model_copy(update={"variants": ("random",)}))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"variants": ("billp", "magic")}, "no variant 'magic'"),
        ({"variants": ("billp", "billp")}, "named twice"),
        ({"world": "mars"}, "no world 'mars'"),
        ({"test": 10_000}, "dev users: --test can be"),
    ],
)
def test_what_there_is_not_is_refused_before_any_work(home: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        run(SMALL.model_copy(update=changes))
    assert not (home / "runs").exists()


@pytest.mark.slow
def test_the_final_study_visits_test_users(home: Path) -> None:
    results, visits = read(run(SMALL.model_copy(update={"variants": ("random",), "final": True})))
    assert results["rows"][0]["split"] == "test"
    users = load_world("tiny").users
    assert {users[line["user_id"]].split for line in visits} == {"test"}


def test_users_come_in_an_order_drawn_by_seed_and_again_when_they_run_out(home: Path) -> None:
    world = load_world("tiny")
    users: Sequence[str] = world.split("train").users
    drawn = visitors(world, "train", len(users) + 3, 1)
    assert sorted(drawn[: len(users)]) == sorted(users) != drawn[: len(users)]
    assert len(drawn) == len(users) + 3
    assert drawn == visitors(world, "train", len(users) + 3, 1) != visitors(world, "train", len(users) + 3, 2)


def test_the_table_names_the_model_for_what_it_is(studied: Path) -> None:
    results, _ = read(studied)
    text = shown(results_table(results))
    assert "no LLM" in " ".join(text.split()) and "…" not in text
    assert all(variant in text for variant in VARIANTS)


def test_the_effort_of_each_variant_has_a_table(studied: Path) -> None:
    results, _ = read(studied)
    lines = [line.split() for line in shown(effort_table(results)).splitlines()]
    rows = {row["variant"]: row for row in results["rows"]}
    calls = [
        f"{rows['billp'][name]:.{digits}f}" for name, digits in (("prompt_tokens_per_step", 0), ("calls_per_step", 1))
    ]
    # Only a rule that was tuned has visits of tuning.
    tuning = str(rows["diverse_greedy"]["tuning_visits"])
    assert ["billp", *calls] in lines and ["diverse_greedy", tuning, "0", "0.0"] in lines


def shown(table: Table | None) -> str:
    assert table is not None
    console = Console(width=80, record=True)
    console.print(table)
    return console.export_text()


def test_the_comparison_fits_a_terminal_and_names_the_best_rule(studied: Path) -> None:
    results, _ = read(studied)
    text = shown(comparison_table(results))
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    rows = {row["variant"]: row for row in results["rows"]}
    rule = max(("random", "diverse_greedy"), key=lambda name: rows[name]["total_reward"])
    assert f"{rule}, the best rule" in " ".join(text.split())
    line = next(line for line in text.splitlines() if line.strip().startswith("act_only"))
    assert f"{rows['act_only']['minus_billp']['difference']:+.1f}" in line
    assert f"{rows['act_only']['gap_closed']:.0%}" in line


@pytest.mark.slow
def test_a_run_that_was_stopped_when_all_was_written_is_tidied_by_the_same_command(home: Path) -> None:
    settings = SMALL.model_copy(update={"variants": ("random",)})
    finished = run(settings, "whole")
    whole = contents(finished)
    with disk_full("stopped", RESULTS):
        run(settings, "stopped")
    # The rest of the run, as a kill right after the folder was moved leaves it: with the lock and the resume files.
    unfinished = home / "runs" / ".stopped.unfinished"
    shutil.copy(finished / RESULTS, unfinished)
    record = (unfinished / PROVENANCE).read_bytes()
    (unfinished / RUN_LOCK).touch()
    (unfinished / CELLS).mkdir(exist_ok=True)
    assert (unfinished / STUDY_FILE).is_file()
    unfinished.rename(home / "runs" / "stopped")
    stopped = run(settings, "stopped")
    assert {file.name for file in stopped.iterdir()} == FILES and contents(stopped) == whole
    # Nothing was resumed.
    assert (stopped / PROVENANCE).read_bytes() == record
