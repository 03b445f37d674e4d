"""Results by cohort of a study that learns at test: agents and `outlook_only` learn from each cohort, `prior` never."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graph.report.terminal import learning_table, name_of
from graph.study.settings import StudySettings
from nodes.tools.open_world import load_world
from sim.policies.leave_risk import LeaveRiskModel
from sim.policies.leave_risk_policy import LeaveRiskLearner, LeaveRiskPolicy
from sim.policies.pair_features import PairFeatures
from sim.policies.rollout import play
from tests.full_disk import disk_full
from tests.integration.study.run_files import contents
from tests.integration.study.test_study import run, shown

BASELINES = ("outlook_only", "genre_greedy", "oracle")
SETTINGS = StudySettings(
    world="tiny",
    variants=("billp", *BASELINES),
    train=0,
    test=11,
    cohort=4,
    max_steps=12,
    seeds=2,
    memory=("full", "prior"),
    learn_at_test=True,
)
COHORTS = [(1, 4), (5, 8), (9, 11)]
Line = dict[str, Any]


@pytest.fixture(scope="module")
def base(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("by-cohort") / "home"
    shutil.copytree(built_home, base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BILLP_HOME", str(base))
        yield run(SETTINGS)


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def lines_of(folder: Path, name: str) -> list[Line]:
    found = map(json.loads, (folder / "visits.jsonl").read_text(encoding="utf-8").splitlines())
    return [one for one in found if one["split"] == "dev" and name_of(one) == name]


def test_each_row_has_the_mean_of_each_cohort_over_all_seeds(base: Path) -> None:
    results = results_of(base)
    rows = {name_of(row): row for row in results["rows"]}
    assert [*rows] == ["billp", "billp (prior)", "outlook_only", "outlook_only (prior)", "genre_greedy", "oracle"]
    for name, row in rows.items():
        by_seed = [[one for one in lines_of(base, name) if one["seed"] == seed] for seed in range(2)]
        for (first, last), found in zip(COHORTS, row["by_cohort"], strict=True):
            own = [one["total_reward"] for visits in by_seed for one in visits[first - 1 : last]]
            assert len(own) == 2 * (last - first + 1) == 2 * found["users"]
            assert (found["first_visit"], found["last_visit"], found["total_reward_ci"]) == (first, last, None)
            assert found["total_reward"] == pytest.approx(np.mean(own))
        ends = row["first_and_last"]
        assert (ends["first"], ends["last"]) == (row["by_cohort"][0], row["by_cohort"][2])
        assert ends["difference"] == pytest.approx(ends["last"]["total_reward"] - ends["first"]["total_reward"])
    assert (rows["genre_greedy"]["first_and_last"]["gap_closed"], rows["oracle"]["first_and_last"]["gap_closed"]) == (
        0.0,
        1.0,
    )


def test_outlook_only_plays_each_cohort_with_all_that_earlier_ones_showed(base: Path) -> None:
    world = load_world("tiny")
    prior = LeaveRiskPolicy(LeaveRiskModel.prior(PairFeatures(world.catalogue, world.logs)), 12)
    for seed in range(2):
        learner = LeaveRiskLearner(world, 12)
        visits, fixed = (
            [one for one in lines_of(base, name) if one["seed"] == seed]
            for name in ("outlook_only", "outlook_only (prior)")
        )
        # Before the first cohort both are at the prior, and only one learns.
        assert [one["steps"] for one in visits[:4]] == [one["steps"] for one in fixed[:4]]
        assert [one["steps"] for one in visits[4:]] != [one["steps"] for one in fixed[4:]]
        for first, last in COHORTS:
            policy = learner.fitted("dev")
            for line, level in zip(visits[first - 1 : last], fixed[first - 1 : last], strict=True):
                for played, told in ((policy, line), (prior, level)):
                    alone = play(played, world, "dev", line["user_id"], seed=seed, max_steps=12)
                    assert [one["item_id"] for one in told["steps"]] == [one["item_id"] for one in alone["steps"]]
                learner.observe(play(policy, world, "dev", line["user_id"], seed=seed, max_steps=12))


def test_table_and_report_show_it(base: Path) -> None:
    table = learning_table(results_of(base))
    assert table is not None
    text = shown(table)
    assert "1 to 4" in text and "9 to 11" in text and "No interval: it needs 10 users" in " ".join(text.split())
    assert "Total reward of each cohort of test visits. billp from" in (base / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_a_study_that_is_resumed_learns_the_same_and_one_that_is_frozen_has_no_cohorts(base: Path) -> None:
    settings = SETTINGS.model_copy(update={"variants": BASELINES, "train": 5, "seeds": 1})
    whole = run(settings, "whole")
    saved = whole / "policies" / "outlook_only-0.json"
    with disk_full("cut"):
        run(settings, "cut")
    unfinished = whole.parent / ".cut.unfinished" / "policies" / saved.name
    # The rounds of training are loaded, those of the test visits follow again.
    assert unfinished.read_bytes() == saved.read_bytes()
    before = unfinished.stat().st_mtime_ns
    cut = run(settings, "cut")
    assert contents(cut) == contents(whole)
    assert (cut / "policies" / saved.name).stat().st_mtime_ns == before
    (row, *_) = results_of(cut)["rows"]
    assert row["training_visits"] == 5 and row["training_steps"] == len(json.loads(saved.read_bytes())["rounds"])

    frozen = results_of(run(settings.model_copy(update={"learn_at_test": False}), "frozen"))
    assert learning_table(frozen) is None
    for row in frozen["rows"]:
        assert not {"by_cohort", "first_and_last"} & row.keys()
