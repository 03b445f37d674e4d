"""Tables as people have them: quotation marks, forms of genres, ids, times and numbers, and reports of the rest."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from sim.data.fields import Malformed, genre_names, title_text
from sim.data.ratings import Ratings
from sim.data.source import SourceFiles
from sim.data.sources import load_ratings
from sim.errors import BadInputError

RATINGS = "user,item,rating\n" + "".join(f"u,{item},4\n" for item in range(1, 7))


def read(folder: Path, ratings: str | bytes, items: str | bytes, suffix: str = ".csv", **given: Any) -> Ratings:
    """Read two tables of these contents."""
    paths = folder / f"ratings{suffix}", folder / f"items{suffix}"
    for path, content in zip(paths, (ratings, items), strict=True):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_ratings("csv", 0, SourceFiles(None, *paths, **given))


def titles(ratings: Ratings) -> list[str]:
    return [item.title for item in ratings.catalogue]


def test_a_mark_that_is_never_closed_is_a_letter_in_a_table_of_tabs(tmp_path: Path) -> None:
    items = "item\ttitle\tgenres\n1\tEmma\tDrama\n"
    items += '2\t"Quoted"\tDrama\n3\t"Weird Tales\tDrama\n4\t12" Disc\tWar\n5\tDune\tWar\n'
    ratings = read(tmp_path, RATINGS.replace(",", "\t"), items, ".tsv")
    assert titles(ratings) == ["Emma", "Quoted", '"Weird Tales', '12" Disc', "Dune"]
    assert {genre for item in ratings.catalogue for genre in item.genres} == {"Drama", "War"}


@pytest.mark.parametrize("table", ["ratings", "items"])
@pytest.mark.parametrize("rest", ["", '6,"Heat",War\n'])
def test_a_mark_that_is_never_closed_is_named_with_its_line(tmp_path: Path, table: str, rest: str) -> None:
    items = "item,title,genres\n1,Emma,Drama\n2,Dune,War\n"
    broken = {"ratings": RATINGS, "items": items}
    broken[table] += '"3,Weird Tales,Drama\n4,Ivanhoe,War\n' + rest
    line = broken[table].count("\n", 0, broken[table].index('"')) + 1
    with pytest.raises(BadInputError, match=rf"{table}\.csv line {line} is no row of a table: a quotation mark"):
        read(tmp_path, broken["ratings"], broken["items"])


def test_marks_may_be_doubled_or_escaped_and_hold_delimiters_and_lines(tmp_path: Path) -> None:
    rows = [
        '"1";"The ""Real"" Title; or so";"Drama"',
        '"3";"The \\"Real\\" Title; or so";"Drama"',
        '"4";"Two\nlines";"Drama"',
        '"5";"Ends with \\";"War"',
        "6;C:\\dir;War",
    ]
    ratings = read(tmp_path, RATINGS.replace(",", ";"), "item;title;genres\n" + "\n".join(rows))
    assert titles(ratings) == [
        'The "Real" Title; or so',
        'The "Real" Title; or so',
        "Two lines",
        "Ends with \\",
        "C:\\dir",
    ]
    assert ratings.catalogue.genres == ("Drama", "War")


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_long_description_in_marks_is_read(tmp_path: Path, delimiter: str) -> None:
    items = f'item,title,genres,description\n1,Emma,Drama,"{"Long. " * 25_000}"\n'.replace(",", delimiter)
    ratings = read(tmp_path, RATINGS, items)
    assert titles(ratings) == ["Emma"] and (ratings.catalogue[0].description or "").startswith("Long. Long.")


def test_blank_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    ratings = read(tmp_path, "\n" + RATINGS + "u,9\n", "\r\n  \r\nitem;title;genres\r\n1;Emma;Drama\r\n")
    assert titles(ratings) == ["Emma"]
    assert "lines of ratings.csv: columns: 2 instead of 3 (first: line 9: 'u,9')" in ratings.left_out
    with pytest.raises(BadInputError, match=r"ratings\.csv has only blank lines"):
        read(tmp_path, "\n\n", "item,title,genres\n1,Emma,Drama\n")


def test_rows_with_other_numbers_of_columns_are_left_out(tmp_path: Path) -> None:
    items = "item,title,genres\n1,Emma,Drama\n2,Dune, part two,War\n3,Short\n4,Ends with a comma,War,\n"
    ratings = read(tmp_path, RATINGS + "u,9,4,1\n", items)
    assert titles(ratings) == ["Emma", "Ends with a comma"]
    assert ratings.left_out == {
        "lines of ratings.csv: columns: 4 instead of 3 (first: line 8: 'u,9,4,1')": 1,
        "lines of items.csv: columns: 4 instead of 3 (first: line 3: '2,Dune, part two,War')": 1,
        "lines of items.csv: columns: 2 instead of 3 (first: line 4: '3,Short')": 1,
        "ratings of items that are not described": 4,
    }


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("Action|Drama", ["Action", "Drama"]),
        ("['Action', 'Drama']", ["Action", "Drama"]),
        ('["Action", null, "Drama", NaN]', ["Action", "Drama"]),
        ("['Action' 'Drama']", ["Action", "Drama"]),
        ("""['Drama' "Children's"]""", ["Drama", "Children's"]),
        ("""["Children's" "Women's"\n 'War']""", ["Children's", "Women's", "War"]),
        ("[Action, Drama]", ["Action", "Drama"]),
        ('[{"id": 16, "name": "Action"}, {"id": 18, "name": "Drama"}]', ["Action", "Drama"]),
        ("[{'id': 16, 'name': 'Action'}]", ["Action"]),
        ('{"Action": 12, "Drama": 1, "War": 0}', ["Action", "Drama"]),
        ('{"16": "Action", "18": "Drama"}', ["Action", "Drama"]),
        (["Action", None, "Drama", float("nan")], ["Action", "Drama"]),
        ([("Action", 3), ("War", 0), ("Drama", 1)], ["Action", "Drama"]),
        ([{"name": "Action"}], ["Action"]),
        ({"Action": True, "War": False}, ["Action"]),
        ("Sci-Fi &amp; Fantasy", ["Sci-Fi & Fantasy"]),
        *((number, [text]) for number, text in ((1999, "1999"), (1999.0, "1999"), (0.5, "0.5"))),
        *(
            (placeholder, [])
            for placeholder in ("(no genres listed)", "\\N", "nan", "None", "", "[]", None, float("nan"))
        ),
        ("[None, 'nan', '(no genres listed)', '\\\\N']", []),
    ],
)
def test_genres_are_read_in_all_usual_forms(cell: Any, names: list[str]) -> None:
    assert genre_names(cell) == names


def test_titles_about_functions_are_no_scripts() -> None:
    for title in ("Form and Function (2012)", "Function(s) of State", "The function f(x) = {x}"):
        assert title_text(title) == title
    for script in ("function(){ go(); }", "(function load (a, b) { return a })"):
        with pytest.raises(Malformed, match="a page's script"):
            title_text(script)


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (("Action, Comedy", "Drama", "Drama"), ("Action", "Comedy", "Drama")),
        (("Action;Comedy", "Drama", "Drama"), ("Action", "Comedy", "Drama")),
        (("Health, Mind|War", "Drama", "Drama"), ("Drama", "Health, Mind", "War")),
        (("Action &amp; Adventure, Drama", "War", "War"), ("Action & Adventure", "Drama", "War")),
        (("Drama &#124; War", "Drama", "Drama"), ("Drama", "War")),
        (("Either; or", "Comedy, Drama", "Drama, War"), ("Comedy", "Drama", "Either; or", "War")),
        (("Either|or", "Comedy, Drama", "Drama, War"), ("Comedy", "Drama", "Either|or", "War")),
    ],
)
def test_the_whole_column_tells_what_separates_its_genres(
    tmp_path: Path, cells: tuple[str, ...], names: tuple[str, ...]
) -> None:
    items = "item\ttitle\tgenres\n" + "".join(f"{n}\tTitle {n}\t{cell}\n" for n, cell in enumerate(cells, 1))
    assert read(tmp_path, RATINGS, items).catalogue.genres == names


def test_a_cell_that_holds_no_genres_is_told(tmp_path: Path) -> None:
    ratings = read(tmp_path, RATINGS, "item\ttitle\tgenres\n1\tEmma\tDrama\n2\tDune\t[[1], 2\n3\tNot\t[['a'], ['b']]\n")
    assert [why for why in ratings.left_out if "items.csv" in why] == [
        "lines of items.csv: no list of genres in 'genres' (first: line 3: '[[1], 2')",
        "lines of items.csv: lists within lists in 'genres' (first: line 4: ['a'])",
    ]


@pytest.mark.parametrize("title", ["", "\\N", "nan", "None", "NULL", "   "])
def test_placeholders_are_no_titles_and_no_ids(tmp_path: Path, title: str) -> None:
    ratings = read(tmp_path, RATINGS + f"{title},1,4\n", f"item,title,genres\n1,Emma,Drama\n2,{title},Drama\n")
    assert titles(ratings) == ["Emma"] and ratings.user_ids == ("u",)
    assert any("no title in 'title' (first: line 3" in why for why in ratings.left_out)
    assert any("no id in 'user' (first: line 8" in why for why in ratings.left_out)


def test_whole_floats_are_ids_decimal_commas_are_numbers_and_empty_times_are_early(tmp_path: Path) -> None:
    ratings = read(
        tmp_path,
        "user;item;rating;time\n7.0;1.0;4,5;2015-03-03\n7;2.0;4;\n8;1.0;3,0;nan\n",
        "item;title;genres\n1;Emma;Drama\n2;Dune;War\n",
    )
    assert ratings.user_ids == ("7", "8") and sorted(ratings.values) == [3, 4, 4.5]
    assert not ratings.left_out and ratings.timestamps.tolist() == [1425340800, 0, 0]
    assert ratings.read_as == {
        "decimal commas in 'rating'": 2,
        "ids that are whole floats (1.0 as 1)": 4,
        "empty times in 'time' (earlier than all others)": 2,
    }


@pytest.mark.parametrize(
    ("ratings", "items", "told"),
    [
        (
            "user,item,rating,time\nu,1,4,3.3.2015\n",
            "",
            "no ISO date .* in 'time' \\(line 2: '3.3.2015'\\)",
        ),
        ('user,item,rating\nu,1,"1,250"\n', "", "no number in 'rating' \\(line 2: '1,250'\\)"),
        ("user,item,rating\nu,tt1,4\n", "item,title,genres\n1,Emma,War\n", "the ratings have 'tt1', the items '1'"),
    ],
)
def test_what_cannot_be_read_is_said_with_column_value_and_line(
    tmp_path: Path, ratings: str, items: str, told: str
) -> None:
    with pytest.raises(BadInputError, match=told):
        read(tmp_path, ratings, items or "item,title,genres\n1,Emma,War\n")


def test_control_characters_of_a_value_are_escaped_in_what_is_said(tmp_path: Path) -> None:
    ratings = read(tmp_path, RATINGS + "u,1,\x1b[31m\u202e\n", "item,title,genres\n1,Emma,War\n")
    assert any("'\\x1b[31m\\u202e'" in why for why in ratings.left_out)
    assert all(why.isprintable() for why in ratings.left_out)


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le-bom", "utf-8-sig"])
def test_the_first_bytes_tell_the_kind_of_a_file(tmp_path: Path, coding: str) -> None:
    items = "item,title,genres\n" + "".join(f"{n},バス {n},Drama\n" for n in range(1, 7))

    def coded(text: str) -> bytes:
        return b"\xff\xfe" + text.encode("utf-16-le") if coding == "utf-16-le-bom" else text.encode(coding)

    assert titles(read(tmp_path, coded(RATINGS), coded(items))) == [f"バス {n}" for n in range(1, 7)]
    packed = read(tmp_path, gzip.compress(coded(RATINGS)), gzip.compress(coded(items)), ".txt")
    assert titles(packed) == [f"バス {n}" for n in range(1, 7)]


@pytest.mark.parametrize(
    ("start", "told"),
    [(b"PK\x03\x04", "a ZIP archive"), (b"\xfd7zXZ\0", "an xz archive"), (b"BZh9", "a bzip2 archive")],
)
def test_other_archives_are_named(tmp_path: Path, start: bytes, told: str) -> None:
    with pytest.raises(BadInputError, match=rf"ratings\.csv is {told}"):
        read(tmp_path, start + bytes(100), "item,title,genres\n1,Emma,War\n")


def test_a_text_of_utf_16_that_is_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no UTF-16 text"):
        read(tmp_path, RATINGS.encode("utf-16")[:-1], "item,title,genres\n1,Emma,War\n")


def test_the_id_of_the_items_is_found_under_its_other_name_and_item_is_explained(tmp_path: Path) -> None:
    assert titles(read(tmp_path, RATINGS, "id,title,genres\n1,Emma,Drama\n")) == ["Emma"]
    ratings = RATINGS.replace("item", "movie")
    with pytest.raises(BadInputError) as refused:
        read(tmp_path, ratings, "film,title,genres\n1,Emma,Drama\n", columns={"item": "movie"})
    assert "`item` names the column of both tables; `id` names another one of the items" in str(refused.value)


def test_items_have_the_description_of_a_column(tmp_path: Path) -> None:
    items = "item,title,genres,description\n1,Emma,Drama,A <b>match</b>\x1bmaker &amp; more\n2,Dune,War,\n"
    ratings = read(tmp_path, RATINGS, items)
    assert [item.description for item in ratings.catalogue] == ["A <b>match</b> maker & more", None]
    assert "matchmaker" not in ratings.catalogue.item("1").label
    mapped = read(tmp_path, RATINGS, items.replace("description", "blurb"), columns={"description": "blurb"})
    assert mapped.catalogue == ratings.catalogue


def test_no_title_genre_or_description_holds_a_control_character(tmp_path: Path) -> None:
    items = "item,title,genres,description\n1,\x1b[31mEm\u202ema\x07,Dra\x9bma|\x1b]0;x\x07War,\x1b[2Jtext\n"
    item = read(tmp_path, RATINGS, items).catalogue.item("1")
    assert item.title == "Em ma" and item.genres == ("Dra ma", "War") and item.description == "text"
