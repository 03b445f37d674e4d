"""Answers at the prompt: what people type, read as they mean it, and refused in words that help."""

from typing import Any

import pytest

from graph.cli.person.answers import read_answer
from sim.errors import BadInputError


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("4", {"rating": 4.0}),
        ("4.5", {"rating": 4.5}),
        ("4,5", {"rating": 4.5}),
        ("4/5", {"rating": 4.0}),
        ("5 stars", {"rating": 5.0}),
        ("４", {"rating": 4.0}),
        ("4: lovely", {"rating": 4.0, "comment": "lovely"}),
        ("4,5: lovely", {"rating": 4.5, "comment": "lovely"}),
        ("4, lovely", {"rating": 4.0, "comment": "lovely"}),
        ("2 - too violent: no more of it", {"rating": 2.0, "comment": "too violent: no more of it"}),
        ("too violent", {"skip": True, "comment": "too violent"}),
        ("something like Alien: Covenant", {"skip": True, "comment": "something like Alien: Covenant"}),
        ("もっと静かな映画", {"skip": True, "comment": "もっと静かな映画"}),
        ("  no\t more \x1b[31mwar\x1b[0m\x07 ", {"skip": True, "comment": "no more war"}),
        ("s", {"skip": True}),
        ("Skip: no crime", {"skip": True, "comment": "no crime"}),
        ("q", {"leave": True}),
        ("seen", {"seen": True}),
        ("Seen it!", {"seen": True}),
        ("seen: 4", {"seen": True, "rating": 4.0}),
        ("seen: 4: lovely", {"seen": True, "rating": 4.0, "comment": "lovely"}),
        ("never", {"never": True}),
        ("never show me war films", {"skip": True, "comment": "never show me war films"}),
        ("profile: only drama", {"skip": True, "profile": "only drama"}),
        ("profile:", {"skip": True, "profile": ""}),
        ("profile of a killer", {"skip": True, "comment": "profile of a killer"}),
    ],
)
def test_a_line_is_read_as_people_mean_it(line: str, answer: dict[str, Any]) -> None:
    assert read_answer(line).model_dump(exclude_defaults=True) == answer


@pytest.mark.parametrize("line", ["", " ", "?", "x", "\x1b[A", "...", ":", "no", "🙂", "9", "0", "-3", "1e9", "5.01"])
def test_a_line_of_no_use_is_refused_with_an_example(line: str) -> None:
    with pytest.raises(BadInputError) as refused:
        read_answer(line)
    message = str(refused.value)
    assert "4: lovely" in message and "\n" not in message and "pydantic" not in message


@pytest.mark.parametrize("line", ["a" * 100_000, "4: " + "a" * 501, "profile: " + "a " * 2_000])
def test_a_line_that_is_too_long_is_refused_with_both_lengths(line: str) -> None:
    with pytest.raises(BadInputError, match=r"at most (500|2,000) can be kept"):
        read_answer(line)


def test_a_number_before_words_is_asked_about() -> None:
    with pytest.raises(BadInputError, match="put a colon between"):
        read_answer("3 hours are too long")
