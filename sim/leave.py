"""Leave rule: the condition under which a user leaves, as in the recorded runs of BiLLP."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from sim.errors import BadInputError

# LeaveRule gives the first three. "chose" is for a user who decides freely, such as a user played by an LLM.
LeaveReason = Literal["repeat", "similar", "disliked", "chose"]
LEAVE_REASONS: tuple[LeaveReason, ...] = ("repeat", "similar", "disliked", "chose")

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class LeaveRule:
    """Rule that decides whether a user leaves at a recommendation.

    The rule of Shi et al. (SIGIR 2024), which their recorded runs follow exactly. The visit ends at an item that
    repeats one of the last `window` recommendations, is closer than `min_distance` to one of them, or has a reward
    below `min_reward`. A user never leaves at the first recommendation.

    Attributes:
        window: Number of recent recommendations that the user remembers, at least 1.
        min_reward: Lowest reward at which the user stays, on the 1-5 scale.
        min_distance: Lowest cosine distance to a remembered item at which the user stays (tau of a reward table).

    Raises:
        BadInputError: `window` is below 1, or a bound is not a finite number.

    Examples:
        Items are numbers here, and their distance is the difference. The user stays at 0.9 and leaves at 0.6:

        >>> rule = LeaveRule(min_distance=0.2)
        >>> rule.reason(0.9, recent=[0.1, 0.5], reward=4.0, distance=lambda a, b: abs(a - b))
        >>> rule.reason(0.6, recent=[0.1, 0.5], reward=4.0, distance=lambda a, b: abs(a - b))
        'similar'
    """

    window: int = 4
    min_reward: float = 2.0
    min_distance: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise BadInputError(f"the leave window is {self.window!r}; give a whole number of at least 1")
        for name in ("min_reward", "min_distance"):
            if not math.isfinite(getattr(self, name)):
                raise BadInputError(f"{name} of the leave rule is {getattr(self, name)!r}; give a finite number")

    def reason(
        self, item: ItemT, recent: Sequence[ItemT], reward: float, distance: Callable[[ItemT, ItemT], float]
    ) -> LeaveReason | None:
        """Return the reason why the user leaves at `item`, or None if the user stays.

        Args:
            item: The recommended item.
            recent: Earlier recommendations of this visit, oldest first; only the last `window` count. The user's
                history from before the visit does not belong here.
            reward: The user's reward for `item`.
            distance: Function that returns the distance of two items; called only if `item` repeats nothing.

        Returns:
            The first reason that applies, in the order "repeat", "similar", "disliked". Both bounds are strict.
        """
        window = list(recent)[-self.window :]
        if not window:
            return None
        if item in window:
            return "repeat"
        if any(distance(item, other) < self.min_distance for other in window):
            return "similar"
        return "disliked" if reward < self.min_reward else None


WINDOW = LeaveRule().window
