"""Simulated user: gives each recommended item a reward, and leaves by the leave rule."""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.leave import LeaveReason
from sim.world.world import Split


@dataclass(frozen=True, slots=True)
class Reaction:
    """Reaction of a user to one recommendation.

    Attributes:
        reward: The user's reward for the item, from 1 to 5.
        leave_reason: Reason why the user leaves, or None if the user stays.
    """

    reward: float
    leave_reason: LeaveReason | None

    @property
    def left(self) -> bool:
        """Whether the user leaves."""
        return self.leave_reason is not None


class SimulatedUser:
    """Simulated user of a split. It keeps no state of a visit, so any step can be replayed.

    Args:
        split: The split whose table the user lives on.
        user_id: Id of a user of the world, or any other id.
        history: Ids of items that the user likes; used for a user whom the world does not know.

    Raises:
        BadInputError: The world does not know the user and the history is empty, or the history names an unknown item.
    """

    def __init__(self, split: Split, user_id: str, history: Sequence[str] = ()) -> None:
        self.user_id = user_id
        self.rule = split.leave_rule(user_id, history)
        self._split = split
        self._rewards = split.rewards(user_id, history)

    def react(self, item_id: str, recent: Sequence[str], rating: float | None = None) -> Reaction:
        """Return the user's reaction to a recommendation.

        Args:
            item_id: Id of the recommended item.
            recent: Ids of the earlier recommendations of this visit, oldest first.
            rating: Rating of the item by a person or model who plays the user; if None, the table gives the reward.

        Raises:
            BadInputError: An item is not in the catalogue.
        """
        reward = float(self._rewards[self._split.position(item_id)]) if rating is None else rating
        return Reaction(reward, self.rule.reason(item_id, recent, reward, self._split.distance))
