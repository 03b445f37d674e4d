"""Open a world by name: from its files, or built on first use, with the catalogue in Chroma for semantic search."""

import asyncio
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory.embeddings import shared_embeddings
from memory.home import home
from memory.title_index import CatalogueIndex, prime_labels
from nodes.llm.text.tokens import load_table
from nodes.tools.categories import count_categories
from nodes.tools.grounding import Grounder
from sim.data.sources import SOURCES, available, load_ratings
from sim.errors import BadInputError
from sim.world import World
from sim.world.world import WORLD_NAME


@dataclass(frozen=True, eq=False)
class OpenWorld:
    """A world with what the roles look things up in."""

    world: World
    categories: dict[str, int]
    """The catalogue's categories with the number of items, most first."""
    index: CatalogueIndex
    fresh: Grounder
    """Grounds to items that a visit has not had yet."""
    nearest: Grounder
    """Grounds to the nearest item, as the original."""
    cache: dict[Hashable, Any] = field(default_factory=dict)
    """What is worked out from the world and asked for again; goes with it."""


def default_world() -> str:
    """Return `movielens` where it is built already or the package with its ratings is installed, else `tiny`."""
    built = world_folder("movielens").exists()
    return "movielens" if built or available("movielens") else "tiny"


def world_folder(name: str) -> Path:
    """Return where a world of that name is kept.

    Raises:
        BadInputError: The name is none, so that no path comes in by way of a name.
    """
    return home() / "worlds" / checked_name(name, "world")


def checked_name(name: str, kind: str) -> str:
    """Return the name of a world or run, which becomes that of a folder.

    Raises:
        BadInputError: It is none.
    """
    if not WORLD_NAME.fullmatch(name):
        raise BadInputError(f"{name[:80]!r} is no name of a {kind}: use small letters, digits, `-` and `_`")
    return name


def load_world(name: str) -> World:
    """Load a world, or build it where `name` is a source that needs nothing else.

    Raises:
        BadInputError: There is no such world, or its files are damaged.
    """
    folder = world_folder(name)
    if folder.exists():
        return World.load(folder)
    if name not in SOURCES:
        raise BadInputError(
            f"there is no world {name!r}: `billp world list` shows those there are, and "
            f"`billp world build {name} --from SOURCE` makes one ({', '.join(sorted(SOURCES))})"
        )
    world = World.build(name, load_ratings(name, 0))
    world.save(folder)
    return world


def embed_labels(world: World, progress: Callable[[int], None] = lambda done: None, folder: Path | None = None) -> None:
    """Embed the labels of a world's items, where that was not done before.

    Args:
        world: A world that is saved under its name.
        progress: Is told how many labels are done.
        folder: Where the world is while it is not yet in the place of its name.
    """
    labels = [item.label for item in world.catalogue]
    prime_labels(labels, shared_embeddings(), (folder or world_folder(world.name)) / "labels.npz", progress)


async def open_world(name: str) -> OpenWorld:
    """Return the opened world `name`, or the default one for an empty name; opened once a process.

    Raises:
        BadInputError: There is no such world, or its files are damaged.
    """
    folder = world_folder(name or default_world())
    place = _places.get(folder)
    return place if place is not None else await asyncio.to_thread(open_world_now, folder.name)


_places: dict[Path, OpenWorld] = {}
_opening = threading.Lock()


def open_world_now(name: str) -> OpenWorld:
    """Do what `open_world` does, outside an event loop."""
    folder = world_folder(name)
    # One at a time, so that visits that start together open a world once.
    with _opening:
        if folder not in _places:
            world = load_world(folder.name)
            embeddings = shared_embeddings()
            embed_labels(world)
            # Titles are cut by tokens, whose table must not be read in an event loop.
            load_table()
            _places[folder] = OpenWorld(
                world,
                count_categories(world.catalogue),
                CatalogueIndex(world.name, {item.id: item.label for item in world.catalogue}, embeddings),
                fresh=Grounder(world.catalogue, embeddings),
                nearest=Grounder(world.catalogue, embeddings, mode="nearest"),
            )
        return _places[folder]


def close_worlds() -> None:
    """Forget all opened worlds and free what they hold."""
    with _opening:
        while _places:
            _places.popitem()[1].index.close()
