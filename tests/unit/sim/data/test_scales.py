"""Ratings of other scales, and items without categories or with thousands of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.data.ratings import Ratings
from sim.data.source import SourceFiles
from sim.data.sources import load_ratings
from sim.errors import BadInputError, MissingOptionsError
from sim.world import World

ITEMS = "item,title,genres,author,year\n" + "".join(
    f"{n},Title {n},Drama,{author},{year}\n"
    for n, (author, year) in enumerate(
        [('"King, Stephen"', 1986), ('"King, Stephen"', 1994), ("Jane Austen", 1815), ("Nobody", ""), ("", 1999)], 1
    )
)


def read(folder: Path, values: Sequence[object], items: str = ITEMS, **given: Any) -> Ratings:
    """Read ratings of one user for item 1, 2, 3 and so on."""
    rows = [f"u{place // 5},{place % 5 + 1},{value}" for place, value in enumerate(values)]
    (folder / "r.csv").write_text("\n".join(["user,item,rating", *rows]))
    (folder / "i.csv").write_text(items)
    return load_ratings("csv", 0, SourceFiles(ratings=folder / "r.csv", items=folder / "i.csv", **given))


@pytest.mark.parametrize(
    ("scale", "values", "ratings"),
    [
        ("", [0.5, 3, 5], [0.5, 3, 5]),
        ("1-10", [1, 10, 5.5], [1, 5, 3]),
        ("0-100", [0, 100, 75], [1, 5, 4]),
        ("-10-10", [-10, 10, 0], [1, 5, 3]),
        ("thumbs", ["up", "down", 1], [5, 1, 5]),
        ("thumbs", [-1, 0, "True"], [1, 1, 5]),
        ("thumbs", ["0.0", "-", "1.0"], [1, 1, 5]),
        ("plays", [1, 7, 3], [3, 3, 3]),
    ],
)
def test_values_of_a_scale_become_ratings(
    tmp_path: Path, scale: str, values: list[object], ratings: list[float]
) -> None:
    read_ratings = read(tmp_path, values, scale=scale)
    assert read_ratings.values.tolist() == pytest.approx(ratings)
    assert list(read_ratings.read_as.values()) == ([3] if scale not in ("", "plays") else [])


def test_plays_count_by_their_fifth_among_those_of_the_item(tmp_path: Path) -> None:
    values = [plays if item == 0 else 0 for plays in (1, 20, 300, 4_000, 50_000) for item in range(5)]
    ratings = read(tmp_path, values, scale="plays")
    assert ratings.values.tolist() == [1, 2, 3, 4, 5] and ratings.left_out["items never played"] == 20


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([8, 1, 10, 7], ["--scale", "1-10"]),
        ([0, 8, 10, 7], ["--drop-zeros", "--scale", "1-10"]),
        ([0, 5, 4, 3], ["--drop-zeros"]),
        ([0, 87, 54, 3], ["--drop-zeros", "--scale", "1-100"]),
        ([0.5, 8.5, 10], ["--scale", "0-10"]),
        ([0, 1, 1, 0], ["--scale", "thumbs"]),
        ([-1, 1, 1], ["--scale", "thumbs"]),
        ([-7.5, 9.5, 1], ["--scale=-7.5-9.5"]),
        ([1, 4_000, 17], ["--scale", "plays"]),
    ],
)
def test_the_scale_that_values_plainly_have_is_proposed(
    tmp_path: Path, values: list[float], options: list[str]
) -> None:
    with pytest.raises(MissingOptionsError, match=f"outside 0.5-5.* run from .*; add: {options[0]}") as refused:
        read(tmp_path, values)
    assert list(refused.value.options) == options
    proposed = " ".join(options).replace("=", " ").split()
    scale = proposed[proposed.index("--scale") + 1] if "--scale" in proposed else ""
    found = read(tmp_path, values, scale=scale, drop_zeros="--drop-zeros" in proposed)
    assert ((found.values >= 0.5) & (found.values <= 5)).all()


def test_zeros_that_are_no_ratings_are_left_out_when_asked_and_counted(tmp_path: Path) -> None:
    ratings = read(tmp_path, [0, 10, 0, 5.5, 1], scale="1-10", drop_zeros=True)
    assert ratings.values.tolist() == pytest.approx([5, 3, 1])
    assert ratings.left_out == {"ratings of 0, which are none": 2}


def test_zeros_between_likes_and_dislikes_are_left_out_when_asked(tmp_path: Path) -> None:
    with pytest.raises(MissingOptionsError, match=r"--scale thumbs \(with --drop-zeros if 0 means .* no rating\)"):
        read(tmp_path, [1, 0, -1])
    ratings = read(tmp_path, [1, 0, -1, "0.0", "down"], scale="thumbs", drop_zeros=True)
    assert ratings.values.tolist() == [5, 1, 1]
    assert ratings.left_out == {"ratings of 0, which are none": 2}


def test_ratings_beyond_the_first_ones_are_checked_too(tmp_path: Path) -> None:
    rows = "".join(f"{n},1,4\n" for n in range(20_001))
    (tmp_path / "r.csv").write_text(f"user,item,rating\n{rows}x,1,9\n")
    (tmp_path / "i.csv").write_text(ITEMS)
    with pytest.raises(MissingOptionsError, match=r"rating 9 is outside 0.5-5, as are 1 of all 20,002 ratings.*1-10"):
        load_ratings("csv", 0, SourceFiles(ratings=tmp_path / "r.csv", items=tmp_path / "i.csv"))


@pytest.mark.parametrize("scale", ["10-1", "stars", "1-", "5-5", "1..10", "nan-5"])
def test_what_is_no_scale_is_refused(tmp_path: Path, scale: str) -> None:
    with pytest.raises(BadInputError, match="is no scale; write LOW-HIGH such as 1-10"):
        read(tmp_path, [1], scale=scale)


def test_all_faults_of_the_columns_and_the_scale_are_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("User-ID;ISBN;Book-Rating\n1;a;0\n1;b;8\n")
    (tmp_path / "i.csv").write_text("ISBN;Book-Title;Book-Author\na;Emma;Jane\nb;Dune;Frank\n")
    with pytest.raises(MissingOptionsError) as refused:
        load_ratings("csv", 0, SourceFiles(ratings=tmp_path / "r.csv", items=tmp_path / "i.csv"))
    told = str(refused.value)
    for words in (
        "r.csv has no columns 'user', 'item', 'rating', it has: User-ID, ISBN, Book-Rating",
        "i.csv has no columns 'item', 'title', 'genres'",
        "(without genres, add --categories with a column, decades or clusters)",
        "the rating 0 is outside 0.5-5",
        "--drop-zeros --scale 1-10 (if 0 means that there is no rating; else --scale 0-10)",
    ):
        assert words in told
    columns = dict(part.split("=") for part in refused.value.options[1].split(","))
    ratings = load_ratings(
        "csv",
        0,
        SourceFiles(
            ratings=tmp_path / "r.csv",
            items=tmp_path / "i.csv",
            columns=columns,
            scale="1-10",
            drop_zeros=True,
            categories="Book-Author",
        ),
    )
    assert [(item.title, item.genres) for item in ratings.catalogue] == [("Dune", ("Frank",))]


def test_categories_come_from_a_column_cut_to_the_most_frequent(tmp_path: Path) -> None:
    ratings = read(tmp_path, [4] * 10, categories="author", most=2)
    assert [item.genres for item in ratings.catalogue] == [
        ("King, Stephen",),
        ("King, Stephen",),
        ("Jane Austen",),
        ("Other",),
        (),
    ]


def test_thousands_of_genres_are_cut_to_the_most_frequent(tmp_path: Path) -> None:
    names = "|".join(f"Tag {n:04}" for n in range(600))
    items = f"item,title,genres\n1,A,{names}\n2,B,Tag 0007|Tag 0009\n3,C,Tag 0599\n4,D,\n"
    with pytest.raises(BadInputError, match="600 genres in all.*--categories with the column of genres and --most"):
        read(tmp_path, [4] * 4, items)
    ratings = read(tmp_path, [4] * 4, items, categories="genres", most=2)
    assert [item.genres for item in ratings.catalogue] == [
        ("Tag 0007", "Tag 0009"),
        ("Tag 0007", "Tag 0009"),
        ("Other",),
        (),
    ]
    tagged = 'item,title,tags\n1,A,"x, y, z"\n2,B,"x, y"\n3,C,z\n4,D,x\n'
    again = read(tmp_path, [4] * 4, tagged, categories="genres", most=2, columns={"genres": "tags"})
    assert [item.genres for item in again.catalogue] == [("x", "y"), ("x", "y"), ("Other",), ("x",)]


def test_categories_come_from_decades(tmp_path: Path) -> None:
    ratings = read(tmp_path, [4] * 5, categories="decades")
    assert [item.genres for item in ratings.catalogue] == [("1980s",), ("1990s",), ("1810s",), (), ("1990s",)]
    with pytest.raises(BadInputError, match="no item has a year"):
        read(tmp_path, [4], "item,title\n1,A\n", categories="decades")


def test_sources_without_columns_cut_their_genres_or_take_decades(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4,1\n1,2,4,2\n2,1,4,3\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat (1995),Crime|Drama\n2,Emma (1815),War\n")

    def genres(categories: str, most: int = 20) -> list[tuple[str, ...]]:
        given = SourceFiles(path=tmp_path, categories=categories, most=most)
        return [item.genres for item in load_ratings("movielens", 0, given).catalogue]

    assert genres("decades") == [("1990s",), ("1810s",)]
    assert genres("genres", most=1) == [("Crime",), ("Other",)]
    with pytest.raises(BadInputError, match="'movielens' has no column 'author' for --categories; use decades"):
        genres("author")


def test_categories_come_from_clusters_of_the_logs(tmp_path: Path) -> None:
    # Two tastes: one half of the users likes the first half of the items, the other half likes the second.
    chance = np.random.default_rng(0)
    rows = [
        f"{user},{item},{5 if (user < 40) == (item < 20) else 1}"
        for user in range(80)
        for item in range(40)
        if chance.random() < 0.6
    ]
    (tmp_path / "r.csv").write_text("\n".join(["user,item,rating", *rows]))
    (tmp_path / "i.csv").write_text(
        "\n".join(["item,title", *(f"{item},Title {item:02} (1990)" for item in range(40))])
    )
    given = SourceFiles(ratings=tmp_path / "r.csv", items=tmp_path / "i.csv", categories="clusters")
    ratings = load_ratings("csv", 0, given)
    world, again = (World.build("clustered", ratings, clusters=2) for _ in range(2))
    kinds = {item.genres for item in world.catalogue}
    assert world.catalogue == again.catalogue and len(kinds) == 2 == len(world.catalogue.genres)
    halves = [[item.genres for item in world.catalogue if (int(item.id) < 20) == first] for first in (True, False)]
    assert all(len(set(half)) == 1 for half in halves)
    for kind, half in zip((halves[0][0], halves[1][0]), (range(20), range(20, 40)), strict=True):
        first, _, second = kind[0].partition(" · ")
        assert {first, second} <= {f"Title {item:02}" for item in half}, "a cluster is named by two of its titles"
