"""Rate limit: requests or tokens per minute, shared by all calls."""

import asyncio
import time


class Pace:
    """Rate limit that spreads an amount evenly over each minute, for any number of calls.

    Each call reserves its turn without waiting, in order of arrival, so no lock is needed. An amount larger than the
    limit of a minute is not refused: it delays the calls after it.
    """

    def __init__(self, a_minute: float | None) -> None:
        self._seconds_each = 60 / a_minute if a_minute else 0.0
        self._free = 0.0

    async def wait(self, amount: float) -> None:
        """Reserve `amount`, and wait for its turn."""
        now = time.monotonic()
        turn = max(now, self._free)
        self._free = turn + amount * self._seconds_each
        if turn > now:
            await asyncio.sleep(turn - now)

    def correct(self, amount: float) -> None:
        """Add to the reserved amount after a call; `amount` is negative if the call took less than reserved."""
        self._free += amount * self._seconds_each
