"""Command `billp compare`: studies of three cuts beside each other, and one line for runs that cannot be compared."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from tests.commands import billp, refused

pytestmark = pytest.mark.slow

STUDY = ("--train", "2", "--test", "4", "--cohort", "2", "--max-steps", "6", "--processes", "1")
RUNS = ("run-0", "run-1", "run-2")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home with the same study of three cuts, and one of the first cut with other settings."""
    home = tmp_path_factory.mktemp("compared") / "home"
    for number, run in enumerate(RUNS):
        world = ("world", "build", f"cut{number}", "--from", "tiny", "--seed", str(number))
        study = ("study", "--world", f"cut{number}", "--variants", "act_only,random,oracle", *STUDY, "--out", run)
        for command in (world, study):
            done = billp(home, *command)
            assert done.returncode == 0, done.stderr
    other = ("study", "--world", "cut0", "--variants", "random,oracle", *STUDY, "--max-steps", "5", "--out", "shorter")
    assert billp(home, *other).returncode == 0
    return home


@pytest.fixture
def home(studied: Path, tmp_path: Path) -> Path:
    """Home with the runs, for one test to change."""
    shutil.copytree(studied / "runs", tmp_path / "home" / "runs")
    return tmp_path / "home"


def totals(home: Path, variant: str) -> list[float]:
    def total(run: str) -> float:
        results: dict[str, Any] = json.loads((home / "runs" / run / "results.json").read_bytes())
        return next(float(row["total_reward"]) for row in results["rows"] if row["variant"] == variant)

    return [total(run) for run in RUNS]


def test_cuts_are_compared_by_the_mean_and_interval_over_runs(home: Path) -> None:
    done = billp(home, "compare", *RUNS, "--minus", "random")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    found = totals(home, "act_only")
    low, high = t.interval(0.95, 2, loc=np.mean(found), scale=np.std(found, ddof=1) / 3**0.5)
    assert [
        "act_only",
        f"{np.mean(found):.1f}",
        f"({low:.0f}",
        "to",
        f"{high:.0f})",
        *map("{:.1f}".format, found),
    ] in lines
    differences = [a - b for a, b in zip(found, totals(home, "random"), strict=True)]
    (line,) = [one for one in lines if one[:1] == ["act_only"] and one[-3:] == [*map("{:+.1f}".format, differences)]]
    assert line[1] == f"{np.mean(differences):+.1f}"
    text = " ".join(done.stdout.split())
    assert "Runs: 1 run-0 (world cut0), 2 run-1 (world cut1), 3 run-2 (world cut2)." in text
    assert "Student's t (95%) over 3 runs." in text and "It is no LLM" in text
    markdown = billp(home, "compare", *RUNS, "--markdown").stdout
    assert "| run | `act_only` | `random` | `oracle` |\n| --- | --- | --- | --- |\n| `run-0` | " in markdown
    rows = json.loads(billp(home, "compare", *RUNS, "--json").stdout)["rows"]
    assert rows[0]["total_reward"]["ci"] == pytest.approx([low, high])


def test_runs_that_cannot_be_compared_are_refused_in_a_line(home: Path) -> None:
    assert "name at least two runs" in refused(billp(home, "compare", "run-0"))
    assert "'run-0' and 'shorter' are of one world, 'cut0'" in refused(billp(home, "compare", "run-0", "shorter"))
    line = refused(billp(home, "compare", "run-1", "shorter"))
    assert "'run-1' and 'shorter' have different settings (max_steps: 6 and 5): " in line and "--mixed" in line
    mixed = billp(home, "compare", "run-1", "shorter", "--mixed")
    text = " ".join(mixed.stdout.split())
    assert mixed.returncode == 0 and "Mixed: the runs 'run-1' and 'shorter' have different settings" in text
    assert "Left out, since not all runs have them: act_only." in text and "No interval: it needs" in text
    assert "choose one of act_only, random, oracle" in refused(billp(home, "compare", *RUNS, "--minus", "billp"))
    assert "there is no run 'other': choose one of run-0, run-1" in refused(billp(home, "compare", "run-0", "other"))


def test_unfinished_damaged_and_former_runs_are_named(home: Path) -> None:
    file = home / "runs" / "run-1" / "results.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"world_checksum"', '"checksum"'), encoding="utf-8")
    assert "run-1/results.json is from another version (it lacks the checksum of the world)" in refused(
        billp(home, "compare", "run-0", "run-1")
    )
    file.write_text(text[:100], encoding="utf-8")
    assert "run-1/results.json is damaged" in refused(billp(home, "compare", "run-0", "run-1"))
    file.unlink()
    file.parent.rename(home / "runs" / ".run-1.unfinished")
    assert "the run 'run-1' is unfinished" in refused(billp(home, "compare", "run-0", "run-1"))
