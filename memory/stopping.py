"""What to do besides when the process is told to stop, as LangGraph's server is by SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def when_stopped(act: Callable[[], None]) -> Iterator[None]:
    """Call `act`, in a thread, once the process is told to stop within the block; its own way of stopping stays.

    A server waits for the requests under way before it closes what they use, so whatever holds these up has to know
    before. Nothing happens outside the main thread, and where a signal ends the process by itself.
    """
    told, over = threading.Event(), threading.Event()
    former: dict[signal.Signals, Any] = {}
    mine: dict[signal.Signals, Any] = {}

    def wait() -> None:
        told.wait()
        if not over.is_set():
            act()

    if threading.current_thread() is threading.main_thread():
        for one in SIGNALS:
            if callable(handler := signal.getsignal(one)):
                former[one], mine[one] = handler, _both(told, handler)
                signal.signal(one, mine[one])
        # Begun here: no thread should be started in a handler of a signal.
        threading.Thread(target=wait, name="memory-stopping", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        told.set()
        for one, handler in former.items():
            if signal.getsignal(one) is mine[one]:
                signal.signal(one, handler)


def _both(told: threading.Event, former: Callable[[int, FrameType | None], Any]) -> Callable[..., None]:
    def handle(number: int, frame: FrameType | None) -> None:
        told.set()
        former(number, frame)

    return handle
