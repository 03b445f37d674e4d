"""Sweeper thread that deletes expired records at intervals."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

logger = logging.getLogger(__name__)

SWEEP_MINUTES = 5.0
"""Default interval between two sweeps, in minutes, as in LangGraph's own stores."""


class Sweeper:
    """Calls `sweep` at intervals in a thread of its own.

    Args:
        sweep: Deletes expired records and returns their number.
    """

    def __init__(self, sweep: Callable[[], int]) -> None:
        self._sweep = sweep
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._ended: Future[None] = Future()
        self._thread: threading.Thread | None = None

    def start(self, minutes: float) -> "Future[None]":
        """Start the sweeper unless it runs. The returned future is done when it ends; cancelling the future ends it.

        Args:
            minutes: Interval between two sweeps.
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
        """Stop the sweeper and wait until it has ended.

        Args:
            timeout: Longest wait in seconds. None to wait as long as it takes.

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
            except Exception:  # The fault may be gone by the next sweep, and no caller waits for this one.
                if stop.is_set():
                    break  # The store is being closed.
                logger.exception("Expired records could not be removed; the next sweep tries again.")
        with suppress(InvalidStateError):  # The future was cancelled.
            ended.set_result(None)
