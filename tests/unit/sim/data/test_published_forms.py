"""Published data sets in their less usual forms: Steam, Amazon, GroupLens and Parquet."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from sim.data.parquet import parquet_rows
from sim.data.ratings import Ratings
from sim.data.source import SourceFiles
from sim.data.sources import load_ratings
from sim.errors import BadInputError, MissingOptionsError


def read(source: str, folder: Path, **files: str | bytes) -> Ratings:
    """Read a folder with these files; `__` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
    return load_ratings(source, 0, SourceFiles(path=folder))


def rated(ratings: Ratings) -> set[tuple[str, str, float]]:
    return {
        (ratings.user_ids[user], ratings.catalogue[int(item)].id, float(value))
        for user, item, value in zip(ratings.users, ratings.items, ratings.values, strict=True)
    }


GAMES = "".join(
    json.dumps({"id": str(n), "app_name": f"Game {n}", "genres": ["Action"], "short_description": "Fun."}) + "\n"
    for n in (70, 71, 72)
)


def test_a_game_without_hours_costs_the_other_games_of_its_owner_nothing(tmp_path: Path) -> None:
    owned: list[Any] = [{"item_id": "70", "playtime_forever": 60}, {"item_id": "71"}, "no game"]
    owned += [{"item_id": "71", "playtime_forever": None}, {"item_id": "72", "playtime_forever": 120}]
    users = json.dumps({"user_id": "ann", "items": owned}) + "\n" + json.dumps({"user_id": "bob", "items": 5}) + "\n"
    ratings = read("steam", tmp_path, australian_users_items__json=users, steam_games__json=GAMES)
    assert rated(ratings) == {("ann", "70", 3.0), ("ann", "72", 3.0)}
    assert ratings.left_out == {
        "lines of australian_users_items.json: no field 'playtime_forever' (first: line 1)": 1,
        "lines of australian_users_items.json: no record (first: line 1)": 1,
        "lines of australian_users_items.json: no number in 'playtime_forever' (first: line 1)": 1,
        "lines of australian_users_items.json: no list in 'items' (first: line 2: 5)": 1,
    }
    assert ratings.catalogue.item("70").description == "Fun."


def test_a_review_without_recommendation_costs_the_others_nothing(tmp_path: Path) -> None:
    reviews = [{"item_id": "70", "recommend": True}, {"item_id": "71"}, {"item_id": "72", "recommend": False}]
    users = json.dumps({"user_id": "ann", "reviews": reviews}) + "\n"
    ratings = read("steam", tmp_path, australian_user_reviews__json=users, steam_games__json=GAMES)
    assert rated(ratings) == {("ann", "70", 5.0), ("ann", "72", 1.0)}


BOOK, OTHER, USER = "0001713353", "B00A1B2C3D", "A1C6M8LCIX4M6M"
META = json.dumps({"asin": BOOK, "title": "Emma", "category": ["Books", "Classics"], "description": ["A", "novel."]})


@pytest.mark.parametrize("name", ["Books.csv", "ratings_Books.csv", "mine.csv"])
@pytest.mark.parametrize("order", [2014, 2018])
def test_the_ids_tell_which_edition_of_amazon_a_table_is(tmp_path: Path, name: str, order: int) -> None:
    pair = f"{USER},{BOOK}" if order == 2014 else f"{BOOK},{USER}"
    (tmp_path / name).write_text(f"{pair},5.0,1123804800\n")
    (tmp_path / "meta.json").write_text(META)
    given = SourceFiles(ratings=tmp_path / name, items=tmp_path / "meta.json")
    ratings = load_ratings("amazon", 0, given)
    assert rated(ratings) == {(USER, BOOK, 5.0)} and ratings.catalogue[0].description == "A novel."


def test_a_script_of_a_page_is_no_title_and_paths_of_2014_are_genres(tmp_path: Path) -> None:
    meta = [
        {"asin": BOOK, "title": "Emma", "categories": [["Books", "Classics", "x"], ["Books", "Romance"], ["Books"]]},
        {"asin": OTHER, "title": "var aPageStart = (new Date()).getTime();", "categories": [["Books", "War"]]},
        {"asin": "B00A1B2C3E", "title": '<span id="productTitle" class="a-size">', "categories": [["Books", "War"]]},
    ]
    reviews = [
        {"reviewerID": USER, "asin": one["asin"], "overall": 4.0, "unixReviewTime": place}
        for place, one in enumerate(meta)
    ]
    files = {
        "reviews_Books_5__json": "\n".join(map(json.dumps, reviews)),
        "meta_Books__json": "\n".join(map(repr, meta)),
    }
    ratings = read("amazon", tmp_path, **files)
    assert [(item.title, item.genres) for item in ratings.catalogue] == [("Emma", ("Classics", "Romance"))]
    scripts = [why for why in ratings.left_out if "a page's script instead of a title in 'title'" in why]
    assert [ratings.left_out[why] for why in scripts] == [2]


