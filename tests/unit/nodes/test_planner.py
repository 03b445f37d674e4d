"""Planner: what it is told of a plan that could not be met."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from nodes.planner import unmet_facts
from nodes.state import Step, VisitState
from nodes.user_view import Visitor
from sim.catalogue import Catalogue, Item

ITEMS = [Item("0", "A", ("Drama", "War")), Item("1", "B", ("Comedy",))]


def unmet(*steps: Step) -> dict[str, Any]:
    opened: Any = SimpleNamespace(world=SimpleNamespace(catalogue=Catalogue(ITEMS)))
    who = Visitor(opened, "u", (), (), np.zeros(len(ITEMS), np.float32))
    return unmet_facts(VisitState(steps=list(steps)), who)


def step(plan: str, index: int = 0, distance: float | None = 0.5) -> Step:
    return Step(index=index, plan=plan, genres=["Comedy"], distance=distance)


def test_a_plan_whose_categories_the_item_lacks_is_unmet() -> None:
    assert unmet(step("Recommend Drama or War.")) == {"unmet": {"categories": ["Drama", "War"]}}
    assert unmet(step("Recommend Drama or Comedy.")) == {}
    assert unmet(step("Leave out Drama.")) == unmet(step("Recommend what the user likes best.")) == unmet() == {}


def test_a_plan_whose_distance_the_item_misses_is_unmet() -> None:
    assert unmet(step("Keep at least 0.6.")) == {"unmet": {"distance": 0.6}}
    assert unmet(step("Keep at least 0.5.")) == unmet(step("Keep at most 0.6.")) == {}
    # The first item has no distance.
    assert unmet(step("Keep at least 0.6.", distance=None)) == {}


def test_only_the_last_plan_counts() -> None:
    assert unmet(step("Recommend Drama."), step("Recommend Comedy.", 1)) == {}
    assert unmet(step("Recommend Comedy."), step("Recommend Drama.", 1)) == {"unmet": {"categories": ["Drama"]}}
