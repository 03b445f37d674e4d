"""Turns and order of the tasks of an event loop that use a store."""

import asyncio
from asyncio import AbstractEventLoop, Future
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
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


class CallOrder:
    """Keeps the order of an event loop's concurrent calls for the same record: a later call waits for the earlier ones.

    A call embeds its texts before it writes. Without the order, a call whose texts take longer would overwrite a later
    one. Calls of other loops and threads have no order.
    """

    def __init__(self) -> None:
        self._last: WeakKeyDictionary[AbstractEventLoop, dict[Hashable, Future[None]]] = WeakKeyDictionary()

    @contextmanager
    def place(self, records: Collection[Hashable]) -> Iterator[Callable[[], Awaitable[None]]]:
        """Take a place behind the earlier calls for `records` until the block ends.

        Yields:
            A function that waits for the earlier calls.
        """
        loop = asyncio.get_running_loop()
        last = self._last.setdefault(loop, {})
        earlier = {last[record] for record in records if record in last}
        ended: Future[None] = loop.create_future()
        last.update(dict.fromkeys(records, ended))

        async def wait() -> None:
            if earlier:
                await asyncio.wait(earlier)

        def leave(_: object = None) -> None:
            ended.set_result(None)
            for record in records:
                if last.get(record) is ended:
                    del last[record]

        try:
            yield wait
        finally:
            # A call that failed or was cancelled still stands between its neighbours until the earlier ones have ended.
            if pending := [call for call in earlier if not call.done()]:
                asyncio.gather(*pending).add_done_callback(leave)
            else:
                leave()
