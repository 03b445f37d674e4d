"""Keep to a number of requests or tokens a minute."""

import asyncio
import time


class Pace:
    """Spends so much a minute and no more, evenly, however many calls share it.

    Each spender takes its turn at once, in order of asking, so there is nothing to lock, and an amount larger than what
    a minute allows delays those after it instead of being refused.
    """

    def __init__(self, a_minute: float | None) -> None:
        self._seconds_each = 60 / a_minute if a_minute else 0.0
        self._free = 0.0

    async def wait(self, amount: float) -> None:
        """Wait for the turn to spend `amount`."""
        now = time.monotonic()
        turn = max(now, self._free)
        self._free = turn + amount * self._seconds_each
        if turn > now:
            await asyncio.sleep(turn - now)

    def correct(self, amount: float) -> None:
        """Take into account what was spent beyond what was waited for; below 0 where it was less."""
        self._free += amount * self._seconds_each
