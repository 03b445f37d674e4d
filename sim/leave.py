"""When a user leaves: the rule that the recorded runs of BiLLP follow exactly."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from sim.errors import BadInputError

# The rule below gives the first three; "chose" is for a user who decides alone, such as one that an LLM plays.
LeaveReason = Literal["repeat", "similar", "disliked", "chose"]
LEAVE_REASONS: tuple[LeaveReason, ...] = ("repeat", "similar", "disliked", "chose")

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class LeaveRule:
    """Decide whether a user leaves at a recommendation.

    The rule of Shi et al. (SIGIR 2024), as found in their recorded runs: an item that repeats one of the last `window`
    recommendations, lies closer than `min_distance` to one of them, or is rewarded below `min_reward` ends the visit.
    Nobody leaves at the first recommendation.

    Attributes:
        window: How many recommendations back the user remembers, at least 1.
        min_reward: Lowest reward that keeps the user, on the 1-5 scale.
        min_distance: Lowest cosine distance to a remembered item that keeps the user (the tau of a reward table).

    Raises:
        BadInputError: `window` is below 1, or a bound is not a finite number.
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
        """Say why the user leaves at `item`, or None if the user stays.

        Args:
            item: What is recommended now.
            recent: What this visit recommended before, oldest first; only the last `window` count. The viewing history
                from before the visit is no part of it.
            reward: What the user gives `item`.
            distance: Gives the distance of two items; asked only when `item` repeats nothing.

        Returns:
            The first that holds of "repeat", "similar", "disliked"; both bounds are strict.
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
