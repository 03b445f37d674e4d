"""Control `prior`: its visits learn nothing, and `learned` is the full memory's reward minus that of the prior."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graph.report.terminal import comparison_table, name_of
from graph.study import run_study
from graph.study.settings import StudySettings
from nodes.tools.open_world import load_world
from sim.metrics import paired, summarize
from sim.policies.leave_risk import LeaveRiskModel
from sim.policies.leave_risk_policy import LeaveRiskPolicy
from sim.policies.pair_features import PairFeatures
from sim.policies.rollout import play
from tests.integration.study.test_study import Heard, shown

pytestmark = pytest.mark.slow

SETTINGS = StudySettings(
    world="tiny",
    variants=("billp_outlook", "outlook_only", "random"),
    train=4,
    test=3,
    cohort=2,
    max_steps=10,
    memory=("full", "prior"),
    curve=1,
    curve_users=2,
    learn_at_test=True,
)


def read(folder: Path, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / file).read_text(encoding="utf-8").splitlines()]


def test_at_the_prior_nothing_of_any_visit_is_learned(home: Path) -> None:
    folder = run_study(SETTINGS, "prior", concurrency=2, processes=1, progress=Heard())
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    rows = {name_of(row): row for row in results["rows"]}
    assert [*rows] == ["billp_outlook", "billp_outlook (prior)", "outlook_only", "outlook_only (prior)", "random"]
    visits = read(folder, "visits.jsonl")

    def of(variant: str, memory: str) -> list[dict[str, Any]]:
        return [one for one in visits if (one["variant"], one["memory"], one["split"]) == (variant, memory, "dev")]

    for variant in ("billp_outlook", "outlook_only"):
        full, prior = of(variant, "full"), of(variant, "prior")
        assert [one["user_id"] for one in prior] == [one["user_id"] for one in full]
        assert rows[variant]["learned"] == paired(full, prior) and rows[f"{variant} (prior)"]["learned"] is None
        assert rows[f"{variant} (prior)"].items() >= summarize(prior).items()
    assert rows["random"]["learned"] is None
    assert rows["outlook_only"]["training_visits"] == 4 and rows["outlook_only (prior)"]["training_visits"] == 0
    for visit in of("billp_outlook", "prior"):
        # The visits wrote nothing although users teach at test, and recalled nothing; their risks are of the prior.
        assert not visit["records"] and not visit["lessons"]
        assert any(step["risk"] for step in visit["steps"])
    assert any(one["records"] for one in of("billp_outlook", "full"))

    world = load_world("tiny")
    policy = LeaveRiskPolicy(LeaveRiskModel.prior(PairFeatures(world.catalogue, world.logs)), limit=10)
    for visit in of("outlook_only", "prior"):
        alone = play(policy, world, "dev", visit["user_id"], seed=0, max_steps=10)
        assert [step["item_id"] for step in visit["steps"]] == [step["item_id"] for step in alone["steps"]]

    points = [one for one in read(folder, "curves.jsonl") if one["memory"] == "prior"]
    (point,) = rows["billp_outlook (prior)"]["curve"]
    assert len(points) == 2 and point["total_reward"] == pytest.approx(np.mean([one["total_reward"] for one in points]))
    assert "learned" in shown(comparison_table(results))
    assert "billp_outlook (prior)" in (folder / "report.html").read_text(encoding="utf-8")
