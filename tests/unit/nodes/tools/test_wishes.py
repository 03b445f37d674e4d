"""Wishes read with the catalogue, whatever the text is."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from nodes.tools.open_world import OpenWorld, open_world_now
from nodes.tools.title_finder import TitleFinder
from nodes.tools.wish_items import drawn
from nodes.tools.wish_text import commented, understood_line
from nodes.tools.wishes import read_with_catalogue, understand
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


FILMS = Catalogue(
    [
        Item("1", "Psycho", ("Horror",), 1960),
        Item("2", "Batman Returns", ("Action",), 1992),
        Item("3", "Christmas Story, A", ("Comedy",), 1983),
        Item("4", "Tom Jones", ("Comedy",), 1963),
        Item("5", "Casablanca", ("Drama",), 1942, "Two lovers meet again in Paris."),
    ]
)


@pytest.fixture
def films(home: Path) -> OpenWorld:
    opened = open_world_now("tiny")
    world = copy.copy(opened.world)
    world.catalogue = FILMS
    logs = SimpleNamespace(popularity=np.ones(len(FILMS)))
    world.logs = cast(Any, logs)
    return replace(opened, world=world, cache={})


@pytest.mark.parametrize(
    ("wish", "unjudged"),
    [
        ("Hitchcock", ["Hitchcock"]),
        ("no sequels, no remakes", ["sequels", "remakes"]),
        ("I hate sequels and remakes", ["sequels", "remakes"]),
        ("nothing black and white", ["colour"]),
        ("a comedy with Tom Hanks", ["Tom Hanks"]),
        ("no Tarantino, something funny", ["Tarantino"]),
        ("directed by Alfred Hitchcock", ["people in it", "Alfred Hitchcock"]),
        ("mind-bending, thought-provoking", ["mind-bending", "thought-provoking"]),
        ("coming of age", ["coming of age"]),
        ("funny but not cheesy", ["cheesy"]),
        ("no sad endings", ["mood", "endings"]),
        ("no westerns", ["Western"]),
        ("TV shows, no MTV", ["TV shows", "MTV"]),
        ("恐怖, ничего страшного", ["恐怖", "ничего страшного"]),
        # Words that some item has, and words that say nothing of any.
        ("Christmas films, please, for two of us in Paris", []),
        ("no Batman", []),
        ("a non-violent comedy", ["violence"]),
        ("keep a distance of at least 0.60 from the last four items", []),
    ],
)
def test_what_a_wish_names_and_no_item_tells_is_said(films: OpenWorld, wish: str, unjudged: list[str]) -> None:
    read = read_with_catalogue(wish, films)
    assert read.unjudged == unjudged
    assert all(one in understood_line(read, FILMS) for one in unjudged)


def test_of_many_words_the_first_are_named_and_the_others_counted(films: OpenWorld) -> None:
    many = [f"thing{chr(97 + one // 26)}{chr(97 + one % 26)}" for one in range(60)]
    read = read_with_catalogue(", ".join(many), films)
    assert read.unjudged == [*many[:24], "36 more"]
    listed = read_with_catalogue("sequels, " + "horror, comedy, drama, action, " * 8, films)
    assert listed.unjudged[:2] == ["sequels", "horror"] and len(listed.unjudged) == 3


def test_a_word_is_named_once_though_it_is_searched_and_unknown(films: OpenWorld) -> None:
    for wish in ("something like Hitchcock", "Hitchcock"):
        line = understood_line(read_with_catalogue(wish, films), FILMS)
        assert line.count("Hitchcock") == 1, line
    line = understood_line(read_with_catalogue("Christmas with Tom Hanks", films), FILMS)
    assert line == "Searched by the words: Christmas. This catalogue says nothing about: Tom Hanks."


async def test_what_some_item_has_in_its_text_can_be_left_out(films: OpenWorld) -> None:
    read = read_with_catalogue("no batman, nothing in Paris", films)
    assert read.not_words == ["batman", "Paris"] and read.words == []
    assert understood_line(read, FILMS) == "Understood: nothing with 'batman', nothing with 'Paris'."
    found = await drawn(films, np.ones(5, dtype=np.bool_), [read])
    assert found.allowed.tolist() == [True, False, True, True, False] and found.unmet == []


@pytest.mark.parametrize(
    "words", ["more like this one", "I like this!", "something similar to that film, please", "more of this"]
)
async def test_this_is_the_item_that_a_comment_is_on(films: OpenWorld, words: str) -> None:
    read = await understand(films, f"no war\n{commented(words, 'Batman Returns')}")
    assert (read.like, read.unlike, read.unjudged) == (["2"], [], ["War"])
    refused = await understand(films, commented("nothing like this", "Batman Returns"))
    assert (refused.like, refused.unlike) == ([], ["2"])
    assert (await understand(films, words)).like == []


def test_non_turns_the_next_word_alone(films: OpenWorld) -> None:
    read = read_with_catalogue("non-violent comedies", films)
    assert read.want == [[["Comedy"]]] and [["Horror"]] in read.avoid


def test_a_title_that_is_an_everyday_word_for_a_category_is_a_name_where_it_is_spelt_as_one() -> None:
    items = [
        Item("1", "Alien (1979)", ("Sci-Fi",)),
        Item("2", "Blade Runner (1982)", ("Sci-Fi",)),
        Item("3", "War", ("War",)),
    ]
    finder = TitleFinder(Catalogue(items), np.array([5, 5, 5]))
    assert finder.find("films like Alien and Blade Runner").items == [(0,), (1,)]
    assert finder.find("films like aliens or robots").items == finder.find("something like War, please").items == []
