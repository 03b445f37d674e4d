"""Diversity: variety of the recommendations in a set of visits."""

from collections.abc import Iterable

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from sim.errors import BadInputError
from sim.world import World


class Variety(TypedDict):
    """Variety of recommendations; see `variety`."""

    distinct_items: int
    tail_share: float
    repeats: float


class _RecommendedItem(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    item_id: str


class _VisitItems(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    steps: list[_RecommendedItem]


_VISITS = TypeAdapter(list[_VisitItems], config=ConfigDict(from_attributes=True))


def variety(visits: Iterable[object], tail: frozenset[str]) -> Variety:
    """Measure the variety of the recommendations in visits. Items at which a user left count too.

    Args:
        visits: Mappings or objects with `steps`, each step with an `item_id`.
        tail: Ids of the items in the long tail; see `long_tail`.

    Returns:
        `distinct_items` counts the different items recommended in all visits together. `tail_share` is the share of
        recommendations from the long tail; 0 if there are no recommendations. `repeats` is the number of
        recommendations that repeat an earlier one of the same visit, as the mean over visits.

    Raises:
        BadInputError: There are no visits, or a visit lacks its items.
    """
    try:
        items = [[step.item_id for step in visit.steps] for visit in _VISITS.validate_python(list(visits))]
    except ValidationError as error:
        raise BadInputError(f"{error.errors()[0]['msg']}; give visits with the fields of VisitOutput") from error
    if not items:
        raise BadInputError("there are no visits to measure; run at least one")
    recommended = [item for visit in items for item in visit]
    return Variety(
        distinct_items=len(set(recommended)),
        tail_share=sum(item in tail for item in recommended) / max(len(recommended), 1),
        repeats=sum(len(visit) - len(set(visit)) for visit in items) / len(items),
    )


def long_tail(world: World) -> frozenset[str]:
    """Return the ids of the less popular half of the catalogue, by number of ratings in the logs.

    If items are equally popular, the later ones in the catalogue go into the tail first. If the number of items is odd,
    the middle one stays out of it.
    """
    most_first = np.argsort(-world.logs.popularity, kind="stable")
    return frozenset(world.catalogue[int(position)].id for position in most_first[-(-len(most_first) // 2) :])
