"""Removes expired records from time to time."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

logger = logging.getLogger(__name__)

SWEEP_MINUTES = 5.0
"""Between two sweeps where nothing else is said, as in LangGraph's own stores."""


class Sweeper:
    """Calls `sweep` again and again in a thread of its own.

    Args:
        sweep: Removes what has expired and returns how many records that were.
    """

    def __init__(self, sweep: Callable[[], int]) -> None:
        self._sweep = sweep
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ended: Future[None] = Future()
        self._thread: threading.Thread | None = None

    def start(self, minutes: float) -> "Future[None]":
        """Begin, unless it is under way; what is returned is done when it ends, and cancelling that ends it.

        Args:
            minutes: Between two sweeps.
        """
        with self._lock:
            if self._thread is not None and not self._stop.is_set():
                return self._ended
            stop = self._stop = threading.Event()
            ended: Future[None] = Future()
            self._ended = ended
            ended.add_done_callback(lambda _: stop.set())
            self._thread = threading.Thread(
                target=self._run, args=(minutes * 60, stop, ended), name="memory-sweeper", daemon=True
            )
            self._thread.start()
            return ended

    def stop(self, timeout: float | None) -> bool:
        """End it and wait for it.

        Args:
            timeout: Seconds to wait at most; None for as long as it takes.

        Returns:
            Whether it has ended.
        """
        with self._lock:
            thread = self._thread
            self._stop.set()
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _run(self, seconds: float, stop: threading.Event, ended: "Future[None]") -> None:
        while not stop.wait(seconds):
            try:
                if count := self._sweep():
                    logger.info("%d expired records were removed.", count)
            except Exception:  # Whatever it is may have passed by the next time, and nobody waits for this one.
                if stop.is_set():
                    break  # The store is being closed.
                logger.exception("Expired records could not be removed; the next sweep tries again.")
        with suppress(InvalidStateError):  # It ended by being cancelled.
            ended.set_result(None)
