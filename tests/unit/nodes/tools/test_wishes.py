"""Wishes read with the catalogue, whatever the text is."""

from pathlib import Path

import numpy as np
import pytest

from nodes.tools.open_world import open_world_now
from nodes.tools.title_finder import TitleFinder
from nodes.tools.wish_text import understood_line
from nodes.tools.wishes import read_with_catalogue
from sim.catalogue import Catalogue, Item


@pytest.mark.parametrize(
    "text",
    [
        "1990 to " * 250,
        "from the " * 220,
        "like\n" * 400,
        "no crime, " * 200,
        "'" * 2000,
        "x" * 2000,
        "нет 恐怖 \x1b[31m<b>",
    ],
)
def test_any_text_is_read(home: Path, text: str) -> None:
    opened = open_world_now("tiny")
    read = read_with_catalogue(text, opened)
    assert len(understood_line(read, opened.world.catalogue)) < 2_000


def test_what_the_catalogue_lacks_is_told(home: Path) -> None:
    opened = open_world_now("tiny")
    title = opened.world.catalogue[0].title
    read = read_with_catalogue(
        f"like {title.lower()}, no crime, nothing violent, not too long, horror from the 90s", opened
    )
    assert read.like == [opened.world.catalogue[0].id] and [["Crime"]] in read.avoid
    assert {"violence", "length", "years"} <= {*read.unjudged}


def test_a_title_that_is_an_everyday_word_for_a_category_is_a_name_where_it_is_spelt_as_one() -> None:
    items = [
        Item("1", "Alien (1979)", ("Sci-Fi",)),
        Item("2", "Blade Runner (1982)", ("Sci-Fi",)),
        Item("3", "War", ("War",)),
    ]
    finder = TitleFinder(Catalogue(items), np.array([5, 5, 5]))
    assert finder.find("films like Alien and Blade Runner").items == [(0,), (1,)]
    assert finder.find("films like aliens or robots").items == finder.find("something like War, please").items == []
