"""Titles of twenty scripts: each is grounded to itself, in any form of its letters, and to nothing else."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from nodes.tools.grounding import Grounder, looks_like_no_item
from nodes.tools.open_world import OpenWorld, open_world_now
from nodes.tools.titles import normalize, titles_of
from nodes.tools.wishes import read_with_catalogue
from nodes.user_view import brought_history
from sim.catalogue import Catalogue, Item
from sim.data.source import SourceFiles
from sim.data.sources import load_ratings
from sim.world import World
from tests.benchmarks.scripts import SCRIPTS

TITLES = [title for titles in SCRIPTS.values() for title in titles]


def catalogue(titles: list[str]) -> Catalogue:
    return Catalogue(Item(f"id {title}", title, ("Drama",)) for title in titles)


class Refusing(Embeddings):
    """Embedding that may not be asked: the words of a title suffice."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise AssertionError(texts)

    def embed_query(self, text: str) -> list[float]:
        raise AssertionError(text)


def test_the_set_has_300_titles_in_20_scripts() -> None:
    assert len(SCRIPTS) == 20 and len(TITLES) == len(set(TITLES)) == 300


FORMS: dict[str, Callable[[str], str]] = {
    "as written": str,
    "composed": lambda title: unicodedata.normalize("NFC", title),
    "decomposed": lambda title: unicodedata.normalize("NFD", title),
    "upper case": str.upper,
    "in quotation marks": lambda title: f"«{title}».",
    "as a list entry": lambda title: f"1. {title}",
    "with spaces": lambda title: f"\u3000{title}\u00a0",
    "wide": lambda title: unicodedata.normalize("NFKC", title),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_title_is_grounded_to_itself(form: str) -> None:
    grounder = Grounder(catalogue(TITLES), Refusing())
    wrong = {title: grounder.ground(FORMS[form](title)).title for title in TITLES}
    assert {title: found for title, found in wrong.items() if title != found} == {}


def test_no_title_is_grounded_to_another() -> None:
    wrong = {}
    # Neighbours of the file differ by a mark, so no two of them are left out at once.
    for fold in range(10):
        rest = Grounder(catalogue([title for place, title in enumerate(TITLES) if place % 10 != fold]), Refusing())
        for title in TITLES[fold::10]:
            if (found := rest.named(title)) is not None:
                wrong[title] = found.item.title
    assert wrong == {}


def test_titles_that_differ_by_a_mark_stay_two_and_accents_may_be_left_out() -> None:
    assert len({normalize(title) for title in TITLES}) == 300
    for one, other in (("バス", "ハス"), ("がき", "かき"), ("मा", "मी"), ("มา", "ม้า"), ("סֵפֶר", "סָפָר")):
        assert normalize(one) != normalize(other)
    assert normalize("Amélie") == normalize("Amelie") and normalize("Ёлки") == normalize("Елки")
    assert normalize("Κυνόδοντας") == normalize("Κυνοδοντας") and normalize("ﾊﾞｽ") == normalize("バス")
    found = titles_of(catalogue(TITLES)).similar("कोर्ट")
    assert found is None or [TITLES[place] for place in found.positions] == ["कोर्ट"]


def test_no_title_is_taken_for_a_list_or_a_stop_word() -> None:
    everything = catalogue(TITLES)
    assert [title for title in TITLES if looks_like_no_item(title, everything)] == []


@pytest.fixture(scope="module")
def world_of_titles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose users, ids, titles and categories are of all scripts, as tables."""
    folder, chance = tmp_path_factory.mktemp("scripts"), np.random.default_rng(0)
    rows = [
        f"{TITLES[user]}\t{title}\t{chance.integers(1, 6)}"
        for user in range(0, 300, 8)
        for title in TITLES
        if chance.random() < 0.6
    ]
    (folder / "ratings.tsv").write_text("\n".join(["user\titem\trating", *rows]), encoding="utf-8")
    items = [f"{title}\t{title}\t{script} {titles[0]}" for script, titles in SCRIPTS.items() for title in titles]
    (folder / "items.tsv").write_text("\n".join(["item\ttitle\tgenres", *items]), encoding="utf-8")
    return folder


def test_ids_titles_and_categories_of_all_scripts_are_read_as_written(world_of_titles: Path) -> None:
    given = SourceFiles(ratings=world_of_titles / "ratings.tsv", items=world_of_titles / "items.tsv")
    ratings = load_ratings("csv", 0, given)
    assert {(item.id, item.title) for item in ratings.catalogue} == {(title, title) for title in TITLES}
    assert set(ratings.user_ids) == {TITLES[user] for user in range(0, 300, 8)}
    assert set(ratings.catalogue.genres) == {f"{script} {titles[0]}" for script, titles in SCRIPTS.items()}


@pytest.fixture
def opened(world_of_titles: Path, home: Path) -> OpenWorld:
    given = SourceFiles(ratings=world_of_titles / "ratings.tsv", items=world_of_titles / "items.tsv")
    World.build("scripts", load_ratings("csv", 0, given), factors=2).save(home / "worlds" / "scripts")
    return open_world_now("scripts")


def test_wishes_name_titles_and_categories_of_all_scripts(opened: OpenWorld) -> None:
    read = {title: read_with_catalogue(f"something like “{title}”", opened).like for title in TITLES}
    assert {title: found for title, found in read.items() if found != [title]} == {}
    for script, titles in SCRIPTS.items():
        category = f"{script} {titles[0]}"
        assert [[category]] in read_with_catalogue(f"no {category}, please", opened).avoid


def test_a_history_of_titles_of_all_scripts_is_taken_as_written(opened: OpenWorld) -> None:
    taken = brought_history(opened, "someone", TITLES)
    assert [item.title for item in taken] == TITLES
