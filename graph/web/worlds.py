"""Worlds for the page's forms: names, users with their histories, items by title."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from memory.home import home
from nodes.tools.open_world import already_open, default_world, world_folder
from sim.catalogue import Item
from sim.errors import BadInputError
from sim.world import World
from sim.world.data import User
from sim.world.storage import saved_worlds

MOST_FOUND = 30
# Titles of a user's history that are shown, the latest ones.
SHOWN_HISTORY = 8
WORLDS_AT_ONCE = 3


def built_worlds() -> dict[str, Any]:
    """Return the names of the built worlds, and the name of the default one."""
    return {"built": saved_worlds(home() / "worlds"), "default": default_world()}


def found_items(name: str, query: str) -> list[dict[str, Any]]:
    """Return the first items whose titles contain a text, those that begin with it first.

    Raises:
        BadInputError: The world is not built, or damaged.
    """
    wanted = query.casefold()
    found = [item for item in opened_world(name).catalogue if wanted in item.title.casefold()] if wanted else []
    found.sort(key=lambda item: not item.title.casefold().startswith(wanted))
    return [_item_json(item) for item in found[:MOST_FOUND]]


def found_users(name: str, query: str) -> list[dict[str, Any]]:
    """Return the first users whose ids begin with a text, or whose history has it in a title; dev users first.

    Raises:
        BadInputError: The world is not built, or damaged.
    """
    world, wanted = opened_world(name), query.casefold()
    meant = {item.id for item in world.catalogue if wanted in item.title.casefold()}

    def means(user: User) -> bool:
        return user.id.casefold().startswith(wanted) or not meant.isdisjoint(user.history)

    found = [user for user in world.users.values() if means(user)]
    found.sort(key=lambda user: (user.split != "dev", user.id.casefold() != wanted))
    return [
        {"id": user.id, "split": user.split, "rated": len(user.history), "history": _last_titles(world, user.history)}
        for user in found[:MOST_FOUND]
    ]


def _last_titles(world: World, history: Sequence[str]) -> list[str]:
    return [world.catalogue.item(one).title for one in history[-SHOWN_HISTORY:]]


def _item_json(item: Item) -> dict[str, Any]:
    return {"item_id": item.id, "title": item.title, "genres": list(item.genres), "year": item.year}


def opened_world(name: str) -> World:
    """Return a built world.

    Raises:
        BadInputError: The world is not built, or damaged.
    """
    folder = world_folder(name)
    if not folder.is_dir():
        raise BadInputError(f"the world {name!r} is not built: a visit or `billp world build` makes it")
    # Visits of this process keep the world that they have opened.
    return already_open(folder) or _loaded(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=WORLDS_AT_ONCE)
def _loaded(folder: Path, changed: int) -> World:
    """Load a world; `changed` is the time of its last change, so that a world that is built again is read again."""
    return World.load(folder)
