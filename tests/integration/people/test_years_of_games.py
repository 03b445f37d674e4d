"""Years in wishes, in a world of games whose years come from Steam's release dates."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nodes.tools.open_world import OpenWorld, close_worlds, open_world_now
from nodes.tools.wish_items import drawn
from nodes.tools.wish_text import understood_line
from nodes.tools.wishes import read_with_catalogue
from sim.data.source import SourceFiles
from sim.data.sources import load_ratings
from sim.world import World

# Release dates in the forms of the published file, with their year.
FORMS = ("{}-03-14", "Mar 14, {}", "14 Mar, {}", "March {}", "{}", "Q3 {}")
YEARS = tuple(range(1994, 2018))
GENRES = ("Action", "Indie", "Strategy", "RPG")


def game(place: int) -> dict[str, object]:
    """Return a game as Steam's file has it; every seventh has no date yet."""
    year = YEARS[place % len(YEARS)]
    dated = "Coming soon" if place % 7 == 6 else FORMS[place % 5].format(year)
    genres = [GENRES[place % 4], GENRES[(place // 4) % 4]]
    return {
        "app_name": f"Quest {chr(65 + place % 26)}{place}",
        "id": str(place),
        "genres": genres,
        "release_date": dated,
    }


@pytest.fixture
def games(home: Path, tmp_path: Path) -> Iterator[OpenWorld]:
    rng = np.random.default_rng(0)
    folder = tmp_path / "steam"
    folder.mkdir()
    (folder / "steam_games.json").write_text("\n".join(repr(game(place)) for place in range(96)), encoding="utf-8")
    owners = []
    for user in range(60):
        items = [
            {"item_id": str(item), "playtime_forever": int(rng.integers(1, 9_000))}
            for item in rng.choice(96, 24, replace=False)
        ]
        owners.append(json.dumps({"user_id": f"u{user}", "items": items}))
    (folder / "australian_users_items.json").write_text("\n".join(owners), encoding="utf-8")
    World.build("games", load_ratings("steam", 0, SourceFiles(path=folder)), factors=2).save(home / "worlds" / "games")
    close_worlds()
    yield open_world_now("games")
    close_worlds()


@pytest.mark.parametrize(
    ("wish", "low", "high"),
    [
        ("games from 2012 on", 2012, 9999),
        ("2012 or newer", 2012, 9999),
        ("older than 2000", 0, 1999),
        ("nothing older than 2010", 2010, 9999),
        ("released in 1999", 1999, 1999),
        ("90s", 1990, 1999),
        ("games from the '90s", 1990, 1999),
        ("strategy from the late nineties", 1996, 1999),
        ("between 2001 and 2004", 2001, 2004),
        ("pre-2000 indie games", 0, 1999),
        # The newest and the oldest fifth.
        ("new games", 2012, 9999),
        ("retro", 0, 1999),
    ],
)
async def test_years_of_release_are_met(games: OpenWorld, wish: str, low: int, high: int) -> None:
    catalogue = games.world.catalogue
    read = read_with_catalogue(wish, games)
    found = await drawn(games, np.ones(len(catalogue), dtype=np.bool_), [read])
    years = [catalogue[place].year for place in np.flatnonzero(found.allowed).tolist()]
    assert years and all(year is not None and low <= year <= high for year in years), (years, read)
    assert found.unmet == [] and read.unjudged == [] and "Understood" in understood_line(read, catalogue)


async def test_years_without_a_game_are_said(games: OpenWorld) -> None:
    read = read_with_catalogue("games from the 80s", games)
    found = await drawn(games, np.ones(len(games.world.catalogue), dtype=np.bool_), [read])
    assert found.unmet == ["from 1980 to 1989: the catalogue has none"]
