"""Leave-risk policy: the baseline that learns from its own train visits."""

from dataclasses import replace
from typing import Any

import pytest

from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.policies.base import Knowledge, Policy, visit_rng
from sim.policies.heuristics import Random
from sim.policies.leave_risk import LeaveRiskModel, PairFeatures, RoundOutcome, fit_leave_risk
from sim.policies.leave_risk_policy import LeaveRiskPolicy, learn_leave_risk_policy
from sim.policies.rollout import play
from sim.world import World
from sim.world.data import ModelName
from tests.unit.sim.policies.test_policies import Forbidden, reachable


@pytest.fixture(scope="module")
def world() -> World:
    return World.build("tiny", load_ratings("tiny", 0))


def mean(policy: Policy, world: World) -> float:
    users = world.split("dev").users
    return sum(play(policy, world, "dev", user)["total_reward"] for user in users) / len(users)


def test_it_learns_from_train_users_and_keeps_others_longer(world: World) -> None:
    done: list[int] = []
    users = (world.split("train").users * 5)[:40]
    policy, steps = learn_leave_risk_policy(world, users, cohort=10, explore=0.3, progress=done.append)
    assert done == list(range(1, 41)) and steps > 40
    assert mean(policy, world) > 1.5 * mean(Random(), world)


def test_the_same_seed_learns_the_same(world: World) -> None:
    users = world.split("train").users[:8]
    one, other, third = (
        learn_leave_risk_policy(world, users, cohort=4, explore=0.5, seed=seed)[0] for seed in (3, 3, 4)
    )
    assert one.outlook is not None and other.outlook is not None and third.outlook is not None
    assert one.outlook.weights.tolist() == other.outlook.weights.tolist() != third.outlook.weights.tolist()


def test_what_is_kept_gives_the_same_visits(world: World) -> None:
    users, user = world.split("train").users[:8], world.split("dev").users[0]
    policy, _ = learn_leave_risk_policy(world, users, cohort=4, explore=0.3)
    assert policy.outlook is not None
    again = LeaveRiskPolicy(
        LeaveRiskModel.of(PairFeatures(world.catalogue, world.logs), policy.outlook.weights.tolist())
    )
    assert play(policy, world, "dev", user) == play(again, world, "dev", user)
    for weights in ([1.0] * 5, [float("nan")] * 6):
        with pytest.raises(BadInputError, match="not those of a leave-risk model"):
            LeaveRiskModel.of(PairFeatures(world.catalogue, world.logs), weights)


def test_a_short_visit_has_less_to_lose(world: World) -> None:
    outlook = LeaveRiskModel.prior(PairFeatures(world.catalogue, world.logs))
    user = world.users[world.split("dev").users[0]]
    predictions = world.logs.predictions(user.id)
    knowledge = Knowledge(world.catalogue, world.logs, user, visit_rng(0, user.id))
    short, long = (LeaveRiskPolicy(outlook, ahead).begin(knowledge) for ahead in (0, 1_000))
    riskier = 0
    for first in range(0, 100, 4):
        recent = list(range(first, first + 4))
        risks, now, later = outlook.risks(recent, predictions), short(recent), long(recent)
        assert risks[now] >= risks[later] and predictions[now] >= predictions[later]
        riskier += risks[now] > risks[later]
    assert riskier
    # A learned policy expects visits as long as those it learned from.
    assert learn_leave_risk_policy(world, [], cohort=4, explore=0.3, max_steps=7)[0].ahead == 7


def test_only_train_users_may_teach_it_and_no_visit_is_no_outlook(world: World) -> None:
    with pytest.raises(BadInputError, match="not a user of the split 'train'"):
        learn_leave_risk_policy(world, world.split("dev").users[:1], cohort=4, explore=0.3)
    policy, steps = learn_leave_risk_policy(world, [], cohort=4, explore=0.3)
    assert policy.outlook is None and steps == 0


def test_it_reads_no_table(world: World) -> None:
    models: dict[ModelName, Any] = dict(world.data.models)
    forbidden: dict[ModelName, Any] = {"train": Forbidden(), "test": Forbidden()}
    blind = World(replace(world.data, models=models | forbidden))
    outlook = fit_leave_risk(PairFeatures(blind.catalogue, blind.logs), [RoundOutcome(1, (0,), 4.0, True)])
    user = blind.users[world.split("dev").users[0]]
    choose = LeaveRiskPolicy(outlook).begin(Knowledge(blind.catalogue, blind.logs, user, visit_rng(0, user.id)))
    recommended: list[int] = []
    for _ in range(10):
        recommended.append(choose(recommended))
    assert len(set(recommended)) == 10
    assert not any(isinstance(found, Forbidden) for found in reachable((outlook, choose)))
