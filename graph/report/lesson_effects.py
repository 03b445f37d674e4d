"""Effects of lessons: visits that recalled a lesson, compared with visits that did not."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from graph.report.schema import ShownStep, ShownVisit
from sim.leave import WINDOW

# Minimum number of users on each side for a comparison.
ENOUGH = 5


class VisitGroup(NamedTuple):
    """Statistics of a group of visits: means over visits, None if no visit has the value."""

    visits: int
    users: int
    total_reward: float | None
    distance: float | None
    """Mean distance of a recommendation to the nearest of the four before it."""
    new_genres: float | None
    """Mean number of genres of a recommendation that are missing from the four before it."""


class LessonEffect(NamedTuple):
    """Lesson, with the visits of a variant that recalled it and those that did not."""

    variant: str
    text: str
    by: VisitGroup
    others: VisitGroup

    @property
    def difference(self) -> float | None:
        """Total reward of the visits that recalled the lesson minus that of the others; None if all recalled it."""
        if self.by.total_reward is None or self.others.total_reward is None:
            return None
        return self.by.total_reward - self.others.total_reward


class _VisitFigures(NamedTuple):
    user_id: str
    lessons: frozenset[str]
    total_reward: float
    distance: float | None
    new_genres: float | None


def recalled_lessons(visits: Iterable[ShownVisit]) -> list[LessonEffect]:
    """Return the recalled lessons, sorted by the number of a variant's visits that recalled them, highest first."""
    by_variant: dict[str, list[_VisitFigures]] = {}
    for visit in visits:
        by_variant.setdefault(visit["variant"], []).append(_figures(visit))
    found = [
        LessonEffect(
            variant,
            text,
            _kind([one for one in seen if text in one.lessons]),
            _kind([one for one in seen if text not in one.lessons]),
        )
        for variant, seen in by_variant.items()
        for text in {text for one in seen for text in one.lessons}
    ]
    return sorted(found, key=lambda one: (-one.by.visits, one.variant, one.text))


def most_telling(lessons: Iterable[LessonEffect]) -> LessonEffect | None:
    """Return the lesson with the largest difference in total reward, among lessons with enough users on both sides."""
    enough = [one for one in lessons if min(one.by.users, one.others.users) >= ENOUGH]
    return max(enough, key=lambda one: abs(one.difference or 0.0), default=None)


def _figures(visit: ShownVisit) -> _VisitFigures:
    return _VisitFigures(
        visit["user_id"],
        frozenset(lesson["text"] for lesson in visit["lessons"]),
        visit["total_reward"],
        _mean([step["distance"] for step in visit["steps"]]),
        _mean([_new_genres(visit["steps"], position) for position in range(1, len(visit["steps"]))]),
    )


def _new_genres(steps: Sequence[ShownStep], position: int) -> float:
    before = {genre for step in steps[max(0, position - WINDOW) : position] for genre in step["genres"]}
    return float(len(set(steps[position]["genres"]) - before))


def _kind(seen: Sequence[_VisitFigures]) -> VisitGroup:
    return VisitGroup(
        len(seen),
        len({one.user_id for one in seen}),
        _mean([one.total_reward for one in seen]),
        _mean([one.distance for one in seen]),
        _mean([one.new_genres for one in seen]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
