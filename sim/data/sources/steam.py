"""Steam: the UCSD data sets with reviews or Australian users, or tables of hours of play.

Steam has no star ratings. Hours of play become ratings from 1 to 5 by their quintile among the players of the game, so
that a short game played to its end counts as much as a long one. Games never played are left out. Reviews with a
recommendation but no hours give 5 or 1.
"""

from collections.abc import Callable
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from sim.data.collector import Collector
from sim.data.ratings import Ratings
from sim.data.source import Source, SourceFiles
from sim.data.streaming import Columns, Malformed, json_rows, locate, number, table_rows

_RATINGS = (
    *("game_play.dat", "australian_users_items.json", "steam_reviews.json", "steam_new.json"),
    "australian_user_reviews.json",
)
_ITEMS = ("items_with_genres.tsv", "steam_games.json")
RECOMMENDED, NOT_RECOMMENDED = 5.0, 1.0

SteamRecord = dict[str, Any]


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
    collector = Collector(hours=True)
    rows = table_rows(path, given.progress, quoted=False)
    columns = Columns(path, next(rows))
    user, item, hours = (columns.place(name) for name in ("User_ID", "Game_ID", "Hours"))
    collector.each(path, rows, lambda row: collector.rate(row[user], row[item], number(row[hours]), 0))
    return collector


def _games_table(path: Path, given: SourceFiles, collector: Collector) -> None:
    rows = table_rows(path, given.progress, quoted=False)
    columns = Columns(path, next(rows))
    item, title, genres = (columns.place(name) for name in ("game_id", "title", "genres"))
    collector.each(path, rows, lambda row: collector.describe(row[item], row[title], row[genres].split("|")))


def _records(path: Path, given: SourceFiles) -> Collector:
    rows = json_rows(path, given.progress)
    # The first good line shows which published file this is; the lines before it are counted like all others.
    read_rows = []
    for row in rows:
        read_rows.append(row)
        if row is not None:
            break
    first = read_rows[-1] or {}
    collector = Collector(hours="reviews" not in first)
    use = _reviewer if "reviews" in first else _owner if "items" in first else _review
    collector.each(path, chain(read_rows, rows), use(collector))
    return collector


def _owner(collector: Collector) -> Callable[[SteamRecord | None], None]:
    """Return the reader of a line of the Australian users: all items that a user owns, with minutes of play."""

    def use(record: SteamRecord | None) -> None:
        user, owned = _field(record, "user_id"), _list(record, "items")
        for one in owned:
            collector.rate(user, _field(one, "item_id"), number(_field(one, "playtime_forever")) / 60, 0)

    return use


def _reviewer(collector: Collector) -> Callable[[SteamRecord | None], None]:
    """Return the reader of a line of the Australian reviews: all reviews of a user, each with a recommendation."""

    def use(record: SteamRecord | None) -> None:
        user, reviews = _field(record, "user_id"), _list(record, "reviews")
        for one in reviews:
            recommended = _field(one, "recommend")
            if not isinstance(recommended, bool):
                raise Malformed
            collector.rate(user, _field(one, "item_id"), RECOMMENDED if recommended else NOT_RECOMMENDED, 0)

    return use


def _review(collector: Collector) -> Callable[[SteamRecord | None], None]:
    """Return the reader of a line of the reviews: one review, with the hours that its author had played."""

    def use(record: SteamRecord | None) -> None:
        user = (record or {}).get("user_id") or _field(record, "username")
        collector.rate(user, _field(record, "product_id"), number(_field(record, "hours")), _day(record))

    return use


def _games(path: Path, given: SourceFiles, collector: Collector) -> None:
    def use(record: SteamRecord | None) -> None:
        title = (record or {}).get("app_name") or _field(record, "title")
        genres = (record or {}).get("genres") or (record or {}).get("tags") or []
        collector.describe(_field(record, "id"), title, genres if isinstance(genres, list) else [])

    collector.each(path, json_rows(path, given.progress), use)


def _day(record: SteamRecord | None) -> float:
    try:
        return datetime.fromisoformat(str((record or {}).get("date", "1970-01-01"))).toordinal()
    except ValueError as error:
        raise Malformed from error


def _field(record: Any, name: str) -> Any:
    if not isinstance(record, dict) or name not in record:
        raise Malformed
    return record[name]


def _list(record: SteamRecord | None, name: str) -> list[Any]:
    found = _field(record, name)
    if not isinstance(found, list):
        raise Malformed
    return found


SOURCE = Source("steam", steam, takes=("path", "ratings", "items"))
