"""Source contract: every built-in source passes, and faulty sources fail."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graph.conformance import SourceContract
from sim.data.collector import Collector
from sim.data.ratings import Ratings
from sim.data.source import Source, SourceFiles
from sim.data.sources import SOURCES
from sim.data.streaming import json_rows

USERS, ITEMS = 40, 20


def pairs() -> list[tuple[int, int, float]]:
    """Return user, item and rating of a sample in which each user rates most items."""
    chance = np.random.default_rng(0)
    return [(u, i, float(chance.integers(1, 6))) for u in range(USERS) for i in range(ITEMS) if chance.random() < 0.8]


def genre(item: int) -> str:
    return ("Action", "Drama", "Comedy")[item % 3]


def written(folder: Path, files: dict[str, list[Any]], **given: Any) -> SourceFiles:
    for name, lines in files.items():
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (folder / name).write_text(text)
    return SourceFiles(**given)


def movielens(folder: Path) -> SourceFiles:
    return written(
        folder,
        {
            "ratings.csv": ["userId,movieId,rating,timestamp", *(f"{u},{i},{r},{u + i}" for u, i, r in pairs())],
            "movies.csv": ["movieId,title,genres", *(f"{i},Movie {i},{genre(i)}" for i in range(ITEMS))],
        },
        path=folder,
    )


def steam(folder: Path) -> SourceFiles:
    hours = [f"{u}\t{i}\t{10 * r + u / 100}" for u, i, r in pairs()]
    games = [f"{i}\tGame {i}\t{genre(i)}" for i in range(ITEMS)]
    return written(
        folder,
        {
            "game_play.dat": ["User_ID\tGame_ID\tHours", *hours],
            "items_with_genres.tsv": ["game_id\ttitle\tgenres", *games],
        },
        path=folder,
    )


def amazon(folder: Path) -> SourceFiles:
    reviews = [{"user_id": f"u{u}", "parent_asin": f"b{i}", "rating": r, "timestamp": u + i} for u, i, r in pairs()]
    books = [{"parent_asin": f"b{i}", "title": f"Book {i}", "categories": ["Books", genre(i)]} for i in range(ITEMS)]
    return written(folder, {"Books.jsonl": reviews, "meta_Books.jsonl": books}, path=folder)


def table(folder: Path) -> SourceFiles:
    return written(
        folder,
        {
            "ratings.csv": ["user,item,rating", *(f"{u},{i},{r}" for u, i, r in pairs())],
            "items.csv": ["item,title,genres", *(f"{i},Item {i},{genre(i)}" for i in range(ITEMS))],
        },
        ratings=folder / "ratings.csv",
        items=folder / "items.csv",
    )


GIVEN: dict[str, Callable[[Path], SourceFiles]] = {
    "movielens": movielens,
    "steam": steam,
    "amazon": amazon,
    "csv": table,
    "tiny": lambda folder: SourceFiles(),
}


class TestBuiltIn(SourceContract):
    @pytest.fixture(params=GIVEN, autouse=True)
    def of_each(self, request: pytest.FixtureRequest) -> None:
        type(self).source = SOURCES[request.param]

    def given(self, folder: Path) -> SourceFiles:
        return GIVEN[self.source.name](folder)


def test_no_built_in_source_is_left_out() -> None:
    assert {*SOURCES} == {*GIVEN}


def lines(given: SourceFiles, seed: int) -> Ratings:
    """Read the lines of one file, as a correct source does."""
    assert given.path
    collector = Collector()
    file = given.path / "lines.jsonl"
    rows = list(json_rows(file, given.progress))

    def use(row: Any) -> None:
        collector.rate(row["user"], row["item"], row["rating"], 0)

    collector.each(file, rows, use)
    for item in range(ITEMS):
        collector.describe(str(item), f"Item {item}", [genre(item)])
    return collector.ratings()


def at_random(given: SourceFiles, seed: int) -> Ratings:
    read = lines(given, seed)
    order = np.random.default_rng().permutation(len(read))
    return Ratings(
        read.users[order], read.items[order], read.values[order], read.timestamps[order], read.user_ids, read.catalogue
    )


def careless(given: SourceFiles, seed: int) -> Ratings:
    assert given.path
    for line in (given.path / "lines.jsonl").read_text().splitlines():
        json.loads(line)
    return lines(given, seed)


def too_few(given: SourceFiles, seed: int) -> Ratings:
    read = lines(given, seed)
    return Ratings(read.users[:9], read.items[:9], read.values[:9], read.timestamps[:9], read.user_ids, read.catalogue)


class Lines(SourceContract):
    def given(self, folder: Path) -> SourceFiles:
        rows = [{"user": str(u), "item": str(i), "rating": r} for u, i, r in pairs()]
        return written(folder, {"lines.jsonl": rows}, path=folder)


@pytest.mark.parametrize(
    ("read", "test"),
    [
        (at_random, SourceContract.test_the_same_files_give_the_same_ratings),
        (careless, SourceContract.test_a_file_that_is_no_such_file_is_refused_in_one_line),
        (too_few, SourceContract.test_a_world_can_be_made_of_them),
    ],
)
def test_a_source_that_breaks_the_contract_is_found_out(read: Any, test: Any, tmp_path: Path) -> None:
    class Good(Lines):
        source = Source("lines", lines, takes=("path",))

    class Broken(Lines):
        source = Source("lines", read, takes=("path",))

    (tmp_path / "good").mkdir()
    (tmp_path / "broken").mkdir()
    test(Good(), tmp_path / "good")
    with pytest.raises(Exception):  # noqa: B017, PT011 - the kind of error is open
        test(Broken(), tmp_path / "broken")
