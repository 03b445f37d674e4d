"""Memory controls: outcomes are shuffled or inverted; users and recall keys stay unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.study.memory_controls import OPPOSITE, controlled, opposite
from memory.lessons import StoredLesson, merge_lessons
from memory.records import Experience, Lesson, Record, Value, record
from nodes.llm.rules import reflect
from nodes.llm.text.wish_grammar import read_wishes

CATEGORIES = ("Drama", "Comedy", "Horror", "Science Fiction")


def experience(number: int) -> Record:
    return record(
        Experience(
            visit=f"visit {number // 3}",
            user_id=f"user {number // 3}",
            situation=f"situation {number}",
            plan=f"plan {number}",
            title=f"title {number}",
            genres=[f"genre {number}"],
            predicted=number / 2,
            distance=number / 8 or None,
            reward=number / 2,
            advantage=float(number - 2),
            left=number % 3 == 2,
        ),
        number % 3,
    )


def lesson(number: int) -> Record:
    text = f"Keep a distance of at least 0.{number} from the last four items."
    return record(
        Lesson(visit=f"v{number}", user_id=f"u{number}", situation="s", text=text, length=number, total_reward=number),
        9,
    )


def value(number: int) -> Record:
    return record(
        Value(visit=f"v{number}", user_id=f"u{number}", situation=f"s{number}", distance=number / 8, target=number - 4),
        0,
    )


MEMORY = [make(number) for make in (experience, lesson, value) for number in range(9)]
OUTCOME = {"text", "length", "total_reward", "reward", "advantage", "left", "target"}


def found_by(one: Record) -> tuple[str, dict[str, object]]:
    return one.key, one.value.model_dump(exclude=OUTCOME)


def says(one: Record) -> str:
    return repr((one.value.kind, one.value.model_dump(include=OUTCOME)))


def test_a_full_memory_is_as_it_was_and_an_empty_one_holds_nothing() -> None:
    assert controlled(MEMORY, "full", 0) == sorted(MEMORY, key=lambda one: one.key)
    assert controlled(MEMORY, "empty", 0) == []


def test_shuffled_records_keep_what_was_done_and_tell_what_came_of_others() -> None:
    before = controlled(MEMORY, "full", 0)
    after = controlled(MEMORY, "shuffled", 3)
    assert [found_by(one) for one in after] == [found_by(one) for one in before]
    assert sorted(map(says, after)) == sorted(map(says, before))
    assert all(says(one) != says(other) for one, other in zip(before, after, strict=True))


def test_shuffled_lessons_still_replace_what_they_replaced() -> None:
    lessons = [lesson(number) for number in range(9)]
    later = lessons[0].model_copy(update={"value": lessons[0].value.model_copy(update={"replaces": [lessons[1].key]})})

    def replaced(records: list[Record]) -> list[str]:
        found = merge_lessons(StoredLesson((), one.key, one.value) for one in records if isinstance(one.value, Lesson))
        return [one.lesson.text for each in found for one in each.replaced]

    before = [later, *lessons[1:]]
    assert (
        replaced(before)
        == replaced(controlled(before, "shuffled", 3))
        == ["Keep a distance of at least 0.1 from the last four items."]
    )


def test_who_gets_what_depends_on_the_seed_and_not_on_the_order_of_the_records() -> None:
    once = controlled(MEMORY, "shuffled", 3)
    assert controlled(MEMORY[::-1], "shuffled", 3) == once != controlled(MEMORY, "shuffled", 4)


def test_inverted_experiences_and_values_say_the_opposite_and_nothing_else_changes() -> None:
    before = controlled(MEMORY, "full", 0)
    for one, other in zip(before, controlled(MEMORY, "inverted", 0), strict=True):
        match one.value:
            case Experience() as was:
                expected = was.model_copy(update={"advantage": 0.0 - was.advantage, "left": not was.left})
                assert other.value == expected and repr(other.value) == repr(expected)
            case Value() as judged:
                assert other.value == judged.model_copy(update={"target": -judged.target})
            case Lesson() as taught:
                text = taught.text.replace("at least", "at most")
                assert other.value == taught.model_copy(update={"text": text})
        assert found_by(one) == found_by(other)


def test_what_is_unknown_of_an_experience_stays_unknown_when_it_is_inverted() -> None:
    known = next(one for one in MEMORY if isinstance(one.value, Experience))
    unknown = known.model_copy(update={"value": known.value.model_copy(update={"left": None, "reward": None})})
    (turned,) = controlled([unknown], "inverted", 0)
    assert isinstance(turned.value, Experience) and turned.value.left is None and turned.value.reward is None


@pytest.mark.parametrize(
    ("text", "turned"),
    [
        ("Keep a distance of at least 0.6 from them.", "Keep a distance of at most 0.6 from them."),
        ("The user likes Drama.", "The user should avoid Drama."),
        ("Leave out Drama, Horror.", "Recommend Drama, Horror."),
        ("Mix Drama and Comedy; avoid Horror.", "Leave out Drama and Comedy; recommend Horror."),
        ("Recommend Drama without Horror.", "Leave out Drama with Horror."),
        ("More Drama, less Horror!", "Fewer Drama, more Horror!"),
        ("No Horror.", "More Horror."),
        ("Drama works well.", f"{OPPOSITE}Drama works well."),
        ("Never recommend Science Fiction.", "Never leave out Science Fiction."),
        ("Prefer Comedy at least 0.70 away.\nSkip Horror.", "Avoid Comedy at most 0.70 away. Show Horror."),
    ],
)
def test_a_lesson_turned_round_asks_rules_for_the_opposite(text: str, turned: str) -> None:
    assert opposite(text) == turned
    before, after = read_wishes(text, CATEGORIES), read_wishes(turned, CATEGORIES)
    assert (after.want, after.avoid, after.least, after.most) == (before.avoid, before.want, before.most, before.least)


def test_what_the_model_rules_writes_is_turned_round() -> None:
    rounds = [
        {"distance": 0.3, "reward": 1.0, "genres": ["Horror"]},
        {"distance": 0.5, "reward": 2.0, "genres": ["Horror"]},
    ]
    text = reflect({"rounds": rounds, "outcome": {"left": True}})["lesson"]
    assert read_wishes(text, CATEGORIES).least == 0.7 and read_wishes(text, CATEGORIES).avoid == ("Horror",)
    turned = read_wishes(opposite(text), CATEGORIES)
    assert (turned.most, turned.least, turned.want, turned.avoid) == (0.7, None, ("Horror",), ())
    assert opposite(reflect({"rounds": [], "outcome": {"left": False}})["lesson"]) == (
        "Leave out what the user likes best."
    )


@given(st.text(max_size=300))
def test_any_text_is_turned_round_into_another(text: str) -> None:
    assert opposite(text) != text
