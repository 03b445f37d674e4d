"""Evidence of pairs: counts, shares of leavings, strength of the prior."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.data.sources import load_ratings
from sim.policies.leave_risk import LeaveRiskModel, fit_leave_risk
from sim.policies.pair_evidence import (
    STRENGTHS,
    PairEvidence,
    Pairs,
    RoundOutcome,
    Rounds,
    Sharing,
    evidence_of,
)
from sim.policies.pair_features import PairFeatures
from sim.world import World

ITEMS = 6


def evidence(outcomes: list[RoundOutcome], hazard: float = 0.1, dislike: float = 1e-6) -> PairEvidence:
    """Return the evidence of rounds if every pair has the same prior hazard."""
    rounds = Rounds.of(outcomes).with_pairs()
    pairs = Pairs(rounds, ITEMS)
    sharing = Sharing(pairs, np.full(len(pairs.low), hazard), np.full(len(rounds), dislike))
    return evidence_of(rounds, ITEMS, sharing, pairs)


def stayed(item: int, *recent: int) -> RoundOutcome:
    return RoundOutcome(item, recent, 4.0, False)


def left(item: int, *recent: int) -> RoundOutcome:
    return RoundOutcome(item, recent, 4.0, True)


def test_a_pair_counts_in_either_order_and_with_each_item_before() -> None:
    found = evidence([stayed(1, 0), stayed(0, 1), stayed(2, 0, 1)])
    assert found.stayed[0, 1] == found.stayed[1, 0] == 2
    assert found.stayed[2, 0] == found.stayed[2, 1] == 1 and found.stayed[0, 0] == 0
    assert found.known([0, 1]).T.tolist() == [
        [False, True, True, False, False, False],
        [True, False, True, False, False, False],
    ]
    assert found.known([]).shape == (ITEMS, 0)


def test_a_pair_of_an_item_with_itself_counts_once() -> None:
    assert evidence([left(3, 3)]).left[3, 3] == pytest.approx(1, abs=1e-3)
    assert evidence([stayed(3, 3)]).stayed[3, 3] == 1


def test_a_leaving_falls_to_the_pair_that_nothing_else_explains() -> None:
    # Users stayed for all pairs of the round but the one of 3 and 0.
    known = [stayed(3, 1), stayed(3, 2), stayed(3, 1), stayed(3, 2)] * 10
    found = evidence([*known, left(3, 0, 1, 2)])
    assert found.left[3, 0] > 0.8
    assert found.left[3, 1] < 0.1 and found.left[3, 2] < 0.1
    assert found.left[3, 0] + found.left[3, 1] + found.left[3, 2] == pytest.approx(1, abs=1e-3)


def test_a_disliked_item_explains_a_leaving_too() -> None:
    assert evidence([left(3, 0)], dislike=10.0).left[3, 0] < 0.1 < evidence([left(3, 0)]).left[3, 0]


def test_the_posterior_lies_between_prior_and_evidence() -> None:
    found = evidence([stayed(1, 0)] * 8 + [left(2, 0)] * 8)
    prior = np.full(ITEMS, 0.1)
    posterior = found.posterior(0, prior)
    assert posterior[1] < 0.05 and posterior[2] > 0.3 and posterior[3] == pytest.approx(0.1)
    expected = (found.strength * 0.1) / (found.strength + 8)
    assert posterior[1] == pytest.approx(expected)


def test_rounds_of_another_table_are_known_but_do_not_change_the_posterior() -> None:
    own = [stayed(1, 0)] * 8 + [left(2, 0)] * 8
    other = [one._replace(elsewhere=True) for one in own]
    prior = np.full(ITEMS, 0.1)
    for found in (evidence(other), evidence([*other, stayed(4, 3)])):
        assert found.stayed[1, 0] == 8 and found.known([0])[1, 0] and found.ended([0])[2] == 8
        assert found.posterior(0, prior) == pytest.approx(prior)
    both = evidence([*own, *other])
    assert both.stayed[1, 0] == 16
    assert both.posterior(0, prior) == pytest.approx(evidence(own).posterior(0, prior))


def test_the_tables_need_not_agree_for_a_weak_prior() -> None:
    """Each table's pairs always end alike, but a pair that is safe on one ends visits on the other."""
    rng = np.random.default_rng(0)
    rounds = []
    for item, other in rng.integers(0, ITEMS, (400, 2)).tolist():
        for elsewhere in (False, True):
            rounds.append(RoundOutcome(item, (other,), 4.0, ((item + other) % 2 == 0) == elsewhere, elsewhere))
    assert evidence(rounds).strength == STRENGTHS[0]


def test_pairs_that_always_end_alike_get_a_weak_prior_and_moods_a_strong_one() -> None:
    rng = np.random.default_rng(0)
    pairs = [(int(item), int(other)) for item, other in rng.integers(0, ITEMS, (400, 2))]
    by_pair = {pair: bool(rng.random() < 0.5) for pair in sorted({(min(pair), max(pair)) for pair in pairs})}
    facts = [RoundOutcome(item, (other,), 4.0, by_pair[min(item, other), max(item, other)]) for item, other in pairs]
    moods = [RoundOutcome(item, (other,), 4.0, bool(rng.random() < 0.5)) for item, other in pairs]
    assert evidence(facts, hazard=0.7).strength == STRENGTHS[0]
    assert evidence(moods, hazard=0.7).strength > 8 * STRENGTHS[0]


def test_endings_are_counted_by_visit() -> None:
    found = evidence([left(3, 0, 1), left(1, 3), stayed(3, 0)])
    # The first round counts once for item 3 after 0 and 1, although two of its pairs met.
    assert found.ended([0, 1]).tolist() == [0, 0, 0, 2, 0, 0]
    assert found.ended([3]).tolist() == [1, 2, 0, 0, 0, 0]
    assert found.ended([5]).tolist() == [0] * ITEMS


@pytest.fixture(scope="module")
def features() -> PairFeatures:
    world = World.build("tiny", load_ratings("tiny", 0))
    return PairFeatures(world.catalogue, world.logs)


outcomes = st.lists(
    st.builds(
        RoundOutcome,
        st.integers(0, 40),
        st.lists(st.integers(0, 40), max_size=4).map(tuple),
        st.floats(1, 5),
        st.booleans(),
    ),
    max_size=30,
)


@settings(max_examples=25)
@given(outcomes, st.randoms(use_true_random=False))
def test_the_order_of_rounds_does_not_matter(features: PairFeatures, seen: list[RoundOutcome], random: Random) -> None:
    other = list(seen)
    random.shuffle(other)
    predicted = np.full(features.n_items, 3.5)
    one, two = (fit_leave_risk(features, Rounds.of(rounds)) for rounds in (seen, other))
    assert one.tells == two.tells
    assert one.risks([1, 2, 3], predicted).tolist() == two.risks([1, 2, 3], predicted).tolist()
    assert np.isfinite(one.risks([1, 2, 3], predicted)).all()


def test_rounds_without_an_earlier_item_teach_nothing(features: PairFeatures) -> None:
    prior = LeaveRiskModel.prior(features)
    found = fit_leave_risk(features, Rounds.of([RoundOutcome(1, (), 1.0, True)] * 5))
    predicted = np.full(features.n_items, 3.5)
    assert found.risks([0], predicted).tolist() == prior.risks([0], predicted).tolist()
    assert found.tells
