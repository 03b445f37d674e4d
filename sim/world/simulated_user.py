"""A simulated user: gives an item a reward, and leaves by the leave rule."""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.leave import LeaveReason
from sim.world.world import Split


@dataclass(frozen=True, slots=True)
class Reaction:
    """Hold how a user reacts to one recommendation.

    Attributes:
        reward: What the user gives the item, from 1 to 5.
        leave_reason: Why the user leaves, or None if the user stays.
    """

    reward: float
    leave_reason: LeaveReason | None

    @property
    def left(self) -> bool:
        """Return whether the user leaves."""
        return self.leave_reason is not None


class SimulatedUser:
    """Play one user of a split; holds no state of a visit, so that any round can be played again.

    Args:
        split: Where the user lives.
        user_id: A user of the world, or anyone.
        history: Ids of items that someone the world does not know likes.

    Raises:
        BadInputError: The world does not know the user and there is no history, or it names an unknown item.
    """

    def __init__(self, split: Split, user_id: str, history: Sequence[str] = ()) -> None:
        self.user_id = user_id
        self.rule = split.leave_rule(user_id, history)
        self._split = split
        self._rewards = split.rewards(user_id, history)

    def react(self, item_id: str, recent: Sequence[str], rating: float | None = None) -> Reaction:
        """React to a recommendation.

        Args:
            item_id: What is recommended.
            recent: Ids of what this visit recommended before, oldest first.
            rating: What the user gives it where somebody else plays the user; if None, what the table says.

        Raises:
            BadInputError: An item is not in the catalogue.
        """
        reward = float(self._rewards[self._split.position(item_id)]) if rating is None else rating
        return Reaction(reward, self.rule.reason(item_id, recent, reward, self._split.distance))
