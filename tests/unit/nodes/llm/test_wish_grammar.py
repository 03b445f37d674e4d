"""Grammar of wishes in plain words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.llm.text.wish_grammar import Wishes, Years, mentions, read_wishes

CATEGORIES = ["Drama", "Comedy", "Horror", "Science Fiction", "Fiction", "Film-Noir"]


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        ("Recommend Drama or Comedy.", Wishes(want=("Drama", "Comedy"))),
        ("slow films, no horror", Wishes(avoid=("Horror",))),
        ("Leave out Horror, Drama; recommend comedy", Wishes(want=("Comedy",), avoid=("Horror", "Drama"))),
        ("Avoid Horror. Drama is fine", Wishes(want=("Drama",), avoid=("Horror",))),
        ("Science Fiction, please", Wishes(want=("Science Fiction",))),
        ("Film-Noir", Wishes(want=("Film-Noir",))),
        ("Dramatic things", Wishes(want=("Drama",))),
        ("Recommend Drama; leave out Drama", Wishes(avoid=("Drama",))),
        ("Keep a distance of at least 0.75 from the last four items.", Wishes(least=0.75)),
        ("keep at most 1 apart", Wishes(most=1.0)),
        ("", Wishes()),
        # A category counts where it is named last.
        ("Recommend Drama, Comedy and drama", Wishes(want=("Comedy", "Drama"))),
        ("no horror, no drama, no horror", Wishes(avoid=("Drama", "Horror"))),
        ("at least 0.2, no: at least 0.4 and at most 12.5", Wishes(least=0.4, most=12.5)),
    ],
)
def test_wishes_are_read(text: str, wishes: Wishes) -> None:
    assert read_wishes(text, CATEGORIES) == wishes


@pytest.mark.parametrize("words", ["newer than", "later than", "more recent than", "after", "post"])
def test_years_after_one_do_not_hold_it(words: str) -> None:
    assert [one.years for one in mentions(f"{words} 2005", [])] == [Years(low=2006)]


@pytest.mark.parametrize(
    ("words", "years"),
    [
        ("2012 or later", Years(low=2012)),
        ("from 2012 and newer", Years(low=2012)),
        ("2012+", Years(low=2012)),
        ("2012 onwards", Years(low=2012)),
        ("1999 or older", Years(high=1999)),
        ("the 90s and earlier", Years(high=1999)),
        ("the last ten years", Years(age="recent")),
        ("at most five years old", Years(age="recent")),
        ("not more than 5 years old", Years(age="recent")),
        ("more than thirty years old", Years(age="old")),
        ("retro", Years(age="old")),
    ],
)
def test_years_that_are_open_to_one_side(words: str, years: Years) -> None:
    assert [(one.kind, one.wanted, one.years) for one in mentions(words, [])] == [("years", True, years)]


def test_a_line_of_its_own_is_a_wish_of_its_own() -> None:
    found = mentions("no horror\ncomedies!!!\ndrama", CATEGORIES)
    assert [(one.wanted, one.line, one.categories) for one in found] == [
        (False, 0, (("Horror",),)),
        (True, 1, (("Comedy",),)),
        (True, 2, (("Drama",),)),
    ]
    assert read_wishes("no horror\ncomedies", CATEGORIES) == Wishes(want=("Comedy",), avoid=("Horror",))


def test_the_age_of_a_person_is_no_age_of_an_item() -> None:
    assert [one.kind for one in mentions("for my 8 year old son, she is nine years old", [])] == ["quality", "quality"]


def test_of_two_categories_with_the_same_start_the_longer_one_is_read() -> None:
    assert read_wishes("no film-noir", ["Film", "Film-Noir"]) == Wishes(avoid=("Film-Noir",))
    assert read_wishes("no film", ["Film", "Film-Noir"]) == Wishes(avoid=("Film",))


@pytest.mark.parametrize("word", "avoid leave without no not never skip less fewer drop".split())
def test_words_that_avoid(word: str) -> None:
    assert read_wishes(f"{word.title()} drama", CATEGORIES) == Wishes(avoid=("Drama",))


@pytest.mark.parametrize("word", "recommend mix more prefer show add include but want like likes with".split())
def test_words_that_want(word: str) -> None:
    assert read_wishes(f"no drama, {word} comedy", CATEGORIES) == Wishes(want=("Comedy",), avoid=("Drama",))


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    wishes = read_wishes(text, CATEGORIES)
    assert not set(wishes.want) & set(wishes.avoid)
