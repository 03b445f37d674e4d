from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sim.catalogue import Catalogue
from sim.data.ratings import Ratings
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


def test_visits_without_recommendations_have_no_variety() -> None:
    assert variety([visit(), visit()], frozenset({"a"})) == {"distinct_items": 0, "tail_share": 0.0, "repeats": 0.0}
    assert variety([visit("a")], frozenset({"a"})) == {"distinct_items": 1, "tail_share": 1.0, "repeats": 0.0}


def test_objects_are_taken_as_well_as_mappings() -> None:
    steps = [SimpleNamespace(item_id=item) for item in "aab"]
    result = variety([SimpleNamespace(steps=steps)], frozenset({"b"}))
    assert result == {"distinct_items": 2, "tail_share": pytest.approx(1 / 3), "repeats": 1.0}


def without_last_item(ratings: Ratings) -> Ratings:
    catalogue = Catalogue(list(ratings.catalogue)[:-1])
    kept = ratings.items < len(catalogue)
    arrays = {name: getattr(ratings, name)[kept] for name in ("users", "items", "values", "timestamps")}
    return Ratings(**arrays, user_ids=ratings.user_ids, catalogue=catalogue)


@pytest.mark.parametrize("odd", [False, True])
def test_the_long_tail_is_the_half_that_occurs_least_in_the_logs(odd: bool) -> None:
    ratings = load_ratings("tiny", 0)
    world = World.build("tiny", without_last_item(ratings) if odd else ratings)
    assert len(world.catalogue) == 120 - odd
    popularity = np.arange(len(world.catalogue), dtype=np.int64)[::-1].copy()
    popularity[-3:] = 0
    given = World(replace(world.data, popularity=popularity))
    # Of 119 items, the middle one is not in the tail.
    half = 60
    assert long_tail(given) == {item.id for item in given.catalogue[half:]}
    # The reward tables, which a recommender does not know, have no effect.
    level = World(replace(world.data, popularity=np.ones_like(popularity)))
    assert long_tail(level) == {item.id for item in level.catalogue[half:]}
