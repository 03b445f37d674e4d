"""Growth of the work of a function with the size of its input, from two sizes in one run."""

import time
from collections.abc import Callable

FACTOR = 8
"""Ratio of the two sizes. Work in proportion to the size grows as much, quadratic work by its square."""
MARGIN = 3.0
"""Share by which work may grow faster: a large input leaves the caches of the processor."""
TRIES = 7


def grows_with_its_input(work: Callable[[str], object], head: str, piece: str, count: int, tail: str = "") -> bool:
    """Return whether work grows at most in proportion to the length of a text.

    Processor time of this thread is compared, the shortest of several tries, so other work of the machine cancels out.

    Args:
        work: Function of the text.
        head: Start of the text.
        piece: Repeated part.
        count: Repetitions in the large text; the small one has an eighth.
        tail: End of the text.
    """
    small = large = float("inf")
    for _ in range(TRIES):
        small = min(small, _seconds(work, head + piece * (count // FACTOR) + tail))
        large = min(large, _seconds(work, head + piece * count + tail))
        if large < MARGIN * FACTOR * small:
            return True
    return False


def _seconds(work: Callable[[str], object], text: str) -> float:
    start = time.thread_time()
    work(text)
    return time.thread_time() - start
