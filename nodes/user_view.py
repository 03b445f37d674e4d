"""View of the user that the roles may have: the history and the logs model, never a table of rewards."""

import asyncio
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodes.llm.text.understood import Understood
from nodes.state import Profile, Step, VisitState
from nodes.tools.brought_titles import brought_titles, known_titles
from nodes.tools.open_world import OpenWorld, open_world
from nodes.tools.wish_items import Drawn, drawn
from nodes.tools.wishes import understand
from sim.arrays import Mask, Positions
from sim.catalogue import Item
from sim.errors import BadInputError
from sim.leave import WINDOW
from sim.policies.base import offered_items
from sim.world import World

# Number of the user's last titles in a state.
STATE_TITLES = 10
VISITORS_KEPT = 1000
# Bytes for the predictions of all visitors kept in a world; one visitor takes 4 bytes an item.
VISITORS_BYTES = 64 * 2**20
# Rating points by which an item is predicted lower for each time that the person said "not now" to it, and the most
# times that count: enough to let others of the best come first, too little to hide it from a narrow wish.
SKIP_COST = 0.5
MOST_SKIPS = 4


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
    """Rating predicted by the logs model for each item, shape (n_items,), by catalogue position; not cut to 1 to 5."""
    seen: frozenset[str] = frozenset()
    """Ids of items that are not recommended again, because the user had them before this visit: those of the history,
    unless the world allows known items, and always those that a person had or never wants."""
    known: frozenset[str] = frozenset()
    """Ids of items that a person knew when they were recommended: history, although the visit has a round of each."""

    def not_offered(self, steps: Sequence[Step]) -> list[str]:
        """Return the ids of the items not to recommend now: those of the visit so far, and those seen before it.

        A group may come again if nothing else would remain; the last four items of the visit then stay out.
        """
        catalogue = self.open_world.world.catalogue
        return [catalogue[position].id for position in np.flatnonzero(~self.offered(steps)).tolist()]

    def offered(self, steps: Sequence[Step], *left_out: Positions) -> Mask:
        """Return a mask of the items to recommend now, shape (n_items,): all but those of `not_offered`.

        Args:
            steps: The rounds so far.
            left_out: Groups of positions that are left out too, if anything else remains.
        """
        catalogue = self.open_world.world.catalogue
        had = catalogue.positions(step.item_id for step in steps).tolist()
        return offered_items(len(catalogue), had, catalogue.positions(self.seen), *left_out)

    def titles(self, steps: Sequence[Step]) -> list[Item]:
        """Return the items of the state: the last ten of history and visit together, oldest first."""
        new = [step.item_id for step in steps[-STATE_TITLES:] if step.item_id not in self.known]
        recommended = [self.open_world.world.catalogue.item(item_id) for item_id in new]
        return [*self.history, *recommended][-STATE_TITLES:]

    def situation(self, steps: Sequence[Step]) -> str:
        """Return the situation, the key of memory: the labels of the state's items, one a line."""
        return "\n".join(item.label for item in self.titles(steps))

    def distances(self, steps: Sequence[Step]) -> NDArray[np.float32] | None:
        """Return each item's least distance to the last four recommended items, shape (n_items,); None in round 1."""
        recent = [step.item_id for step in steps[-WINDOW:]]
        return self.open_world.world.logs.distances_to(recent).min(axis=1) if recent else None

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
    visitors = opened.kept(Visitor, min(VISITORS_KEPT, VISITORS_BYTES // (4 * len(opened.world.catalogue))))
    who: Visitor | None = visitors.get(key)
    if who is None:
        # Build it in a thread: there may be many titles to look up.
        who = visitors[key] = await asyncio.to_thread(_visitor, opened, user_id, tuple(state.history))
    return who


def _visitor(opened: OpenWorld, user_id: str, titles: tuple[str, ...]) -> Visitor:
    world = opened.world
    known = world.users.get(user_id)
    if known is not None and not titles:
        if not known.history:
            raise BadInputError(f"user {user_id!r} of world {world.name!r} has no history: choose another user")
        history = tuple(world.catalogue.item(item_id) for item_id in known.history)
        return Visitor(opened, user_id, history, known.ratings, world.logs.predictions(user_id), _seen(world, history))
    history = brought_history(opened, user_id, titles)
    if known is not None:
        predicted = world.logs.predictions(user_id)
    else:
        predicted = world.logs.fold_in([item.id for item in history])
    # Who brings titles to an account of the world had the items of its logs too.
    had = (*history, *(world.catalogue.item(item_id) for item_id in (known.history if known else ())))
    return Visitor(opened, user_id, history, (None,) * len(history), predicted, _seen(world, had))


def _seen(world: World, history: Iterable[Item]) -> frozenset[str]:
    return frozenset(world.catalogue[position].id for position in world.withheld(history).tolist())


def _person(opened: OpenWorld, user_id: str, profile: Profile, had: set[str]) -> Visitor:
    """Return a person; the items `had` of this visit count for the predictions, but not as history.

    What they knew when it was recommended is history at once.
    """
    logs, catalogue = opened.world.logs, opened.world.catalogue
    ratings = {item_id: rating for item_id, rating in profile.ratings.items() if item_id in catalogue}
    known = frozenset(item_id for item_id in profile.seen if item_id in catalogue)
    # Ratings that somebody wrote into the state come first.
    stated = dict.fromkeys(profile.had)
    in_order = [*(one for one in ratings if one not in stated), *stated]
    before = [one for one in in_order if one in catalogue and (one not in had or one in known)]
    predicted = logs.fold_in(list(ratings), list(ratings.values()))
    skipped = {one: times for one, times in profile.skipped.items() if one in catalogue}
    predicted[catalogue.positions(skipped)] -= [SKIP_COST * min(times, MOST_SKIPS) for times in skipped.values()]
    return Visitor(
        opened,
        user_id,
        tuple(catalogue.item(item_id) for item_id in before),
        tuple(ratings.get(item_id) for item_id in before),
        predicted,
        frozenset(before) | known | {item_id for item_id in profile.never if item_id in catalogue},
        known,
    )


def brought_history(opened: OpenWorld, user_id: str, titles: Sequence[str]) -> tuple[Item, ...]:
    """Return the history that a request brings.

    Raises:
        BadInputError: The catalogue has none of the titles.
    """
    history = tuple(known_titles(opened, titles))
    if not history:
        world = opened.world
        missing = brought_titles(opened, titles).not_found
        near = "; ".join(f"nearest to {title!r}: {', '.join(names)}" for title, names in missing.items())
        if user_id in world.users:
            raise BadInputError(
                f"no title of the history of user {user_id!r} is in the catalogue of {world.name!r}: "
                f"leave the history out, or correct it ({near})"
            )
        raise BadInputError(
            f"user {user_id!r} is unknown in world {world.name!r}: choose one of its {len(world.users)} users "
            f"(such as {', '.join(world.split('dev').users[:3])}), or give a history of titles from its catalogue"
            + (f" ({near})" if near else "")
        )
    return history


async def understood_wishes(state: VisitState, who: Visitor) -> Understood | None:
    """Return what was understood of the person's profile; None for a simulated user."""
    return None if state.profile is None else await understand(who.open_world, state.profile.text)


async def drawn_for(state: VisitState, who: Visitor) -> Drawn | None:
    """Return the items that meet what a person asked for: a plan of theirs first, then their profile.

    None if nobody asked for anything, as in every visit of a simulated user that nobody edits.
    """
    texts = (state.order, state.profile.text if state.profile is not None else "")
    asked = [await understand(who.open_world, text) for text in texts if text]
    # A title that was asked for and recommended is a wish come true.
    done = {step.item_id for step in state.steps}
    asked = [one.model_copy(update={"titles": [name for name in one.titles if name not in done]}) for one in asked]
    return await drawn(who.open_world, who.offered(state.steps), asked) if asked else None
