"""Leave-risk model: learning from steps, and from nothing else."""

from collections.abc import Iterator

import numpy as np
import pytest

from sim.data.sources import load_ratings
from sim.leave import LeaveRule
from sim.policies.leave_risk import LeaveRiskModel, fit_leave_risk
from sim.policies.pair_evidence import RoundOutcome, Rounds
from sim.policies.pair_features import PairFeatures
from sim.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return World.build("tiny", load_ratings("tiny", 0))


@pytest.fixture(scope="module")
def pairs(world: World) -> PairFeatures:
    return PairFeatures(world.catalogue, world.logs)


def rounds(world: World, count: int, bar: float, seed: int = 0) -> Iterator[RoundOutcome]:
    """Yield steps with random items at which users leave below a distance that the logs model shows."""
    rng = np.random.default_rng(seed)
    rule = LeaveRule(min_distance=bar)
    for _ in range(count):
        item, *recent = (int(one) for one in rng.choice(len(world.catalogue), 5, replace=False))
        left = rule.reason(item, recent, 4.0, world.logs.distance) is not None
        yield RoundOutcome(item, tuple(recent), 4.0, left)


def fitted(pairs: PairFeatures, observations: list[RoundOutcome]) -> LeaveRiskModel:
    return fit_leave_risk(pairs, Rounds.of(observations))


def auc(scores: list[float], labels: list[bool]) -> float:
    good = [score for score, label in zip(scores, labels, strict=True) if label]
    bad = [score for score, label in zip(scores, labels, strict=True) if not label]
    return sum((one > other) + 0.5 * (one == other) for one in good for other in bad) / (len(good) * len(bad))


def test_it_learns_who_leaves_and_says_how_probable_it_is(world: World, pairs: PairFeatures) -> None:
    bar = float(np.quantile(world.logs.distances(0), 0.15))
    outlook = fitted(pairs, list(rounds(world, 400, bar)))
    fresh = list(rounds(world, 300, bar, seed=1))
    predicted = np.full(len(world.catalogue), 4.0)
    risks = [float(outlook.risks(one.recent, predicted)[one.item]) for one in fresh]
    assert auc(risks, [one.left for one in fresh]) > 0.9
    assert np.mean(risks) == pytest.approx(np.mean([one.left for one in fresh]), abs=0.08)


def test_outcomes_dealt_out_at_random_teach_nothing(world: World, pairs: PairFeatures) -> None:
    bar = float(np.quantile(world.logs.distances(0), 0.15))
    seen = list(rounds(world, 400, bar))
    dealt = np.random.default_rng(0).permutation([one.left for one in seen])
    shuffled = [one._replace(left=bool(left)) for one, left in zip(seen, dealt, strict=True)]
    predicted = np.full(len(world.catalogue), 4.0)
    fresh = list(rounds(world, 300, bar, seed=1))
    labels = [one.left for one in fresh]
    of_shuffled, of_real = (
        auc([float(outlook.risks(one.recent, predicted)[one.item]) for one in fresh], labels)
        for outlook in (fitted(pairs, shuffled), fitted(pairs, seen))
    )
    # The prior remains, however little the steps say.
    assert of_shuffled < of_real - 0.05


def test_low_predictions_are_learned_as_a_risk_of_their_own(world: World, pairs: PairFeatures) -> None:
    far = int(np.argmax(world.logs.distances(0)))
    seen = [RoundOutcome(far, (0,), predicted, predicted < 2) for predicted in (1.2, 1.5, 3.0, 4.0)] * 20
    outlook = fitted(pairs, seen)
    liked = outlook.risks([0], np.full(len(world.catalogue), 4.0))[far]
    disliked = outlook.risks([0], np.full(len(world.catalogue), 1.3))[far]
    assert disliked > 0.5 > 0.1 > liked


def test_a_farther_item_is_less_risky_from_the_first_round_on(world: World, pairs: PairFeatures) -> None:
    outlook = fitted(pairs, [RoundOutcome(1, (0,), 4.0, False)])
    risks = outlook.risks([0], np.full(len(world.catalogue), 4.0))
    distances = world.logs.distances(0)
    assert np.corrcoef(risks, distances)[0, 1] < -0.5 and (risks >= 0).all() and (risks <= 1).all()


def test_nobody_leaves_at_the_first_round_and_nothing_is_learned_from_it(world: World, pairs: PairFeatures) -> None:
    prior = LeaveRiskModel.prior(pairs)
    for seen in ([], [RoundOutcome(1, (), 4.0, False)]):
        assert fitted(pairs, seen).weights.tolist() == prior.weights.tolist()
    outlook = fitted(pairs, [RoundOutcome(1, (0,), 4.0, True)])
    assert not outlook.risks([], np.full(len(world.catalogue), 1.0)).any()


def test_the_same_rounds_give_the_same_outlook(world: World, pairs: PairFeatures) -> None:
    seen = list(rounds(world, 100, 0.3))
    again = PairFeatures(world.catalogue, world.logs)
    assert fitted(pairs, seen).weights.tolist() == fitted(again, seen).weights.tolist()
