"""Taste in lessons."""

import pytest

from nodes.llm.text.lesson_taste import about_taste

GENRES = ("Comedy", "Crime", "Drama", "Romance", "Farce", "Space", "Safari")


@pytest.mark.parametrize(
    ("lesson", "kept"),
    [
        ("Keep a distance of at least 0.6 from the last four items.", ""),
        ("Keep a distance of at least 0.6 from the last four items. Leave out Crime.", "Leave out Crime."),
        ("Recommend romantic dramas; the user loves Romance.", "Recommend romantic dramas; the user loves Romance."),
        ("Users leave after two Crime items in a row. Prefer Comedy!", "Prefer Comedy!"),
        ("Alternate Drama and Comedy.", ""),
        ("Never recommend Crime again after Crime.", ""),
        ("Crime is risky.\nNo Drama", "No Drama"),
        ("The user left out of boredom with Drama; avoid similar items.", ""),
        ("Recommend what the user likes best.", ""),
        ("Prefer Farce. Avoid Space. The user loves Safari.", "Prefer Farce. Avoid Space. The user loves Safari."),
        ("Keep Crime farther away. Drama is spaced out. Comedy is a safe choice.", ""),
        ("", ""),
    ],
)
def test_only_sentences_of_taste_are_kept(lesson: str, kept: str) -> None:
    assert about_taste(lesson, GENRES) == kept
