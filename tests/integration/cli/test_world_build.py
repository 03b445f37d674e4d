"""`billp world build` on files: its output, and one line for invalid files."""

import gzip
import json
import resource
import shlex
import shutil
from pathlib import Path

import pytest

from sim.data.opening import LONGEST_LINE
from sim.data.sources import load_ratings
from sim.world import World
from tests.commands import BILLP, ROOT, Run, billp, environment_of, refused
from tests.processes import run

COLUMNS = "user=userId,item=movieId,rating=rating,time=timestamp"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny ratings as two CSV files, with a malformed and a repeated line."""
    folder, tiny = tmp_path_factory.mktemp("tables"), load_ratings("tiny", 0)
    rows = [
        f"{tiny.user_ids[user]},{tiny.catalogue[int(item)].id},{value},{time}"
        for user, item, value, time in zip(tiny.users, tiny.items, tiny.values, tiny.timestamps, strict=True)
    ]
    lines = ["userId,movieId,rating,timestamp", *rows, rows[-1], "what is this"]
    (folder / "ratings.csv").write_text("\n".join(lines))
    items = [f'{item.id},"{item.title}",{"|".join(item.genres)}' for item in tiny.catalogue]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *items]))
    return folder


def arguments(folder: Path, *args: str) -> list[str]:
    files = ["--ratings", str(folder / "ratings.csv"), "--items", str(folder / "movies.csv"), "--columns", COLUMNS]
    return ["world", "build", "mine", "--from", "csv", *files, *args]


def build(folder: Path, home: Path, *args: str) -> Run:
    return billp(home, *arguments(folder, *args))


def build_on_a_full_disk(folder: Path, home: Path, most_bytes: int, *args: str) -> Run:
    # A process of its own: a limit on file size, which simulates a full disk, holds for a whole process.
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return run([*BILLP, *arguments(folder, *args)], env=environment_of(home), cwd=ROOT, preexec_fn=limit)


def test_a_world_that_allows_known_items_says_so(tables: Path, tmp_path: Path) -> None:
    built = build(tables, tmp_path, "--allow-known")
    assert built.returncode == 0, built.stderr
    assert "known     items of a user's history may come again" in built.stdout
    assert json.loads(billp(tmp_path, "world", "show", "mine", "--json").stdout)["allow_known"] is True
    assert "built:   mine (known items allowed)" in billp(tmp_path, "world", "list").stdout
    assert json.loads(billp(tmp_path, "world", "list", "--json").stdout)["allow_known"] == ["mine"]


def test_a_world_is_built_from_tables_and_described(tables: Path, tmp_path: Path) -> None:
    built = build(tables, tmp_path, "--json", "--k-core", "5")
    assert built.returncode == 0, built.stderr
    shown = json.loads(built.stdout)
    assert (shown["items"], shown["ratings"], sum(shown["users"].values())) == (120, 2700, 60)
    assert shown["left_out"] == {
        "lines of ratings.csv: columns: 1 instead of 4 (first: line 2,703: 'what is this')": 1,
        "ratings given twice": 1,
    }
    assert sum(shown["histogram"].values()) == 2700 and set(shown["histogram"]) <= {f"{n / 2:g}" for n in range(1, 11)}
    assert shown["density"] == pytest.approx(0.375) and len(shown["genres"]) == 6
    assert shown["scores"]["oracle"]["total_reward"] > shown["scores"]["diverse_greedy"]["total_reward"]
    assert set(shown["scores"]) == {"random", "popular", "greedy", "diverse_greedy", "oracle"}
    assert shown["score_users"] == min(shown["users"]["dev"], 20)
    # The same ratings read another way give the same world.
    ours, tiny = World.load(tmp_path / "worlds" / "mine"), World.build("tiny", load_ratings("tiny", 0))
    assert ours.catalogue == tiny.catalogue and dict(ours.users) == dict(tiny.users)
    assert ours.facts.rmse == tiny.facts.rmse


def test_the_summary_is_readable(tables: Path, tmp_path: Path) -> None:
    shown = build(tables, tmp_path).stdout
    for line in (
        "left out  1 lines of ratings.csv: columns: 1 instead of 4 (first: line 2,703: 'what is this'), 1 ratings",
        "ratings   0.5: ",
        "genres    6: Adventure",
        "RMSE      logs ",
        "dev users: random ",
    ):
        assert line in shown


@pytest.mark.slow
@pytest.mark.parametrize("most_bytes", [1_000, 20_000, 100_000])
def test_a_full_disk_leaves_what_was_there(tables: Path, tmp_path: Path, most_bytes: int) -> None:
    assert "cannot be written" in refused(build_on_a_full_disk(tables, tmp_path, most_bytes))
    assert not list(tmp_path.rglob("*.*")) and not list(tmp_path.glob("worlds/*"))
    assert build(tables, tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert build_on_a_full_disk(tables, tmp_path, most_bytes, "--seed", "1").returncode == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def spoil(folder: Path, name: str, case: str) -> None:
    """Make a file of the tables unusable."""
    path = folder / name
    lines = path.read_text().splitlines()
    contents: dict[str, bytes] = {
        "empty": b"",
        "columns": path.read_bytes().replace(b"movieId", b"film"),
        "range": "\n".join([*lines, "1,1,11,5"]).encode(),
        "one user": "\n".join([lines[0], *(f"1,{item},3,1" for item in range(1, 121))]).encode(),
        "no genres": "\n".join(line.rpartition(",")[0] + "," for line in lines)
        .replace("title,", "title,genres")
        .encode(),
        "unknown": "\n".join([lines[0], *("x" + line for line in lines[1:])]).encode(),
        "bytes": path.read_bytes() + b"\n\xff\xfe\x00",
        "long": path.read_bytes() + b"\n" + b"a" * (LONGEST_LINE + 1),
        "folder": b"",
    }
    path.write_bytes(contents[case])
    if case == "folder":
        path.unlink()
        path.mkdir()


def refused_and_nothing_left(home: Path, *args: str) -> str:
    """Check that a command is refused and leaves no files, and return its one line."""
    line = refused(billp(home, *args))
    assert not home.exists()
    return line


@pytest.mark.parametrize(
    ("name", "case", "words"),
    [
        ("ratings.csv", "empty", "ratings.csv is empty"),
        ("movies.csv", "empty", "movies.csv is empty"),
        ("ratings.csv", "columns", "no column 'movieId', it has: userId, film"),
        ("movies.csv", "columns", "no column 'movieId', it has: film"),
        ("ratings.csv", "range", "the rating 11 is outside 0.5-5"),
        ("ratings.csv", "one user", "ratings"),
        ("movies.csv", "no genres", "0 genres"),
        ("movies.csv", "unknown", "no rated item is among the items described"),
        ("ratings.csv", "bytes", "not UTF-8"),
        ("movies.csv", "bytes", "not UTF-8"),
        ("ratings.csv", "long", "longer than 2 MiB"),
        ("ratings.csv", "folder", "cannot be read"),
    ],
)
def test_bad_tables_leave_one_line(tables: Path, tmp_path: Path, name: str, case: str, words: str) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(tables, folder)
    spoil(folder, name, case)
    assert words in refused_and_nothing_left(tmp_path / "home", *arguments(folder))
    folders = ("world", "build", "mine", "--from", "movielens", "--path", str(folder))
    refused_and_nothing_left(tmp_path / "home", *folders)


def test_a_cut_archive_leaves_one_line(tables: Path, tmp_path: Path) -> None:
    for name in ("ratings.csv", "movies.csv"):
        data = gzip.compress((tables / name).read_bytes())
        (tmp_path / f"{name}.gz").write_bytes(data[: len(data) * 2 // 3])
    args = ("world", "build", "mine", "--from", "movielens", "--path", str(tmp_path))
    assert "ratings.csv.gz is damaged or incomplete" in refused_and_nothing_left(tmp_path / "home", *args)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--from", "csv"], "needs --ratings FILE and --items FILE"),
        (["--from", "steam"], "needs --path DIR"),
        (["--from", "amazon", "--path", "/nowhere"], "/nowhere contains none of these files"),
        (["--from", "tiny", "--path", "."], "takes no --path"),
        (["--from", "csv", "--columns", "user"], "--columns 'user' is no list of FIELD=COLUMN"),
        (["--from", "csv", "--columns", "colour=c"], "has no column 'colour'"),
        (["--from", "tiny", "--k-core", "80"], "no 80-core"),
        (["--from", "tiny", "--k-core", "-1"], "--k-core"),
    ],
)
def test_bad_options_leave_one_line(tmp_path: Path, args: list[str], words: str) -> None:
    assert words in refused_and_nothing_left(tmp_path / "home", "world", "build", "mine", *args)


def courses(folder: Path) -> tuple[str, ...]:
    """Write a table as courses hand out: ratings of 0 to 10, no genres, and no usual names; return its options."""
    tiny = load_ratings("tiny", 0)
    rows = [
        f"{tiny.user_ids[user]};{tiny.catalogue[int(item)].id};{0 if place % 50 == 0 else round(2 * value)}"
        for place, (user, item, value) in enumerate(zip(tiny.users, tiny.items, tiny.values, strict=True))
    ]
    (folder / "BX-Ratings.csv").write_text("\n".join(["User-ID;ISBN;Book-Rating", *rows]))
    books = [f'{item.id};"{item.title}";"Author {int(item.id) % 30}"' for item in tiny.catalogue]
    (folder / "BX-Books.csv").write_text("\n".join(["ISBN;Book-Title;Book-Author", *books]))
    return ("--ratings", str(folder / "BX-Ratings.csv"), "--items", str(folder / "BX-Books.csv"))


def test_the_message_of_a_refused_build_has_the_command_that_builds_it(tmp_path: Path) -> None:
    files, home = courses(tmp_path), tmp_path / "home"
    line = refused_and_nothing_left(home, "world", "build", "books", "--from", "csv", *files)
    assert "with a column, decades or clusters" in line and "the rating 0 is outside 0.5-5" in line
    again = shlex.split(line.partition("else --scale 0-10): ")[2])
    assert again[:6] == ["billp", "world", "build", "books", "--from", "csv"] and set(files) < set(again)
    dry = billp(home, *again[1:], "--categories", "clusters", "--most", "5", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "taken     2,646 ratings of 60 users and 120 items (0 with a year, 0 described)" in dry.stdout
    assert "left out  54 ratings of 0, which are none" in dry.stdout and "Nothing was written." in dry.stdout
    assert "read as   2,646 ratings of the scale 1-10" in dry.stdout
    assert not list(home.rglob("*.*"))
    shown = json.loads(billp(home, *again[1:], "--categories", "clusters", "--most", "5", "--json").stdout)
    assert shown["left_out"] == {"ratings of 0, which are none": 54} and shown["ratings"] == 2646
    assert shown["read_as"] == {"ratings of the scale 1-10": 2646} and 1 < len(shown["genres"]) <= 5
    # The roles, and the rules of `rules`, work with the clusters as with any other categories.
    visit = billp(home, "episode", "--world", "books", "--max-steps", "3")
    assert visit.returncode == 0, visit.stderr
    world = World.load(home / "worlds" / "books")
    assert any(genre in visit.stdout for genre in world.catalogue.genres)


def test_a_dry_run_says_the_same_for_programs(tables: Path, tmp_path: Path) -> None:
    taken = json.loads(build(tables, tmp_path / "home", "--dry-run", "--json").stdout)
    assert (taken["users"], taken["items"], taken["ratings"], len(taken["genres"])) == (60, 120, 2700, 6)
    assert taken["left_out"]["ratings given twice"] == 1 and taken["read_as"] == {}
    assert not (tmp_path / "home").exists()


def test_the_proposed_command_keeps_all_options(tmp_path: Path) -> None:
    files, home = courses(tmp_path), tmp_path / "home"
    given = ["--categories", "clusters", "--most", "5", "--seed", "3", "--cut", "time", "--k-core", "2"]
    given += ["--min-reward-quantile", "0.2", "--allow-known", "--dry-run", "--json"]
    line = refused_and_nothing_left(home, "world", "build", "books", "--from", "csv", *files, "--scale=-5-5", *given)
    again = shlex.split(line.partition("else --scale 0-10): ")[2])
    proposed = again.index("--columns")
    assert sorted(again[6:proposed]) == sorted([*files, *given])
    assert again[proposed + 2 :] == ["--drop-zeros", "--scale", "1-10"]
    dry = billp(home, *again[1:])
    assert dry.returncode == 0 and json.loads(dry.stdout)["ratings"] == 2646, dry.stderr
    assert not list(home.rglob("*.*"))


def test_a_build_says_what_the_scale_is_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    line = refused_and_nothing_left(home, "world", "build", "w", "--from", "csv", *courses(tmp_path), "--scale", "ten")
    assert "--scale 'ten' is no scale; write LOW-HIGH such as 1-10, or thumbs, or plays" in line
