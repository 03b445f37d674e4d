"""Work done in an event loop itself, one piece at each pass of it, so that everything else gets its turn between."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary


class LoopTurns:
    """Lets one task of each event loop in at a time, in the order in which they came.

    Without it, a hundred searches of a millisecond that wait together would be one stall of a tenth of a second: a loop
    runs all that is ready before it looks for anything else.
    """

    def __init__(self) -> None:
        self._locks: WeakKeyDictionary[AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn, and give the loop a pass before the next one's."""
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            yield
            await asyncio.sleep(0)
