"""Turns of an event loop: one task at a time, with a pass of the loop after each."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary


class LoopTurns:
    """Admits one task of each event loop at a time, in the order of their arrival.

    A loop runs all ready tasks before it polls for events. Without turns, a hundred waiting searches of a millisecond
    each would block it for a tenth of a second.
    """

    def __init__(self) -> None:
        self._locks: WeakKeyDictionary[AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and let the loop run one pass before the next turn."""
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            yield
            await asyncio.sleep(0)