def test_files_of_1m_may_have_tabs(tmp_path: Path) -> None:
    files = {
        "ratings__dat": "1\t10\t4\t978300760\n2\t10\t3.0\t978300761\n",
        "movies__dat": "10\tAlien: Return, The (1999)\tAction|Animation|Comedy|Drama|War\n",
    }
    ratings = read("movielens", tmp_path, **files)
    assert rated(ratings) == {("1", "10", 4.0), ("2", "10", 3.0)} and len(ratings.catalogue[0].genres) == 5


def test_the_layout_of_25m_is_read_and_its_other_files_are_ignored(tmp_path: Path) -> None:
    files = {
        "ratings__csv": "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n162541,209171,3.5,1147868817\n",
        "movies__csv": 'movieId,title,genres\n296,"Pulp Fiction (1994)",Comedy|Crime\n209171,Women of Devil\'s Island '
        "(1962),(no genres listed)\n",
        "links__csv": "movieId,imdbId,tmdbId\n296,0110912,680\n",
        "tags__csv": 'userId,movieId,tag,timestamp\n3,296,"unclosed,1439472355\n',
        "genome-scores__csv": "movieId,tagId,relevance\n296,1,0.02875\n",
        "genome-tags__csv": "tagId,tag\n1,007\n",
    }
    ratings = read("movielens", tmp_path, **files)
    assert rated(ratings) == {("1", "296", 5.0), ("162541", "209171", 3.5)}
    assert ratings.timestamps.tolist() == [1147880044, 1147868817] and not ratings.left_out
    assert [(item.year, item.genres) for item in ratings.catalogue] == [(1994, ("Comedy", "Crime")), (1962, ())]


ZERO_FILES = {
    "movielens": {
        "ratings__csv": "userId,movieId,rating,timestamp\n1,1,4,1\n2,1,{value},2\n",
        "movies__csv": "movieId,title,genres\n1,Heat (1995),Crime\n",
    },
    "amazon": {"Books__csv": f"{USER},{BOOK},4.0,1\n{USER}X,{BOOK},{{value}},2\n", "meta_Books__json": META},
}


@pytest.mark.parametrize("source", ZERO_FILES)
def test_options_that_a_source_proposes_are_taken(tmp_path: Path, source: str) -> None:
    for value, words in (
        ("0.0", r"; add: --drop-zeros \(if 0 means that there is no rating\)$"),
        ("8", "takes no --scale"),
    ):
        files = {name: content.replace("{value}", value) for name, content in ZERO_FILES[source].items()}
        with pytest.raises(BadInputError, match=f"the rating {value[0]} is outside 0.5-5.*{words}") as refused:
            read(source, tmp_path, **files)
        assert isinstance(refused.value, MissingOptionsError) == (value == "0.0")
        if value == "0.0":
            ratings = load_ratings(source, 0, SourceFiles(path=tmp_path, drop_zeros=True))
            assert ratings.values.tolist() == [4] and ratings.left_out == {"ratings of 0, which are none": 1}


def read_parquet(ratings: Path, items: Path) -> Ratings:
    return load_ratings("csv", 0, SourceFiles(ratings=ratings, items=items))


@pytest.fixture
def pa() -> Any:
    return pytest.importorskip("pyarrow")


def write(path: Path, pa: Any, **columns: Any) -> Path:
    from pyarrow import parquet

    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.table(columns), path)
    return path


def test_parquet_has_times_of_any_precision_and_genres_of_any_form(tmp_path: Path, pa: Any) -> None:
    maps = pa.array([[("Drama", 2), ("War", 0)], [("War", 1)], None], pa.map_(pa.string(), pa.int64()))
    items = write(tmp_path / "items.PARQUET", pa, item=[1.0, 2.0, 3.0], title=[b"Emma", b"Dune", b"Heat"], genres=maps)
    moments = [1425340800000000001, 1425340801000000001, 2**62]
    for unit in (pa.timestamp("ns"), pa.timestamp("ns", tz="Europe/Berlin")):
        times = pa.array(moments, unit)
        ratings = write(tmp_path / "ratings", pa, user=["a", "a", "b"], item=[1, 2, 3], rating=[4, 3, 2], time=times)
        read = read_parquet(ratings, items)
        assert read.timestamps.tolist()[:2] == [1425340800, 1425340801]
        assert [(item.title, item.genres) for item in read.catalogue] == [
            ("Emma", ("Drama",)),
            ("Dune", ("War",)),
            ("Heat", ()),
        ]


