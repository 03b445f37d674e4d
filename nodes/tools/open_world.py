"""Open worlds: loaded by name or built on first use, with an index of the catalogue for semantic search."""

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
from sim.atomic_files import can_write
from sim.data.sources import SOURCES, available, load_ratings
from sim.errors import BadInputError
from sim.world import World
from sim.world.world import WORLD_NAME

# Most values of one kind that a world keeps.
VALUES_KEPT = 500


@dataclass(frozen=True, eq=False)
class OpenWorld:
    """World with the indexes and tools that the roles use."""

    world: World
    categories: dict[str, int]
    """Categories of the catalogue with their number of items, most first."""
    index: CatalogueIndex
    fresh: Grounder
    """Grounder that skips the items of the visit so far."""
    nearest: Grounder
    """Grounder to the nearest item, as in the original."""
    cache: dict[Hashable, Any] = field(default_factory=dict)
    """Cache of values computed from the world; deleted with the world."""

    def kept(self, kind: type, most: int = VALUES_KEPT) -> dict[Hashable, Any]:
        """Return the cached values of a kind, emptied once there are `most`; the other kinds stay."""
        values: dict[Hashable, Any] = self.cache.setdefault(kind, {})
        if len(values) >= most:
            values.clear()
        return values


def default_world() -> str:
    """Return `movielens` if it is built already or the package with its ratings is installed, else `tiny`."""
    built = world_folder("movielens").exists()
    return "movielens" if built or available("movielens") else "tiny"


def world_folder(name: str) -> Path:
    """Return the folder of a world.

    Raises:
        BadInputError: The name is invalid; this keeps paths out of names.
    """
    return home() / "worlds" / checked_name(name, "world")


def checked_name(name: str, kind: str) -> str:
    """Return the name of a world or run after a check, because it becomes the name of a folder.

    Raises:
        BadInputError: The name is invalid.
    """
    if not WORLD_NAME.fullmatch(name):
        raise BadInputError(
            f"{name[:80]!r} is not a valid name of a {kind}: use lower-case letters, digits, `-` and `_`"
        )
    return name


def load_world(name: str) -> World:
    """Load a world, or build it if `name` is a source that needs no further input.

    Raises:
        BadInputError: The world is unknown, or its files are damaged.
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
    # A home that only allows reads is enough for visits without memory.
    if can_write(folder):
        world.save(folder)
    return world


def embed_labels(world: World, progress: Callable[[int], None] = lambda done: None, folder: Path | None = None) -> None:
    """Embed the labels of a world's items that are not embedded yet.

    Args:
        world: World that is saved under its name.
        progress: Function that gets the number of finished labels.
        folder: Folder of the world while it is not yet moved to its name.
    """
    labels = [item.label for item in world.catalogue]
    prime_labels(labels, shared_embeddings(), (folder or world_folder(world.name)) / "labels.npz", progress)


async def open_world(name: str) -> OpenWorld:
    """Return the opened world `name`, or the default world for an empty name; each process opens a world once.

    Raises:
        BadInputError: The world is unknown, or its files are damaged.
    """
    folder = world_folder(name or default_world())
    opened = _opened.get(folder)
    return opened if opened is not None else await asyncio.to_thread(open_world_now, folder.name)


_opened: dict[Path, OpenWorld] = {}


def already_open(folder: Path) -> World | None:
    """Return the world that this process has opened from a folder; None if it has not."""
    known = _opened.get(folder)
    return known.world if known else None


_opening = threading.Lock()


def open_world_now(name: str) -> OpenWorld:
    """Open a world like `open_world`, outside an event loop."""
    folder = world_folder(name)
    # Open one world at a time, so that visits that start together open it once.
    with _opening:
        if folder not in _opened:
            world = load_world(folder.name)
            embeddings = shared_embeddings()
            embed_labels(world)
            # Load the table of tokens here: prompts need it to cut titles, and it must not be read in an event loop.
            load_table()
            _opened[folder] = OpenWorld(
                world,
                count_categories(world.catalogue),
                CatalogueIndex({item.id: item.label for item in world.catalogue}, embeddings),
                fresh=Grounder(world.catalogue, embeddings),
                nearest=Grounder(world.catalogue, embeddings, mode="nearest"),
            )
        return _opened[folder]


def close_worlds() -> None:
    """Forget all opened worlds; the next use of one loads it again."""
    with _opening:
        _opened.clear()
