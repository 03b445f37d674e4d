"""Readers of data sets, on small files in the published formats."""

import builtins
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.data import opening, sources, streaming
from sim.data.collector import MOST_GENRES
from sim.data.ratings import Ratings
from sim.data.scale import shares_to_ratings
from sim.data.source import SourceFiles
from sim.data.sources import load_ratings
from sim.data.sources.movielens import _FLAGS
from sim.errors import BadInputError
from sim.world.splitting import keep_core
from tests.shared_data import FOLDER

Triple = tuple[str, str, float]


def triples(ratings: Ratings) -> set[Triple]:
    """Return the ratings as (user id, item id, rating)."""
    return {
        (ratings.user_ids[user], ratings.catalogue[int(item)].id, float(value))
        for user, item, value in zip(ratings.users, ratings.items, ratings.values, strict=True)
    }


def written(folder: Path, **files: str | bytes) -> Path:
    """Write files and return their folder. `__` in a name stands for a dot; names that end in `.gz` are gzipped."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        path = folder / name.replace("__", ".")
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return folder


def read(source: str, folder: Path) -> Ratings:
    return load_ratings(source, 0, SourceFiles(path=folder))


def read_csv(folder: Path, **columns: str) -> Ratings:
    return load_ratings("csv", 0, SourceFiles(ratings=folder / "r.csv", items=folder / "i.csv", columns=columns))


def test_movielens_100k_flags_are_genres_and_its_latin_letters_are_read(tmp_path: Path) -> None:
    flags = {"7": ("Animation", "Comedy"), "8": ("Drama",), "9": ()}
    titles = {"7": "Amélie (2001)", "8": "Léon &amp; Co (1994)", "9": "Blank (1990)"}
    lines = [
        "|".join([item, titles[item], "01-Jan-1995", "", "http://x", *("01"[name in names] for name in _FLAGS)])
        for item, names in flags.items()
    ]
    data = "1\t7\t5\t10\n1\t8\t2\t11\n2\t9\t1\t12\n3\t99\t4\t13\n4\t7\tx\t14\n"
    ratings = read("movielens", written(tmp_path, u__data=data, u__item="\n".join(lines).encode("latin-1")))
    assert triples(ratings) == {("1", "7", 5.0), ("1", "8", 2.0), ("2", "9", 1.0)}
    assert [item.title for item in ratings.catalogue] == ["Amélie (2001)", "Léon & Co (1994)", "Blank (1990)"]
    assert [item.genres for item in ratings.catalogue] == list(flags.values())
    assert ratings.left_out == {
        "lines of u.data: no number in 'rating' (first: line 5: 'x')": 1,
        "ratings of items that are not described": 1,
    }


def test_movielens_1m_titles_may_hold_the_delimiter(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "ratings__dat": "1::10::4::978300760\n2::10::3::978300761\n2::11::1::978300762\n2::11\n",
        "movies__dat": "10::Alien:: Return (1999)::Horror|Sci-Fi\n11::Caf\xe9 (1998)::Drama\n".encode("latin-1"),
    }
    ratings = read("movielens", written(tmp_path, **files))
    assert ratings.catalogue.item("10").label == "Alien:: Return (1999) (Horror, Sci-Fi)"
    assert ratings.catalogue.item("11").title == "Café (1998)"
    assert ratings.timestamps.tolist() == [978300760, 978300761, 978300762]
    assert ratings.left_out == {"lines of ratings.dat: columns: 2 instead of 4 (first: line 4: '2::11')": 1}


@pytest.mark.parametrize("suffix", ["", "__gz"])
def test_movielens_latest_is_read_gzipped_or_not(tmp_path: Path, suffix: str) -> None:
    files = {
        f"ratings__csv{suffix}": "userId,movieId,rating,timestamp\n1,2,4.5,5\n3,2,0.5,6\n1,4,3,7\n",
        f"movies__csv{suffix}": 'movieId,title,genres\n2,"Sabrina, again (1995)",Comedy|Romance\n'
        "4,Unlisted,(no genres listed)|IMAX\n5,Never rated,War\n",
    }
    ratings = read("movielens", written(tmp_path, **files))
    assert triples(ratings) == {("1", "2", 4.5), ("3", "2", 0.5), ("1", "4", 3.0)}
    assert [(item.title, item.genres) for item in ratings.catalogue] == [
        ("Sabrina, again (1995)", ("Comedy", "Romance")),
        ("Unlisted", ()),
    ]
    assert ratings.dropped == 0


GAMES = (
    "{u'app_name': u'Half-Life', u'genres': [u'Action'], u'id': u'70', u'early_access': False}\n"
    "{u'title': u'Tom &amp; Co', u'genres': [u'Indie', u'Animation &amp; Modeling'], u'id': u'71'}\n"
    '{"app_name": "Tags only", "tags": ["Puzzle"], "id": "72"}\n'
    "{u'app_name': u'No id', u'genres': [u'Action']}\n"
)


def test_steam_users_of_australia_are_ranked_by_hours_within_each_game(tmp_path: Path) -> None:
    def owner(user: str, **minutes: int) -> str:
        items = [{"item_id": game[1:], "item_name": "x", "playtime_forever": time} for game, time in minutes.items()]
        return repr({"user_id": user, "items_count": len(items), "steam_id": "7", "items": items})

    lines = [owner(f"u{n}", g70=60 * (n + 1), g71=0 if n else 5, g72=7) for n in range(5)]
    lines += [json.dumps({"user_id": "u5", "items": []}), "{'user_id': __import__('os').getcwd()}", "nonsense"]
    files = {"australian_users_items__json__gz": "\n".join(lines), "steam_games__json__gz": GAMES}
    ratings = read("steam", written(tmp_path, **files))
    assert triples(ratings) == {
        *((f"u{n}", "70", n + 1.0) for n in range(5)),
        ("u0", "71", 3.0),
        *((f"u{n}", "72", 3.0) for n in range(5)),
    }
    assert [(item.title, item.genres) for item in ratings.catalogue] == [
        ("Half-Life", ("Action",)),
        ("Tom & Co", ("Indie", "Animation & Modeling")),
        ("Tags only", ("Puzzle",)),
    ]
    assert ratings.left_out == {
        "items never played": 4,
        "lines of australian_users_items.json.gz: no record (first: line 7)": 2,
        "lines of steam_games.json.gz: no field 'id' (first: line 4)": 1,
    }


def test_steam_reviews_with_hours_and_with_recommendations(tmp_path: Path) -> None:
    reviews = [
        {"username": "ann", "product_id": "70", "hours": 9.5, "date": "2017-12-17", "text": "good"},
        {"username": "bob", "product_id": "70", "hours": 0.5, "date": "2017-12-18", "text": "bad"},
        {"username": "bob", "user_id": "765", "product_id": "71", "hours": 2.0, "date": "2017-12-19"},
        {"username": "cid", "product_id": "70", "text": "no hours"},
    ]
    lines = "\n".join(repr(one) for one in reviews)
    ratings = read("steam", written(tmp_path / "1", steam_reviews__json__gz=lines, steam_games__json__gz=GAMES))
    assert triples(ratings) == {("ann", "70", 4.0), ("bob", "70", 2.0), ("765", "71", 3.0)}
    assert np.diff(np.sort(ratings.timestamps)).tolist() == [86_400, 86_400]
    assert ratings.left_out == {
        "lines of steam_reviews.json.gz: no field 'hours' (first: line 4)": 1,
        "lines of steam_games.json.gz: no field 'id' (first: line 4)": 1,
    }
    lines = repr({"user_id": "ann", "reviews": [{"item_id": "70", "recommend": True}]})
    lines += "\n" + repr({"user_id": "bob", "reviews": [{"item_id": "70", "recommend": False}]})
    files = {"australian_user_reviews__json": lines, "steam_games__json": GAMES}
    assert triples(read("steam", written(tmp_path / "2", **files))) == {("ann", "70", 5.0), ("bob", "70", 1.0)}


@pytest.mark.shared_data
def test_steam_hours_beside_the_checkout_are_read() -> None:
    folder = FOLDER / "steam-video-games"
    if not folder.is_dir():
        pytest.skip("recorded data not found: steam-video-games")
    ratings = read("steam", folder)
    assert len(ratings) + ratings.dropped == 70_489
    assert set(ratings.values) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert "Animation & Modeling" in ratings.catalogue.genres


def test_fifths_split_ties_in_the_middle() -> None:
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 7, 4, 4, 4, 1, 9])
    items = np.array([0] * 10 + [1] + [2] * 3 + [3] * 2)
    assert shares_to_ratings(values, items).tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 3, 3, 3, 3, 2, 4]


META_2018 = '{"asin": "0001", "title": "Emma &amp; I", "category": ["Books", "Literature &amp; Fiction", "Classics"]}\n'
META_2018 += '{"asin": "0001", "title": "Emma again", "category": ["Books", "Other"]}\n'
META_2018 += '{"asin": "0002", "title": "Emma &amp; I", "category": ["Books"]}\n{"asin": "0003", "category": []}\n'


def test_amazon_2018_ratings_have_no_header(tmp_path: Path) -> None:
    lines = (
        "0001,A1,5.0,1353110400\n0002,A1,3.0,1353110401\n0001,A2,1.0,1353110402\n0001,A2,2.0,1353110300\n0003,A2,4,1\n"
    )
    ratings = read("amazon", written(tmp_path, Books__csv=lines, meta_Books__json__gz=META_2018))
    assert triples(ratings) == {("A1", "0001", 5.0), ("A1", "0002", 3.0), ("A2", "0001", 1.0)}
    assert [item.genres for item in ratings.catalogue] == [("Literature & Fiction",), ()]
    assert [item.title for item in ratings.catalogue] == ["Emma & I", "Emma & I"], "equal titles are two items"
    assert ratings.left_out == {
        "items described twice": 1,
        "lines of meta_Books.json.gz: no field 'title' (first: line 4)": 1,
        "ratings given twice": 1,
        "ratings of items that are not described": 1,
    }


def test_amazon_reviews_of_2018_and_2023(tmp_path: Path) -> None:
    old = '{"overall": 4.0, "reviewerID": "A1", "asin": "0001", "unixReviewTime": 7, "reviewText": "a\\nb"}\n{"overall'
    ratings = read("amazon", written(tmp_path / "old", Books_5__json__gz=old, meta_Books__json__gz=META_2018))
    assert triples(ratings) == {("A1", "0001", 4.0)} and ratings.timestamps.tolist() == [7]
    new = (
        '{"rating": 5, "title": "!", "asin": "B2", "parent_asin": "B1", "user_id": "AE", "timestamp": 1588687728923}\n'
    )
    meta = (
        '{"main_category": "Books", "title": "Dune", "parent_asin": "B1", "categories": ["Books", "Sci-Fi", "Epic"]}\n'
    )
    ratings = read("amazon", written(tmp_path / "new", Books__jsonl__gz=new, meta_Books__jsonl__gz=meta))
    assert triples(ratings) == {("AE", "B1", 5.0)} and ratings.catalogue.item("B1").genres == ("Sci-Fi",)
    table = "user_id,parent_asin,rating,timestamp\nAE,B1,5.0,1588687728923\nAF,B1,1.0,1588687728924\n"
    ratings = read("amazon", written(tmp_path / "table", Books__csv__gz=table, meta_Books__jsonl=meta))
    assert triples(ratings) == {("AE", "B1", 5.0), ("AF", "B1", 1.0)}


R = "user,item,rating,time\na,1,5,2020-01-02\nb,1,4,2020-01-01\na,2,1,2020-01-03\n"
ITEMS = 'item,title,genres\n1,Emma,Drama|Comedy\n2,Emma,"[""War""]"\n'


def test_columns_are_mapped(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        r__csv="when;who;what;stars\n30;a;x;4\n10;a;y;2\n20;b;x;3\n",
        i__csv="key\tname\tkinds\nx\tEmma\tDrama\ny\tDune\tSci-Fi|Epic\n",
    )
    names = {"user": "who", "item": "what", "rating": "stars", "time": "when", "id": "key"}
    ratings = read_csv(folder, **names, title="name", genres="kinds")
    assert triples(ratings) == {("a", "x", 4.0), ("a", "y", 2.0), ("b", "x", 3.0)}
    assert ratings.timestamps.tolist() == [30, 10, 20]
    assert ratings.catalogue.item("y").genres == ("Sci-Fi", "Epic")


def test_titles_that_several_items_share_get_their_years(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user,item,rating\n" + "".join(f"1,{item},4\n" for item in range(1, 7)))
    rows = ["1,King Kong,1933", "2,King Kong,2005", "3,King Kong,", "4,Heat,1995", "5,Dune,soon", "6,Dune,2021"]
    lines = ["item,title,year,genres", *(f"{row},Drama" for row in rows)]
    (tmp_path / "items.csv").write_text("\n".join(lines))
    given = SourceFiles(ratings=tmp_path / "ratings.csv", items=tmp_path / "items.csv")
    titles = [item.title for item in load_ratings("csv", 0, given).catalogue]
    assert titles == ["King Kong (1933)", "King Kong (2005)", "King Kong", "Heat", "Dune", "Dune (2021)"]


def test_tables_with_the_usual_names_need_no_mapping_and_dates_are_times(tmp_path: Path) -> None:
    ratings = read_csv(written(tmp_path, r__csv="\ufeff" + R, i__csv=ITEMS))
    assert triples(ratings) == {("a", "1", 5.0), ("b", "1", 4.0), ("a", "2", 1.0)}
    assert np.argsort(ratings.timestamps).tolist() == [1, 0, 2]
    assert ratings.catalogue.item("2").genres == ("War",)


def test_of_two_ratings_the_later_one_is_kept(tmp_path: Path) -> None:
    more = "b,1,2,2020-02-01\na,1,3,2019-01-01\na,2,4,2020-01-03\n"
    ratings = read_csv(written(tmp_path, r__csv=R + more, i__csv=ITEMS))
    assert triples(ratings) == {("a", "1", 5.0), ("b", "1", 2.0), ("a", "2", 4.0)}
    assert ratings.left_out == {"ratings given twice": 3}


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = written(tmp_path, r__csv=R, i__csv=ITEMS)
    ratings = {"user": ["a", "b", "a"], "item": [1, 1, 2], "rating": [5.0, 4.0, 1.0], "time": [2, 1, 3]}
    items = {"item": [1, 2], "title": ["Emma", "Emma"], "genres": [["Drama", "Comedy"], ["War"]]}
    parquet.write_table(pa.table(ratings), folder / "r.parquet")
    parquet.write_table(pa.table(items), folder / "i.parquet")
    given = SourceFiles(ratings=folder / "r.parquet", items=folder / "i.parquet")
    assert triples(load_ratings("csv", 0, given)) == triples(read_csv(folder))
    assert load_ratings("csv", 0, given).catalogue == read_csv(folder).catalogue
    (folder / "r.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(BadInputError, match=r"r\.parquet is damaged or not a Parquet file"):
        load_ratings("csv", 0, given)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    given = SourceFiles(ratings=tmp_path / "r.parquet", items=tmp_path / "i.parquet")
    with pytest.raises(BadInputError, match=r"pip install 'billp\[parquet\]'"):
        load_ratings("csv", 0, given)


def test_progress_tells_how_much_of_each_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LINES_A_REPORT", 2)
    folder, told = written(tmp_path, r__csv=R, i__csv=ITEMS), []
    given = SourceFiles(ratings=folder / "r.csv", items=folder / "i.csv", progress=lambda *one: told.append(one))
    load_ratings("csv", 0, given)
    size = (folder / "r.csv").stat().st_size
    assert [one[0] for one in told] == ["r.csv"] * 3 + ["i.csv"] * 2 and told[2] == ("r.csv", size, size)
    assert all(0 <= done <= total for _, done, total in told)


@pytest.mark.parametrize(
    "line",
    ["-" * 500_000 + "1", "1+" * 500_000 + "1", "[" * 500_000, "{1:" * 50_000, "f()", "[].append(1)", "1", "NaN", "\0"],
)
def test_hostile_records_are_malformed_and_run_nothing(tmp_path: Path, line: str) -> None:
    file = tmp_path / "records.json"
    file.write_text(f'{line}\n{{"a": 1}}\n', encoding="utf-8")
    assert list(streaming.json_rows(file, lambda *_: None)) == [None, {"a": 1}]


def test_a_core_is_what_is_left_when_nobody_has_too_few() -> None:
    tiny = load_ratings("tiny", 0)
    core = keep_core(tiny, 21)
    for rows in (core.users, core.items):
        assert np.bincount(rows).min() >= 21
    assert 0 < len(core) < len(tiny) and core.left_out == {"ratings outside the 21-core": len(tiny) - len(core)}
    assert triples(core) < triples(tiny)
    assert triples(keep_core(tiny, 12)) == triples(tiny) and not keep_core(tiny, 12).left_out
    with pytest.raises(BadInputError, match="no 60-core"):
        keep_core(tiny, 60)


def test_a_source_is_told_what_it_does_not_take(tmp_path: Path) -> None:
    given: list[tuple[str, SourceFiles, str]] = [
        ("tiny", SourceFiles(path=tmp_path), "takes no --path; it takes none"),
        ("movielens", SourceFiles(path=tmp_path, columns={"user": "u"}), "takes no --columns; it takes --path"),
        ("steam", SourceFiles(), "needs --path DIR, or --ratings FILE and --items FILE"),
        ("csv", SourceFiles(ratings=tmp_path), "needs --ratings FILE and --items FILE"),
        ("csv", SourceFiles(columns={"stars": "u"}), "has no column 'stars'"),
        ("amazon", SourceFiles(path=tmp_path), "contains none of these files: Books.jsonl"),
    ]
    for source, one, words in given:
        with pytest.raises(BadInputError, match=words):
            load_ratings(source, 0, one)
    assert not sources.available("steam")


def test_all_wrong_columns_are_named_with_the_option_to_copy(tmp_path: Path) -> None:
    ratings, items = tmp_path / "r.csv", tmp_path / "i.csv"
    ratings.write_text("reader_id,isbn,stars\na,b,3\n")
    items.write_text("isbn,name,kind of\nb,B,x\n")
    with pytest.raises(BadInputError) as refused:
        load_ratings("csv", 0, SourceFiles(ratings=ratings, items=items, columns={"rating": "points"}))
    assert "r.csv has no columns 'user', 'item', 'points', it has: reader_id, isbn, stars" in str(refused.value)
    assert "i.csv has no columns 'item', 'title', 'genres', it has: isbn, name, kind of (" in str(refused.value)
    option = "--columns user=reader_id,item=isbn,rating=stars,id=isbn,title=name"
    assert str(refused.value).endswith(option)
    mapped = dict(part.split("=") for part in option.split()[1].split(","))
    read = load_ratings("csv", 0, SourceFiles(ratings=ratings, items=items, columns={**mapped, "genres": "kind of"}))
    assert read.user_ids == ("a",)


def cut_gzip(folder: Path) -> None:
    data = gzip.compress(R.encode() + b"a,1,5,1\n" * 5_000)
    (folder / "r.csv.gz").write_bytes(data[: len(data) // 2])
    (folder / "r.csv").unlink()


BAD: dict[str, tuple[str | bytes, str | bytes, str]] = {
    "empty ratings": ("", ITEMS, r"r\.csv is empty"),
    "empty items": (R, "", r"i\.csv is empty"),
    "header only": ("user,item,rating\n", ITEMS, "no usable line"),
    "wrong columns": ("u,i,r\n1,2,3\n", ITEMS, "no columns 'user', 'item', 'rating', it has: u, i, r"),
    "wrong columns of items": (
        R,
        "item,name\n1,Emma\n",
        r"no columns 'title', 'genres', it has: item, name .*add: --columns title=name$",
    ),
    "too high": (R + "c,1,7,1\n", ITEMS, "the rating 7 is outside 0.5-5, as are 1 of the first 4 .*add: --scale 1-7"),
    "too low": (R + "c,1,0,1\n", ITEMS, "the rating 0 is outside 0.5-5.*--drop-zeros"),
    "no genres": (R, "item,title,genres\n1,Emma,\n2,Dune,\n", "0 genres in all"),
    "too many genres": (R, f"item,title,genres\n1,Emma,{'|'.join(map(str, range(MOST_GENRES + 1)))}\n", "501 genres"),
    "unknown items": (R, "item,title,genres\n8,Emma,War\n", "no rated item is among"),
    "not UTF-8": (R.encode() + b"\xff\xfe,1,5,1\n", ITEMS, "line 5 is not UTF-8"),
    "long line": (R + "a" * (opening.LONGEST_LINE + 1), ITEMS, "line 5 is longer than 2 MiB"),
    "open quotation": (
        R + '"' + "a\n" * 70_000,
        ITEMS,
        "line 5 is no row .* quotation mark is never closed",
    ),
    "hopeless": ("user,item,rating\n" + "a,b,c\n" * 5_000, ITEMS, "1000 tried"),
    "binary": (bytes(range(256)) * 100, ITEMS, r"no columns .user., .item., .rating., it has: .\\x00"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused(tmp_path: Path, case: str) -> None:
    ratings, items, words = BAD[case]
    with pytest.raises(BadInputError, match=words):
        read_csv(written(tmp_path, r__csv=ratings, i__csv=items))


def bomb(folder: Path) -> None:
    (folder / "r.csv.gz").write_bytes(gzip.compress(bytes(50_000_000)))


def no_gzip(folder: Path) -> None:
    (folder / "r.csv.gz").write_text(R)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_gzip, "damaged or incomplete"),
        (bomb, "line 1 is longer"),
        (no_gzip, "damaged"),
        (Path.rmdir, "cannot be read"),
    ],
)
def test_bad_archives_are_refused(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    folder = written(tmp_path, r__csv=R, i__csv=ITEMS)
    if spoil is not Path.rmdir:
        spoil(folder)
    with pytest.raises(BadInputError, match=words):
        load_ratings("csv", 0, SourceFiles(ratings=folder / "r.csv.gz", items=folder / "i.csv"))


def test_unknown_lines_and_huge_numbers_are_left_out_by_reason(tmp_path: Path) -> None:
    odd = f"c,1\n,1,5,1\nc,,5,1\nc,1,,1\nc,1,5,soon\nc,1,5,1e300\nc,1,NaN,1\nc,1,inf,1\nc,1,5,{'9' * 5_000}\n\n"
    ratings = read_csv(written(tmp_path, r__csv=R + odd, i__csv=ITEMS))
    assert len(ratings) == 3 and ratings.read_as == {}
    assert ratings.left_out == {
        "lines of r.csv: columns: 2 instead of 4 (first: line 5: 'c,1')": 1,
        "lines of r.csv: no id in 'user' (first: line 6: '')": 1,
        "lines of r.csv: no id in 'item' (first: line 7: '')": 1,
        "lines of r.csv: no number in 'rating' (first: line 8: '')": 3,
        "lines of r.csv: no number and no ISO date (such as 2015-03-31) in 'time' (first: line 9: 'soon')": 2,
        "lines of r.csv: a time out of range (first: line 10: 1e+300)": 1,
    }
