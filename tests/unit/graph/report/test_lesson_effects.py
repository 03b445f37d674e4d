"""Effects of lessons, compared with values computed by hand."""

import pytest

from graph.report.lesson_effects import VisitGroup, most_telling, recalled_lessons
from graph.report.schema import ShownLesson, ShownStep, ShownVisit


def visit(
    total: float, *lessons: str, variant: str = "billp", user: str = "1", steps: list[ShownStep] | None = None
) -> ShownVisit:
    return ShownVisit(
        variant=variant,
        without=None,
        memory="full",
        split="dev",
        seed=0,
        user_id=user,
        length=1,
        total_reward=total,
        leave_reason=None,
        lessons=[ShownLesson(text=text) for text in lessons],
        steps=steps or [step()],
    )


def step(*genres: str, distance: float | None = None) -> ShownStep:
    return ShownStep(plan="", title="", genres=list(genres), distance=distance, reward=3, next_value=None, left=False)


def test_a_lesson_is_held_against_the_visits_of_its_variant_that_did_not_recall_it() -> None:
    visits = [
        visit(10, "far", "far", "new"),
        visit(20, "far"),
        visit(3),
        visit(90, "far", variant="reflexion"),
        visit(1000, variant="random"),
    ]
    by_many, *rest = recalled_lessons(visits)
    assert (by_many.variant, by_many.text, by_many.by.visits, by_many.others.visits) == ("billp", "far", 2, 1)
    assert by_many.difference == 15 - 3
    assert [(one.variant, one.text, one.difference) for one in rest] == [
        ("billp", "new", 10 - 11.5),
        ("reflexion", "far", None),
    ]


@pytest.mark.slow
def test_distance_and_new_genres_are_means_over_visits() -> None:
    # New genres: B in the second round; none in the third; the sixth round no longer sees the first.
    long = [
        step("A"),
        step("A", "B", distance=0.5),
        step("B", distance=0.7),
        *[step("C", distance=0.6)] * 2,
        step("C", distance=0.6),
        step("A", distance=0.6),
    ]
    (found,) = recalled_lessons([visit(1, "far", steps=long), visit(3, "far", steps=[step("A")])])
    assert found.by == VisitGroup(visits=2, users=1, total_reward=2.0, distance=0.6, new_genres=0.5)
    assert found.others == VisitGroup(visits=0, users=0, total_reward=None, distance=None, new_genres=None)


def test_a_difference_counts_only_with_enough_users_on_both_sides() -> None:
    few = [visit(1000, "rare", "often"), *[visit(10, "often", user=str(user)) for user in range(2, 6)]]
    many = [*few, *[visit(5, user=str(user)) for user in range(5)]]
    assert most_telling(recalled_lessons(few)) is None
    # Five visits of one user are one user.
    assert most_telling(recalled_lessons([*few, *[visit(5) for _ in range(5)]])) is None
    told = most_telling(recalled_lessons(many))
    assert told is not None and told.text == "often" and told.difference == 208 - 5
