"""Leave-risk policy: the baseline that learns from its own train visits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.policies.base import Knowledge, Policy, visit_rng
from sim.policies.heuristics import Random
from sim.policies.leave_risk import LeaveRiskModel, fit_leave_risk
from sim.policies.leave_risk_policy import LeaveRiskLearner, LeaveRiskPolicy, learn_leave_risk_policy
from sim.policies.pair_evidence import RoundOutcome, Rounds
from sim.policies.pair_features import PairFeatures
from sim.policies.rollout import play
from sim.world import World
from sim.world.data import ModelName, SplitName
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
    learner = learn_leave_risk_policy(world, users, cohort=10, explore=0.3, progress=done.append)
    assert done == list(range(1, 41)) and len(learner.rounds) > 40
    assert mean(learner.fitted("dev"), world) > 1.5 * mean(Random(), world)


def test_the_same_seed_learns_the_same(world: World) -> None:
    users = world.split("train").users[:8]
    one, other, third = (
        learn_leave_risk_policy(world, users, cohort=4, explore=0.5, seed=seed).rounds for seed in (3, 3, 4)
    )
    assert one == other != third


def test_the_observed_rounds_give_the_same_policy_again(world: World) -> None:
    learner = learn_leave_risk_policy(world, world.split("train").users[:8], cohort=4, explore=0.3)
    policy, again = learner.fitted("dev"), LeaveRiskLearner(world, rounds=learner.rounds).fitted("dev")
    for user in world.split("dev").users[:3]:
        assert play(policy, world, "dev", user) == play(again, world, "dev", user)


def test_it_learns_on_from_later_visits_and_a_policy_of_before_does_not_change(world: World) -> None:
    learner = learn_leave_risk_policy(world, world.split("train").users[:4], cohort=4, explore=0.3)
    before = learner.fitted("dev")
    first, *others = (play(before, world, "dev", user) for user in world.split("dev").users)
    for visit in others:
        learner.observe(visit)
    after = learner.fitted("dev")
    assert before.outlook is not None and after.outlook is not None
    assert before.outlook.weights.tolist() != after.outlook.weights.tolist()
    assert play(before, world, "dev", first["user_id"]) == first
    assert learner.rounds[-1].left == others[-1]["left"]
    assert learner.rounds[-1].item == world.catalogue.position(others[-1]["steps"][-1]["item_id"])


def test_pairs_of_train_users_tell_nothing_of_others_and_those_of_others_nothing_of_them(world: World) -> None:
    """Train users react by another table, on which other items are alike."""
    predicted = np.full(len(world.catalogue), 4.0)
    visit = play(Random(), world, "dev", world.split("dev").users[0], max_steps=2)
    recent, item = (world.catalogue.position(one["item_id"]) for one in visit["steps"])
    trained = LeaveRiskLearner(world, rounds=[RoundOutcome(item, (recent,), 4.0, False)] * 8)
    served = LeaveRiskLearner(world)
    served.observe(visit)

    def change(learner: LeaveRiskLearner, split: SplitName) -> float:
        """Return how far the evidence of the pair moves the risk."""
        outlook = learner.fitted(split).outlook
        assert outlook is not None
        risks, without = outlook.risks_and_prior([recent], predicted)
        return abs(float(risks[item] - without[item]))

    assert change(trained, "train") > 0 == change(trained, "dev")
    assert change(served, "dev") == change(served, "test") > 0 == change(served, "train")


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
    assert learn_leave_risk_policy(world, [], cohort=4, explore=0.3, max_steps=7).fitted("dev").limit == 7


def test_only_train_users_may_teach_it_and_without_visits_it_is_at_the_prior(world: World) -> None:
    with pytest.raises(BadInputError, match="not a user of the split 'train'"):
        learn_leave_risk_policy(world, world.split("dev").users[:1], cohort=4, explore=0.3)
    learner = learn_leave_risk_policy(world, [], cohort=4, explore=0.3)
    prior = LeaveRiskPolicy(LeaveRiskModel.prior(PairFeatures(world.catalogue, world.logs)))
    user = world.split("dev").users[0]
    assert learner.rounds == [] and play(learner.fitted("dev"), world, "dev", user) == play(prior, world, "dev", user)


def test_it_reads_no_table(world: World) -> None:
    models: dict[ModelName, Any] = dict(world.data.models)
    forbidden: dict[ModelName, Any] = {"train": Forbidden(), "test": Forbidden()}
    blind = World(replace(world.data, models=models | forbidden))
    outlook = fit_leave_risk(PairFeatures(blind.catalogue, blind.logs), Rounds.of([RoundOutcome(1, (0,), 4.0, True)]))
    user = blind.users[world.split("dev").users[0]]
    choose = LeaveRiskPolicy(outlook).begin(Knowledge(blind.catalogue, blind.logs, user, visit_rng(0, user.id)))
    recommended: list[int] = []
    for _ in range(10):
        recommended.append(choose(recommended))
    assert len(set(recommended)) == 10
    assert not any(isinstance(found, Forbidden) for found in reachable((outlook, choose)))
