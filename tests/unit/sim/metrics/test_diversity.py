from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.metrics.diversity import long_tail, variety
from sim.world import World


def visit(*items: str) -> dict[str, Any]:
    return {"steps": [{"item_id": item} for item in items]}


def test_variety_agrees_with_hand_computed_numbers() -> None:
    # Item a repeats twice in the first visit, b once in the second; 4 of 9 recommendations are c or d.
    result = variety([visit("a", "a", "c", "a", "d"), visit("b", "c", "d", "b")], frozenset({"c", "d", "e"}))
    assert result == {"distinct_items": 4, "tail_share": pytest.approx(4 / 9), "repeats": pytest.approx(1.5)}


def test_no_visits_and_visits_without_items_are_refused() -> None:
    with pytest.raises(BadInputError, match="no visits"):
        variety([], frozenset())
    with pytest.raises(BadInputError, match="fields of VisitOutput"):
        variety([{"steps": [{"title": "A"}]}], frozenset())


@pytest.mark.parametrize("odd", [False, True])
def test_the_long_tail_is_the_half_that_occurs_least_in_the_logs(odd: bool) -> None:
    world = World.build("tiny", load_ratings("tiny", 0))
    popularity = np.arange(len(world.catalogue), dtype=np.int64)[::-1].copy()
    popularity[-3:] = 0
    given = World(replace(world._contents, popularity=popularity))
    half = len(given.catalogue) // 2
    assert long_tail(given) == {item.id for item in given.catalogue[half:]}
    # The reward tables, which a recommender does not know, have no effect.
    level = World(replace(world._contents, popularity=np.ones_like(popularity)))
    assert long_tail(level) == {item.id for item in level.catalogue[half:]}
