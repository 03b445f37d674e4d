"""Ablation: each part of the agent measured by the same agent without it, with no other change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from graph.ablation import PARTS, WHOLE, Part, named, setting_of, without_part
from graph.report.terminal import ablation_table, detail_table, name_of, results_table
from graph.study import run_study
from graph.study.run import agent_visits_left, visits_done, visits_planned
from graph.study.settings import StudySettings
from nodes.context import Context
from nodes.tools.open_world import load_world
from sim.metrics import paired, summarize
from sim.metrics.calibration import judge_risks
from tests.commands import billp
from tests.full_disk import disk_full
from tests.integration.study.run_files import contents
from tests.integration.study.test_study import Heard

pytestmark = pytest.mark.slow

SMALL = StudySettings(world="tiny", variants=("random",), ablate=True, train=6, test=4, cohort=3, max_steps=8)
Line = dict[str, Any]


def run(settings: StudySettings, name: str, processes: int = 2) -> Path:
    return run_study(settings, name, concurrency=4 if processes > 1 else 1, processes=processes, progress=Heard())


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def visits_of(folder: Path, part: Part | None, variant: str = WHOLE) -> list[Line]:
    lines = [json.loads(line) for line in (folder / "visits.jsonl").read_text(encoding="utf-8").splitlines()]
    return [one for one in lines if (one["variant"], one["without"]) == (variant, part)]


def dev(visits: list[Line]) -> list[Line]:
    return [one for one in visits if one["split"] == "dev"]


def text_of(table: Table | None) -> str:
    assert table is not None
    console = Console(width=80, record=True)
    console.print(table)
    return console.export_text()


@pytest.fixture(scope="module")
def ablated(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("ablated") / "home"
    shutil.copytree(built_home, base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BILLP_HOME", str(base))
        return run(SMALL, "a")


def test_each_part_has_a_row_a_memory_and_visits_of_its_own(ablated: Path) -> None:
    rows = results_of(ablated)["rows"]
    assert [name_of(row) for row in rows] == ["random", WHOLE, *(f"{WHOLE} without {part}" for part in PARTS)]
    folders = {f"{WHOLE}-0", *(f"{WHOLE}-no-{part}-0" for part in PARTS)}
    assert {folder.name for folder in (ablated / "memory").iterdir()} == folders
    for row in rows[1:]:
        own = visits_of(ablated, row["without"])
        assert [one["split"] for one in own] == ["train"] * 6 + ["dev"] * 4
        assert row.items() >= summarize(dev(own)).items()
        assert row["usage"]["calls"] == sum(one["usage"]["calls"] for one in own) > 0


def test_a_part_is_worth_what_the_whole_agent_collects_more_from_the_same_users(ablated: Path) -> None:
    full = dev(visits_of(ablated, None))
    for row in results_of(ablated)["rows"]:
        part = row["without"]
        assert row["minus_full"] == (paired(dev(visits_of(ablated, part)), full) if part else None)


@pytest.mark.parametrize("part", ["lessons", "shortlist", "outlook", "categories"])
def test_without_a_part_the_agent_is_trained_and_visited_as_by_its_setting(
    ablated: Path, home: Path, part: Part
) -> None:
    changes = {"ablate": False, "variants": (WHOLE,), "context": without_part(Context(), part)}
    alone = visits_of(run(SMALL.model_copy(update=changes), part), None)
    assert [one | {"without": part} for one in alone] == visits_of(ablated, part)
    # The part makes a difference, so the setting has reached the roles.
    assert [one["steps"] for one in alone] != [one["steps"] for one in visits_of(ablated, None)]


def test_what_is_switched_off_plays_no_part_in_any_visit(ablated: Path) -> None:
    def told(part: Part | None, what: Callable[[Line], object]) -> bool:
        return any(what(visit) for visit in visits_of(ablated, part))

    risks = {part: judge_risks(dev(visits_of(ablated, part))) for part in (None, *PARTS)}
    rows = {row["without"]: row for row in results_of(ablated)["rows"] if row["variant"] == WHOLE}
    for part, row in rows.items():
        assert row["reliability"] == risks[part]
        # Without an outlook or a shortlist, no risk is predicted.
        assert (row["reliability"] is None) == (part in ("outlook", "shortlist"))
        assert told(part, lambda visit: visit["lessons"]) == (part != "lessons")
        # A part that is not recalled is still written: parts are switched off one at a time.
        kinds = {record["value"]["kind"] for visit in visits_of(ablated, part) for record in visit["records"]}
        assert kinds == {"lessons", "experiences", "values"}


def test_the_tables_fit_a_terminal_and_say_what_each_part_is_worth(ablated: Path) -> None:
    results = results_of(ablated)
    for table in (results_table(results), detail_table(results)):
        text = text_of(table)
        assert "…" not in text and max(map(len, text.splitlines())) <= 80
        assert all(f"   no {part} " in text for part in PARTS)
    parts = ablation_table(results)
    assert parts is not None
    lines = text_of(parts).splitlines()
    for row in (one for one in results["rows"] if one["without"]):
        (line,) = [one for one in lines if one.strip().startswith(f"{row['without']} ")]
        worth = 0.0 - row["minus_full"]["difference"]
        assert setting_of(row["without"]).split()[0] in line and f"{row['total_reward']:.1f}" in line
        # Four users are too few for an interval.
        assert line.rstrip().endswith(f" {worth:+.1f}")
    assert "what they are worth does not add up" in " ".join(" ".join(lines).split())
    assert ablation_table(results | {"rows": results["rows"][:2]}) is None


def test_the_report_shows_what_each_part_is_worth(ablated: Path) -> None:
    page = (ablated / "report.html").read_text(encoding="utf-8")
    assert '<section id="worth">' in page and "What each part of the agent is worth. lessons" in page
    for row in results_of(ablated)["rows"][2:]:
        assert f'<th scope="row">{named(WHOLE, row["without"])}</th>' in page
        assert f"<td>{setting_of(row['without'])}</td>" in page


def test_it_ends_with_the_same_bytes_however_it_is_run_and_wherever_it_was_stopped(home: Path) -> None:
    changes = {"train": 2, "test": 1, "cohort": 1, "max_steps": 4, "memory": ("full", "shuffled")}
    settings = SMALL.model_copy(update=changes)
    with disk_full("cut"):
        run(settings, "cut", processes=1)
    world = load_world("tiny")
    planned = visits_planned(settings, world)
    assert visits_done("cut") + settings.test == planned
    of_agents = planned - settings.test
    assert agent_visits_left("cut", settings, world, fresh=True) == of_agents
    # Visits of a baseline are none of agents.
    baseline = home / "runs" / ".baseline.unfinished" / "cells" / "random-0" / "visits.jsonl"
    baseline.parent.mkdir(parents=True)
    baseline.write_text("{}\n")
    assert visits_done("baseline") == 1
    assert agent_visits_left("baseline", settings, world, fresh=False) == of_agents
    unfinished = home / "runs" / ".cut.unfinished"
    left = shutil.copytree(unfinished, home / "left")
    once = run(settings, "cut")
    whole = contents(once)
    left.rename(unfinished)
    # Cut during training, before the changed memory, and before the first visit.
    for part, kept in (("lessons", 1), ("values", 3), ("outlook", 0)):
        file = unfinished / "cells" / f"{WHOLE}-no-{part}-0" / "visits.jsonl"
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:kept]))
    cut = run(settings, "cut")
    assert contents(cut) == whole
    # Each row is compared with the whole agent with the same memory.
    rows = {name_of(row): row for row in results_of(cut)["rows"]}
    shuffled = {
        part: [one for one in visits_of(cut, part) if one["memory"] == "shuffled"] for part in (None, "lessons")
    }
    assert rows[f"{WHOLE} without lessons (shuffled)"]["minus_full"] == paired(shuffled["lessons"], shuffled[None])


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("lessons_k=0", "--ablate switches off lessons itself"),
        ("grounding=nearest", "--ablate switches off freshness itself"),
        ("share_memory=false", "--ablate cannot measure the worth of memories"),
    ],
)
def test_a_part_that_a_setting_has_switched_off_is_refused_in_one_line(home: Path, setting: str, why: str) -> None:
    done = billp(home, "study", "--world", "tiny", "--out", "x", "--ablate", "--set", setting)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"billp: --set {setting}") and why in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (home / "runs").exists()
