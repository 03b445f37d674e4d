"""run.json of a study: its world, command, code and dates, kept through resumes, without credentials."""

import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import graph.study.run as study_run
from graph.report.run_record import RunRecord
from graph.study import run_study
from graph.study.run import RESULTS, STUDY_FILE
from graph.study.settings import StudySettings
from nodes.tools.open_world import load_world
from sim.world import World
from sim.world.storage import world_checksum
from tests.commands import billp
from tests.full_disk import disk_full
from tests.integration.study.run_files import PROVENANCE, contents
from tests.integration.study.test_study import Heard

pytestmark = pytest.mark.slow

SETTINGS = StudySettings(world="tiny", variants=("random",), train=2, test=2, cohort=2, max_steps=3)
STUDY = ("study", "--world", "tiny", "--variants", "random", "--train", "2", "--test", "2", "--max-steps", "3")
BEGIN = datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which each look takes an hour."""
    hours = iter(range(1_000))
    monkeypatch.setattr(study_run, "now", lambda: BEGIN + timedelta(hours=next(hours)))


def run(name: str, command: str | None = None, fresh: bool = False) -> Path:
    heard = Heard()
    return run_study(SETTINGS, name, concurrency=1, processes=1, progress=heard, command=command, fresh=fresh)


def record_of(folder: Path) -> RunRecord:
    return RunRecord.model_validate_json((folder / PROVENANCE).read_bytes())


def page_of(folder: Path) -> str:
    return " ".join((folder / "report.html").read_text(encoding="utf-8").split())


def test_a_run_says_what_it_was_made_of(home: Path, clock: None) -> None:
    folder = run("a")
    record, results = record_of(folder), json.loads((folder / RESULTS).read_bytes())
    world = load_world("tiny")
    assert (record.world.name, record.world.settings, record.world.facts) == ("tiny", world.settings, world.facts)
    assert (record.world.facts.source, record.world.facts.ratings) == ("tiny", 2700)
    assert (record.world.users, record.world.items) == (60, 120)
    assert record.world.checksum == results["world_checksum"] == world_checksum(home / "worlds" / "tiny")
    assert record.settings == results["settings"] == SETTINGS.model_dump(mode="json")
    assert (record.started, record.ended, record.resumed) == (BEGIN, BEGIN + timedelta(hours=1), 0)
    assert [one.command for one in record.environments] == [None]
    (environment,) = record.environments
    assert results["provenance"] == {
        **{"version": environment.version, "commit": environment.commit, "changed": environment.changed},
        **{"command": None, "started": BEGIN.isoformat(), "ended": record.ended.isoformat(), "resumed": 0},
        "world": {
            **{"name": "tiny", "checksum": record.world.checksum, "source": "tiny", "seed": 0, "cut": "random"},
            **{"users": 60, "items": 120, "ratings": 2700},
        },
    }
    assert [*results][-1] == "provenance"
    page = page_of(folder)
    head = page[: page.index("<nav")]
    assert (
        "<dd>tiny: 60 users, 120 items, 2,700 ratings; source tiny, seed 0, cut random, "
        f"checksum {record.world.checksum[:12]}</dd>"
    ) in head
    assert f"<dt>Version</dt><dd>{environment.version}" in head
    assert "<dd>started 2026-11-22, ended 2026-11-22 (UTC)</dd>" in head
    assert "<dd>none: a program started it</dd>" in head and "<dt>Model</dt><dd>rules</dd>" in head
    # The verdict comes first.
    assert 0 < head.index('<p id="verdict">') < head.index('<dl id="provenance"')


def test_the_start_and_all_environments_outlast_resumes(home: Path, clock: None) -> None:
    whole = run("whole")
    for command in ("one", "one", "two"):
        with disk_full("a"):
            run("a", command)
    folder = run("a", "one")
    record = record_of(folder)
    # The first look at the clock after the two of the whole run.
    assert record.started == BEGIN + timedelta(hours=2) and record.ended > record.started
    assert record.resumed == 3 and [one.command for one in record.environments] == ["one", "two"]
    assert not (folder / STUDY_FILE).exists()
    assert "(UTC), resumed 3 times</dd>" in page_of(folder)
    results = json.loads((folder / RESULTS).read_bytes())
    assert (results["provenance"]["resumed"], results["provenance"]["command"]) == (3, "two")
    assert contents(folder) == contents(whole)


def test_a_fresh_study_starts_at_its_own_time(home: Path, clock: None) -> None:
    with disk_full("a", RESULTS):
        run("a", "one")
    unfinished = home / "runs" / ".a.unfinished"
    former = record_of(unfinished)
    # A study that was stopped before its results leaves nothing of its provenance to the next one.
    with disk_full("a", PROVENANCE):
        run("a", "two", fresh=True)
    assert not (unfinished / PROVENANCE).exists()
    record = record_of(run("a", "three", fresh=True))
    assert record.started > former.ended and record.resumed == 0
    assert [one.command for one in record.environments] == ["three"]


def test_the_command_is_kept_without_credentials(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*STUDY, "--out", "s", "--set", "planner_prompt=see https://ann:pw@host/x")
    done = billp(home, *arguments)
    assert done.returncode == 0, done.stderr
    (command,) = [one.command for one in record_of(home / "runs" / "s").environments]
    assert command is not None
    assert shlex.split(command) == ["billp", *arguments[:-1], "planner_prompt=see https://…@host/x"]


def test_a_run_of_an_earlier_version_has_a_page_without_verdict_and_provenance(home: Path) -> None:
    folder = run("a")
    assert '<p id="verdict">' in page_of(folder) and '<dl id="provenance"' in page_of(folder)
    results = json.loads((folder / RESULTS).read_bytes())
    del results["verdict"], results["provenance"]
    (folder / RESULTS).write_text(json.dumps(results), encoding="utf-8")
    assert billp(home, "report", "a").returncode == 0
    page = page_of(folder)
    assert '<p id="verdict">' not in page and '<dl id="provenance"' not in page and "Results" in page


def test_a_world_of_an_earlier_version_has_an_unknown_source(home: Path) -> None:
    folder = home / "worlds" / "tiny"
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["facts"].pop("source") == "tiny"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert World.load(folder).facts.source is None
    finished = run("a")
    assert record_of(finished).world.facts.source is None and "source unknown" in page_of(finished)
