"""Steam: the UCSD data sets with reviews or Australian users, or tables of hours of play.

Steam has no star ratings. Hours of play become ratings from 1 to 5 by their quintile among the players of the game, so
that a short game played to its end counts as much as a long one. Games never played are left out. Reviews with a
recommendation but no hours give 5 or 1.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sim.data.collector import Collector
from sim.data.fields import Malformed, genre_names, number, seconds
from sim.data.ratings import Ratings
from sim.data.scale import PLAYS, STARS, THUMB_DOWN, THUMB_UP
from sim.data.source import Source, SourceFiles
from sim.data.streaming import HOPELESS_AFTER, Columns, JsonRow, json_rows, locate, parts_of, table_rows

_RATINGS = (
    *("game_play.dat", "australian_users_items.json", "steam_reviews.json", "steam_new.json"),
    "australian_user_reviews.json",
)
_ITEMS = ("items_with_genres.tsv", "steam_games.json")

# Release dates have many forms: 2018-01-04, "Jan 2017", "Coming soon".
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
# Fields with a text about a game; not all published files have one.
_DESCRIPTIONS = ("description", "short_description", "about_the_game")

UserEntry = tuple[Any, Any]


def steam(given: SourceFiles, seed: int) -> Ratings:
    """Read the hours of play or the reviews of users, and the games.

    Raises:
        BadInputError: A file is missing or cannot be used.
    """
    del seed
    played, games = locate(given, "steam", _RATINGS, _ITEMS)
    collector = _hours_table(played, given) if _is_table(played) else _records(played, given)
    (_games_table if _is_table(games) else _games)(games, given, collector)
    return collector.ratings()


def _is_table(path: Path) -> bool:
    return ".json" not in path.suffixes and ".jsonl" not in path.suffixes


def _hours_table(path: Path, given: SourceFiles) -> Collector:
    collector = Collector(scale=PLAYS, categories=given.categories, most=given.most)
    rows = table_rows(path, given.progress, quoted=False)
    columns = Columns(path, next(rows))
    user, item, hours = (columns.place(name) for name in ("User_ID", "Game_ID", "Hours"))
    collector.each(path, rows, lambda row: collector.rate(row[user], row[item], number(row[hours], "Hours"), 0))
    return collector


def _games_table(path: Path, given: SourceFiles, collector: Collector) -> None:
    rows = table_rows(path, given.progress, quoted=False)
    columns = Columns(path, next(rows))
    item, title, genres = (columns.place(name) for name in ("game_id", "title", "genres"))
    collector.each(path, rows, lambda row: collector.describe(row[item], row[title], genre_names(row[genres])))


def _records(path: Path, given: SourceFiles) -> Collector:
    # The first good line shows which published file this is.
    start = islice(json_rows(path, lambda *_: None), HOPELESS_AFTER)
    first = next((row for row in start if row is not None), {})
    collector = Collector(scale=STARS if "reviews" in first else PLAYS, categories=given.categories, most=given.most)
    rows = json_rows(path, given.progress)
    if "reviews" in first:
        collector.each(path, parts_of(rows, _each_of("reviews")), _reviewer(collector))
    elif "items" in first:
        collector.each(path, parts_of(rows, _each_of("items")), _owner(collector))
    else:
        collector.each(path, rows, _review(collector))
    return collector


def _each_of(name: str) -> Callable[[JsonRow], Iterator[UserEntry]]:
    """Return what yields each entry of a user's list, with the user: a fault of one does not cost the others."""

    def parts(record: JsonRow) -> Iterator[UserEntry]:
        user, entries = _field(record, "user_id"), _field(record, name)
        if not isinstance(entries, list):
            raise Malformed(f"no list in {name!r}", entries)
        return ((user, one) for one in entries)

    return parts


def _owner(collector: Collector) -> Callable[[UserEntry], None]:
    """Return the reader of an item that an Australian user owns, with minutes of play."""

    def use(part: UserEntry) -> None:
        user, one = part
        minutes = number(_field(one, "playtime_forever"), "playtime_forever")
        collector.rate(user, _field(one, "item_id"), minutes / 60, 0)

    return use


def _reviewer(collector: Collector) -> Callable[[UserEntry], None]:
    """Return the reader of a review of an Australian user, with a recommendation."""

    def use(part: UserEntry) -> None:
        user, one = part
        recommended = _field(one, "recommend")
        if not isinstance(recommended, bool):
            raise Malformed("neither true nor false in 'recommend'", recommended)
        collector.rate(user, _field(one, "item_id"), THUMB_UP if recommended else THUMB_DOWN, 0)

    return use


def _review(collector: Collector) -> Callable[[JsonRow], None]:
    """Return the reader of a line of the reviews: one review, with the hours that its author had played."""

    def use(record: JsonRow) -> None:
        user = (record or {}).get("user_id") or _field(record, "username")
        hours = number(_field(record, "hours"), "hours")
        when = seconds((record or {}).get("date"), "date", collector.read_as)
        collector.rate(user, _field(record, "product_id"), hours, when)

    return use


def _games(path: Path, given: SourceFiles, collector: Collector) -> None:
    def use(record: JsonRow) -> None:
        fields = record or {}
        title = fields.get("app_name") or _field(record, "title")
        year = _YEAR.search(str(fields.get("release_date", "")))
        genres = genre_names(fields.get("genres") or fields.get("tags") or [])
        about = next((fields[name] for name in _DESCRIPTIONS if fields.get(name)), None)
        collector.describe(_field(record, "id"), title, genres, int(year[0]) if year else None, about)

    collector.each(path, json_rows(path, given.progress), use)


def _field(record: Any, name: str) -> Any:
    if not isinstance(record, dict):
        raise Malformed("no record")
    if name not in record:
        raise Malformed(f"no field {name!r}")
    return record[name]


SOURCE = Source("steam", steam, takes=("path", "ratings", "items", "categories", "most"))
