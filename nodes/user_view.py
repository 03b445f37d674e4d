"""View of the user that the roles may have: the history and the logs model, never a table of rewards."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodes.state import Profile, Step, VisitState
from nodes.tools.open_world import OpenWorld, open_world
from sim.catalogue import Item
from sim.errors import BadInputError
from sim.leave import WINDOW

# Number of the user's last titles in a state.
STATE_TITLES = 10
VISITORS_KEPT = 1000
# Bytes for the predictions of all visitors kept in a world; one visitor takes 4 bytes an item.
VISITORS_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Visitor:
    """User in an opened world, as far as the roles may know them."""

    open_world: OpenWorld
    user_id: str
    history: tuple[Item, ...]
    """Items of the history, oldest first."""
    ratings: tuple[float | None, ...]
    """Ratings of the history in the logs; None for an item without one."""
    predicted: NDArray[np.float32]
    """Rating (1 to 5) predicted by the logs model for each item, shape (n_items,), by catalogue position."""
    seen: frozenset[str] = frozenset()
    """Ids of items that a person named or rated before this visit; they are not recommended again."""

    def titles(self, steps: Sequence[Step]) -> list[Item]:
        """Return the items of the state: the last ten of history and visit together, oldest first."""
        recommended = [self.open_world.world.catalogue.item(step.item_id) for step in steps[-STATE_TITLES:]]
        return [*self.history, *recommended][-STATE_TITLES:]

    def situation(self, steps: Sequence[Step]) -> str:
        """Return the situation, the key of memory: the labels of the state's items, one a line."""
        return "\n".join(item.label for item in self.titles(steps))

    def distances(self, steps: Sequence[Step]) -> NDArray[np.float32] | None:
        """Return each item's least distance to the last four recommended items, shape (n_items,); None in round 1."""
        recent = [step.item_id for step in steps][-WINDOW:]
        if not recent:
            return None
        least: NDArray[np.float32] = np.min([self.open_world.world.logs.distances(item) for item in recent], axis=0)
        return least

    def predicted_rating(self, item: Item) -> float:
        """Return the rating predicted by the logs model for an item, to two digits."""
        return round(float(self.predicted[self.open_world.world.catalogue.position(item.id)]), 2)

    def distance(self, steps: Sequence[Step], item: Item) -> float | None:
        """Return an item's least distance to the last four recommended items, to two digits; None in round 1."""
        distances = self.distances(steps)
        return (
            None if distances is None else round(float(distances[self.open_world.world.catalogue.position(item.id)]), 2)
        )


async def visitor(state: VisitState) -> Visitor:
    """Return the user of the visit.

    Raises:
        BadInputError: A field of the state is invalid, the world is unknown, or the user is unknown and brings no
            title of the catalogue.
    """
    state.check_types()
    opened = await open_world(state.world)
    if state.profile is not None:
        return _person(opened, state.user_id, state.profile, {step.item_id for step in state.steps})
    user_id = state.user_id or opened.world.split("dev").users[0]
    # Keep a digest of the titles: a request may bring 50,000 characters of them.
    key = (user_id, hashlib.sha256(json.dumps(state.history).encode()).hexdigest())
    # Cache the visitor: every node of every round needs it.
    if key not in opened.cache:
        if len(opened.cache) >= min(VISITORS_KEPT, VISITORS_BYTES // (4 * len(opened.world.catalogue))):
            opened.cache.clear()
        # Build it in a thread: there may be many titles to look up.
        opened.cache[key] = await asyncio.to_thread(_visitor, opened, user_id, tuple(state.history))
    who: Visitor = opened.cache[key]
    return who


def _visitor(opened: OpenWorld, user_id: str, titles: tuple[str, ...]) -> Visitor:
    world = opened.world
    known = world.users.get(user_id)
    if known is not None and not titles:
        if not known.history:
            raise BadInputError(f"user {user_id!r} of world {world.name!r} has no history: choose another user")
        history = tuple(world.catalogue.item(item_id) for item_id in known.history)
        return Visitor(opened, user_id, history, known.ratings, world.logs.predictions(user_id))
    history = brought_history(opened, user_id, titles)
    if known is not None:
        predicted = world.logs.predictions(user_id)
    else:
        predicted = world.logs.fold_in([item.id for item in history])
    return Visitor(opened, user_id, history, (None,) * len(history), predicted)


def _person(opened: OpenWorld, user_id: str, profile: Profile, had: set[str]) -> Visitor:
    """Return a person; the items `had` of this visit count for the predictions, but not as history."""
    logs, catalogue = opened.world.logs, opened.world.catalogue
    ratings = {item_id: rating for item_id, rating in profile.ratings.items() if item_id in catalogue}
    before = [item_id for item_id in ratings if item_id not in had]
    return Visitor(
        opened,
        user_id,
        tuple(catalogue.item(item_id) for item_id in before),
        tuple(ratings[item_id] for item_id in before),
        logs.fold_in(list(ratings), list(ratings.values())),
        seen=frozenset(before) | {item_id for item_id in profile.seen if item_id in catalogue},
    )


def known_titles(opened: OpenWorld, titles: Sequence[str]) -> list[Item]:
    """Return the items named by a list of titles, without the titles that the catalogue lacks."""
    return [match.item for title in titles if (match := opened.fresh.named(title))]


def brought_history(opened: OpenWorld, user_id: str, titles: Sequence[str]) -> tuple[Item, ...]:
    """Return the history that a request brings.

    Raises:
        BadInputError: The catalogue has none of the titles.
    """
    history = tuple(known_titles(opened, titles))
    if not history:
        world = opened.world
        if user_id in world.users:
            raise BadInputError(
                f"no title of the history of user {user_id!r} is in the catalogue of {world.name!r}: "
                "leave the history out"
            )
        raise BadInputError(
            f"user {user_id!r} is unknown in world {world.name!r}: choose one of its {len(world.users)} users "
            f"(such as {', '.join(world.split('dev').users[:3])}), or give a history of titles from its catalogue"
        )
    return history
