"""The lessons that visits recalled, and how those visits differ from the ones that did not recall them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from graph.report.schema import ShownStep, ShownVisit
from sim.leave import WINDOW

# Below so many visits on either side a difference says nothing.
ENOUGH = 5


class VisitGroup(NamedTuple):
    """What visits of a kind have in common; means over visits, None where no visit has it."""

    visits: int
    total_reward: float | None
    distance: float | None
    """Mean distance of a recommendation to the nearest of the four before it."""
    new_genres: float | None
    """Mean number of genres of a recommendation that none of the four before it has."""


class LessonEffect(NamedTuple):
    """A lesson, with the visits of a variant that recalled it and those that did not."""

    variant: str
    text: str
    by: VisitGroup
    others: VisitGroup

    @property
    def difference(self) -> float | None:
        """Return how much more the visits collected that recalled the lesson; None where all did."""
        if self.by.total_reward is None or self.others.total_reward is None:
            return None
        return self.by.total_reward - self.others.total_reward


class _Seen(NamedTuple):
    lessons: frozenset[str]
    total_reward: float
    distance: float | None
    new_genres: float | None


def recalled_lessons(visits: Iterable[ShownVisit]) -> list[LessonEffect]:
    """Return the lessons that were recalled, those recalled by most visits of a variant first."""
    by_variant: dict[str, list[_Seen]] = {}
    for visit in visits:
        by_variant.setdefault(visit.variant, []).append(_seen(visit))
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
    """Return the lesson with the largest difference in total reward, of those with enough visits on both sides."""
    enough = [one for one in lessons if min(one.by.visits, one.others.visits) >= ENOUGH]
    return max(enough, key=lambda one: abs(one.difference or 0.0), default=None)


def _seen(visit: ShownVisit) -> _Seen:
    return _Seen(
        frozenset(lesson.text for lesson in visit.lessons),
        visit.total_reward,
        _mean([step.distance for step in visit.steps]),
        _mean([_new_genres(visit.steps, position) for position in range(1, len(visit.steps))]),
    )


def _new_genres(steps: Sequence[ShownStep], position: int) -> float:
    before = {genre for step in steps[max(0, position - WINDOW) : position] for genre in step.genres}
    return float(len(set(steps[position].genres) - before))


def _kind(seen: Sequence[_Seen]) -> VisitGroup:
    return VisitGroup(
        len(seen),
        _mean([one.total_reward for one in seen]),
        _mean([one.distance for one in seen]),
        _mean([one.new_genres for one in seen]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
