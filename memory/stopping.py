"""Callback for the stop signal of a process, such as SIGTERM to LangGraph's server."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def when_stopped(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` in a thread when the process receives a stop signal within the block. The existing handler runs too.

    A server waits for its current requests before it closes their resources, so a resource that delays a request must
    know earlier. Outside the main thread nothing happens, nor for a signal without a Python handler, which ends the
    process directly.
    """
    signalled, over = threading.Event(), threading.Event()
    former: dict[signal.Signals, Any] = {}
    mine: dict[signal.Signals, Any] = {}

    def wait() -> None:
        signalled.wait()
        if not over.is_set():
            act()

    if threading.current_thread() is threading.main_thread():
        for one in SIGNALS:
            if callable(handler := signal.getsignal(one)):
                former[one], mine[one] = handler, _both(signalled, handler)
                signal.signal(one, mine[one])
        # Started here, since a signal handler should not start a thread.
        threading.Thread(target=wait, name="memory-stopping", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signalled.set()
        for one, handler in former.items():
            if signal.getsignal(one) is mine[one]:
                signal.signal(one, handler)


def _both(signalled: threading.Event, former: Callable[[int, FrameType | None], Any]) -> Callable[..., None]:
    def handle(number: int, frame: FrameType | None) -> None:
        signalled.set()
        former(number, frame)

    return handle
