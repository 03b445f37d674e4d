"""Grammar of wishes in plain words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.llm.text.wish_grammar import Wishes, read_wishes

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
        ("Dramatic things", Wishes()),
        ("Recommend Drama; leave out Drama", Wishes(avoid=("Drama",))),
        ("Keep a distance of at least 0.75 from the last four items.", Wishes(least=0.75)),
        ("keep at most 1 apart", Wishes(most=1.0)),
        ("", Wishes()),
    ],
)
def test_wishes_are_read(text: str, wishes: Wishes) -> None:
    assert read_wishes(text, CATEGORIES) == wishes


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    wishes = read_wishes(text, CATEGORIES)
    assert not set(wishes.want) & set(wishes.avoid)
