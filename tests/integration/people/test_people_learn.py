"""People of opposite tastes who come back: what they said makes their next visits better."""

import numpy as np
import pytest

from nodes.tools.open_world import open_world_now
from tests.benchmarks.people import VISITS, measure, tastes

pytestmark = pytest.mark.usefixtures("home")
# Few ratings of a visit, because no item of the small catalogue comes twice.
RATINGS = 4


def test_tastes_are_opposite(home: object) -> None:
    catalogue = open_world_now("tiny").world.catalogue
    ratings = np.array([[taste(item) for item in catalogue] for taste in tastes(open_world_now("tiny"))])
    assert (np.corrcoef(ratings)[np.triu_indices(3, 1)] < -0.1).all()
    assert ((ratings == 5).any(axis=1) & (ratings == 1).any(axis=1)).all()


@pytest.mark.slow
async def test_the_fifth_visit_is_liked_better_than_the_first_and_only_with_a_memory() -> None:
    with_memory = np.array(await measure("tiny", RATINGS, remembers=True))
    without = np.array(await measure("tiny", RATINGS, remembers=False))
    assert with_memory.shape == without.shape == (3, VISITS)
    assert (with_memory[:, 0] == without[:, 0]).all() and np.ptp(without, axis=1).max() == 0
    assert (with_memory[:, -1] - with_memory[:, 0]).min() >= 1.0
    assert (with_memory[:, 1:] >= without[:, 1:]).all()
