"""Study with reinforcement learning baselines: the same bytes on repetition, and saved policies."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from graph.report.terminal import effort_table
from graph.study import run_study
from graph.study.settings import Cell, StudySettings
from sim.policies.rollout import play
from sim.rl.network import NetworkPolicy, read_training
from sim.rl.training import RECIPES
from sim.world import World
from tests import processes
from tests.commands import ROOT, environment_of, refused
from tests.full_disk import disk_full
from tests.integration.study.run_files import contents

pytestmark = pytest.mark.slow

SMALL = StudySettings(
    world="tiny", variants=("dqn", "random", "a2c", "maskable_ppo"), seeds=2, test=5, max_steps=15, rl_steps=300
)


class Heard:
    def __init__(self) -> None:
        self.events: list[tuple[Cell, str, int, int]] = []

    def __call__(self, cell: Cell, batch: str, done: int, total: int) -> None:
        self.events.append((cell, batch, done, total))


def run(settings: StudySettings, name: str, processes: int = 2) -> tuple[Path, Heard]:
    heard = Heard()
    return run_study(settings, name, concurrency=2, processes=processes, progress=heard), heard


def policies(folder: Path) -> dict[str, bytes]:
    policies = folder / "policies"
    return {str(file.relative_to(policies)): file.read_bytes() for file in policies.rglob("*") if file.is_file()}


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {row["variant"]: row for row in results["rows"]}


def test_a_study_gives_the_same_bytes_again_policies_included(home: Path) -> None:
    pytest.importorskip("sb3_contrib", reason="the extra `rl` is not installed")
    one, heard = run(SMALL, "one")
    two, _ = run(SMALL, "two", processes=1)
    assert contents(one) == contents(two) and policies(one) == policies(two)
    cells = [f"{variant}-{seed}" for variant in RECIPES for seed in range(2)]
    assert {folder.name for folder in (one / "policies").iterdir()} == {*cells}
    for variant, row in rows(one).items():
        if variant not in RECIPES:
            assert row["training_steps"] == row["training_visits"] == 0
            continue
        trained = [read_training(one / "policies" / f"{variant}-{seed}") for seed in range(2)]
        assert [of.seed for of in trained] == [0, 1]
        assert row["training_steps"] == sum(of.training_steps for of in trained) >= 600
        assert row["training_visits"] == sum(of.training_visits for of in trained) > 0
        assert (row["visits"], row["usage"]["calls"], row["failed"]) == (10, 0, 0)
        steps = [done for cell, batch, done, total in heard.events if cell == Cell(variant, 0) and batch == "train"]
        assert steps and steps == sorted(steps) and steps[-1] <= 300
    assert_visits_are_of_the_saved_policies(home, one)
    console = Console(width=80, record=True)
    console.print(effort_table(json.loads((one / "results.json").read_text(encoding="utf-8"))))
    lines = [line.split() for line in console.export_text().splitlines()]
    a2c = rows(one)["a2c"]
    assert ["a2c", str(a2c["training_steps"]), str(a2c["training_visits"]), "0", "0.0"] in lines


def assert_visits_are_of_the_saved_policies(home: Path, folder: Path) -> None:
    world = World.load(home / "worlds" / "tiny")
    lines = [json.loads(line) for line in (folder / "visits.jsonl").read_text(encoding="utf-8").splitlines()]
    users = {variant: [one["user_id"] for one in lines if one["variant"] == variant] for variant in SMALL.variants}
    assert len({tuple(of) for of in users.values()}) == 1
    for line in lines:
        if line["variant"] in RECIPES:
            policy = NetworkPolicy.load(folder / "policies" / f"{line['variant']}-{line['seed']}")
            visit = play(policy, world, "dev", line["user_id"], max_steps=15)
            assert [one["item_id"] for one in line["steps"]] == [one["item_id"] for one in visit["steps"]]


def test_a_study_that_is_gone_on_with_uses_the_policies_that_it_trained(home: Path) -> None:
    pytest.importorskip("sb3_contrib", reason="the extra `rl` is not installed")
    settings = SMALL.model_copy(update={"variants": ("a2c", "dqn"), "seeds": 1})
    whole, _ = run(settings, "whole")

    with disk_full("stopped"):
        run(settings, "stopped")
    # One policy was not trained yet when the study was stopped.
    shutil.rmtree(home / "runs" / ".stopped.unfinished" / "policies" / "dqn-0")
    folder, heard = run(settings, "stopped")
    assert {cell.variant for cell, batch, _, _ in heard.events if batch == "train"} == {"dqn"}
    assert contents(folder) == contents(whole) and policies(folder) == policies(whole)

    with disk_full("anew"):
        run(settings, "anew")
    heard = Heard()
    run_study(settings, "anew", concurrency=2, processes=2, progress=heard, fresh=True)
    assert {cell.variant for cell, batch, _, _ in heard.events if batch == "train"} == {"a2c", "dqn"}


@pytest.mark.parametrize("module", ["torch", "stable_baselines3", "sb3_contrib"])
def test_without_the_extra_the_command_says_how_to_install_it(home: Path, module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from graph.cli import main; main()"
    args = ["study", "--world", "tiny", "--variants", "random,a2c", "--out", "x"]
    # A process of its own: a module that is imported already cannot be missing.
    done = processes.run([sys.executable, "-c", code, *args], cwd=ROOT, env=environment_of(home))
    assert "pip install 'billp[rl]'" in refused(done)
    assert not (home / "runs").exists()