def test_a_date_out_of_range_is_left_out_with_its_row(tmp_path: Path, pa: Any) -> None:
    items = write(tmp_path / "items.parquet", pa, item=[1, 2], title=["Emma", "Dune"], genres=[["Drama"], ["War"]])
    for times in (
        pa.array([datetime.date(2015, 3, 3).toordinal() - 719163, 10**9], pa.date32()),
        pa.array([1425340800, 10**15], pa.timestamp("s")),
    ):
        ratings = write(tmp_path / "r.parquet", pa, user=["a", "a"], item=[1, 2], rating=[4.0, 3.0], time=times)
        read = read_parquet(ratings, items)
        assert read.timestamps.tolist() == [1425340800]
        assert any("r.parquet: no number and no ISO date" in why and "row 2" in why for why in read.left_out)


def test_ids_of_any_binary_form_are_read_and_two_columns_of_one_name_are_told(tmp_path: Path, pa: Any) -> None:
    items = write(tmp_path / "items.parquet", pa, item=["1", "2"], title=["Emma", "Dune"], genres=[["War"], ["War"]])
    plain = pa.array([b"1", b"2"])
    for ids in (plain.cast(pa.large_binary()), pa.array([b"1", b"2"], pa.binary(1)), plain.dictionary_encode()):
        ratings = write(tmp_path / "r.parquet", pa, user=["a", "a"], item=ids, rating=[4.0, 3.0])
        assert rated(read_parquet(ratings, items)) == {("a", "1", 4.0), ("a", "2", 3.0)}
    from pyarrow import parquet

    twice = pa.table([plain, plain, plain, plain], names=["user", "item", "item", "rating"])
    for path in (write(tmp_path / "parts" / "0.parquet", pa, user=["a"], item=[1], rating=[4.0]), ratings):
        parquet.write_table(twice, path.with_stem("r"))
        with pytest.raises(BadInputError, match=r"r\.parquet has several columns named 'item'; rename or drop"):
            read_parquet(path if path == ratings else path.parent, items)


def test_a_folder_of_parts_is_one_table(tmp_path: Path, pa: Any) -> None:
    items = write(tmp_path / "items.parquet", pa, item=[1, 2], title=["Emma", "Dune"], genres=[["Drama"], ["War"]])
    parts = tmp_path / "ratings"
    write(parts / "part-00000.snappy.parquet", pa, user=["a"], item=[1], rating=[4.0])
    write(parts / "part-00001.snappy.parquet", pa, rating=[3.0], user=["b"], item=[2])
    (parts / "_SUCCESS").write_bytes(b"")
    assert rated(read_parquet(parts, items)) == {("a", "1", 4.0), ("b", "2", 3.0)}
    write(parts / "part-00002.snappy.parquet", pa, user=["a"])
    with pytest.raises(BadInputError, match=r"part-00002.* lacks columns of the other parts"):
        read_parquet(parts, items)
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInputError, match="a folder without Parquet files"):
        read_parquet(tmp_path / "none", items)


def test_each_part_of_a_folder_is_opened_once_and_none_before_its_turn(
    tmp_path: Path, pa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import parquet

    parts = [tmp_path / "parts" / f"{number}.parquet" for number in range(4)]
    for part in parts:
        write(part, pa, user=["a", "b"], item=[1, 2])
    opened: list[Path] = []
    real = parquet.ParquetFile

    def counting(part: Path) -> Any:
        opened.append(part)
        return real(part)

    monkeypatch.setattr(parquet, "ParquetFile", counting)
    progress: list[tuple[int, int]] = []
    rows = parquet_rows(tmp_path / "parts", lambda name, done, total: progress.append((done, total)))
    assert list(next(rows)) == ["user", "item"] and opened == parts[:1]
    assert [(rows.line, *row) for row in rows] == [(line, "ab"[line % 2 - 1], 2 - line % 2) for line in range(1, 9)]
    assert opened == parts
    size = parts[0].stat().st_size
    assert progress == [(size * number, 4 * size) for number in range(1, 5)]


def test_parts_without_rows_are_no_table(tmp_path: Path, pa: Any) -> None:
    items = write(tmp_path / "items.parquet", pa, item=[1], title=["Emma"], genres=[["Drama"]])
    nothing = pa.array([], pa.string())
    for number in range(2):
        write(tmp_path / "parts" / f"{number}.parquet", pa, user=nothing, item=nothing, rating=nothing)
    with pytest.raises(BadInputError, match="parts is empty; use a table with rows"):
        read_parquet(tmp_path / "parts", items)
