"""Waiting for a condition in tests, with a bound that ends a test which would hang."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
# Seconds: long enough for the busiest machine, since no test is about how long a wait takes.
PATIENCE = 300.0
PAUSE = 0.01


def until(
    condition: Callable[[], Found], awaited: str = "", *, patience: float = PATIENCE, pause: float = PAUSE
) -> Found:
    """Wait until a condition holds, and return its true value.

    In an event loop, wait in a thread: `await asyncio.to_thread(until, …)`.

    Args:
        condition: Function without arguments.
        awaited: Name of the condition for the message.
        patience: Seconds after which the condition will never hold.
        pause: Seconds between two looks.

    Raises:
        AssertionError: The condition did not hold in time.
    """
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {patience:g} seconds in vain for {awaited or condition}"
        time.sleep(pause)
    return found
