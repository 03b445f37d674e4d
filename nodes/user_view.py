"""Who visits, and what a recommender may know: the history and the logs model, never a table of rewards."""

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

# A state is the user's last titles, so many of them.
STATE_TITLES = 10
VISITORS_KEPT = 1000
# Bytes of the predictions of all visitors kept of a world; those of one take 4 for each item.
VISITORS_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Visitor:
    """A user in an opened world, as the roles may know them."""

    place: OpenWorld
    user_id: str
    history: tuple[Item, ...]
    """Items of the history, oldest first."""
    ratings: tuple[float | None, ...]
    """What the logs say the user gave them, where they do."""
    predicted: NDArray[np.float32]
    """Rating (1 to 5) that the logs model predicts for each item, by catalogue position."""
    seen: frozenset[str] = frozenset()
    """Ids of items that a person named or rated before this visit, and wants no recommendation of."""

    def titles(self, steps: Sequence[Step]) -> list[Item]:
        """Return the state's items: the last ten of history and visit together, oldest first."""
        recommended = [self.place.world.catalogue.item(step.item_id) for step in steps[-STATE_TITLES:]]
        return [*self.history, *recommended][-STATE_TITLES:]

    def situation(self, steps: Sequence[Step]) -> str:
        """Return the state as memory knows it: one label a line."""
        return "\n".join(item.label for item in self.titles(steps))

    def distances(self, steps: Sequence[Step]) -> NDArray[np.float32] | None:
        """Return each item's least distance to the last four recommended ones; None before the first."""
        recent = [step.item_id for step in steps][-WINDOW:]
        if not recent:
            return None
        least: NDArray[np.float32] = np.min([self.place.world.logs.distances(item) for item in recent], axis=0)
        return least

    def predicted_rating(self, item: Item) -> float:
        """Return the rating that the logs model predicts for an item, to two digits."""
        return round(float(self.predicted[self.place.world.catalogue.position(item.id)]), 2)

    def distance(self, steps: Sequence[Step], item: Item) -> float | None:
        """Return an item's least distance to the last four recommended ones, to two digits; None before the first."""
        distances = self.distances(steps)
        return None if distances is None else round(float(distances[self.place.world.catalogue.position(item.id)]), 2)


async def visitor(state: VisitState) -> Visitor:
    """Return who visits.

    Raises:
        BadInputError: A field of the state cannot be used, the world is unknown, or the user is and brings no title
            that the catalogue has.
    """
    state.check_types()
    place = await open_world(state.world)
    if state.profile is not None:
        return _person(place, state.user_id, state.profile, {step.item_id for step in state.steps})
    user_id = state.user_id or place.world.split("dev").users[0]
    # By a digest, since a request may bring 50,000 characters of titles.
    key = (user_id, hashlib.sha256(json.dumps(state.history).encode()).hexdigest())
    # Asked for by every node of every round.
    if key not in place.cache:
        if len(place.cache) >= min(VISITORS_KEPT, VISITORS_BYTES // (4 * len(place.world.catalogue))):
            place.cache.clear()
        # In a thread, since there may be many titles to look up.
        place.cache[key] = await asyncio.to_thread(_visitor, place, user_id, tuple(state.history))
    who: Visitor = place.cache[key]
    return who


def _visitor(place: OpenWorld, user_id: str, titles: tuple[str, ...]) -> Visitor:
    world = place.world
    known = world.users.get(user_id)
    if known is not None and not titles:
        if not known.history:
            raise BadInputError(f"user {user_id!r} of world {world.name!r} has no history: choose another user")
        history = tuple(world.catalogue.item(item_id) for item_id in known.history)
        return Visitor(place, user_id, history, known.ratings, world.logs.predictions(user_id))
    history = brought_history(place, user_id, titles)
    if known is not None:
        predicted = world.logs.predictions(user_id)
    else:
        predicted = world.logs.fold_in([item.id for item in history])
    return Visitor(place, user_id, history, (None,) * len(history), predicted)


def _person(place: OpenWorld, user_id: str, profile: Profile, had: set[str]) -> Visitor:
    """Return a person; items of the visit `had` count for the predictions, but are no history yet."""
    logs, catalogue = place.world.logs, place.world.catalogue
    ratings = {item_id: rating for item_id, rating in profile.ratings.items() if item_id in catalogue}
    before = [item_id for item_id in ratings if item_id not in had]
    return Visitor(
        place,
        user_id,
        tuple(catalogue.item(item_id) for item_id in before),
        tuple(ratings[item_id] for item_id in before),
        logs.fold_in(list(ratings), list(ratings.values())),
        seen=frozenset(before) | {item_id for item_id in profile.seen if item_id in catalogue},
    )


def known_titles(place: OpenWorld, titles: Sequence[str]) -> list[Item]:
    """Return the items that a history in words names; what the catalogue does not have is left out."""
    return [item for title in titles if (item := place.fresh.titled(title))]


def brought_history(place: OpenWorld, user_id: str, titles: Sequence[str]) -> tuple[Item, ...]:
    """Return the history that an unknown user brings.

    Raises:
        BadInputError: None of the titles is known.
    """
    history = tuple(known_titles(place, titles))
    if not history:
        world = place.world
        if user_id in world.users:
            raise BadInputError(f"no title of the history of user {user_id!r} is in the catalogue of {world.name!r}")
        raise BadInputError(
            f"user {user_id!r} is not known in world {world.name!r}: name one of its {len(world.users)} users "
            f"(such as {', '.join(world.split('dev').users[:3])}), or bring a history of titles that it has"
        )
    return history
