"""Time to live of records: bounds, expiry in order of time, and the sweeper thread that deletes expired records."""

import heapq
import logging
import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from langgraph.store.base import PutOp

from memory.chroma.errors import BadRecordError
from memory.search.messages import shown

logger = logging.getLogger(__name__)

LONGEST = 1e9
"""Longest time to live in minutes, 1,900 years, since dates end in the year 9999."""
REFRESH_FROM = 0.01
"""Share of the time to live that must pass before a read refreshes it, so that few reads become writes."""
SWEEP_MINUTES = 5.0
"""Default interval between two sweeps, in minutes, as in LangGraph's own stores."""


def now() -> datetime:
    """Return the current time, for writes and expiry."""
    return datetime.now(UTC)


def end_of(ttl: float, start: datetime) -> datetime:
    """Return the expiry time of a record with a time to live of `ttl` minutes from `start`."""
    return start + timedelta(minutes=ttl)


def check_ttl(op: PutOp) -> None:
    """Raise if the time to live of a write is invalid.

    Raises:
        BadRecordError: It is not a number of minutes.
    """
    ttl = op.ttl
    if ttl is None:
        return
    # Compared first, since some whole numbers exceed a float.
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or abs(ttl) > LONGEST or math.isnan(ttl):
        raise BadRecordError(
            f"The time to live of {op.key!r} in {op.namespace} is {shown(ttl)}: use a number of minutes, at most "
            f"{LONGEST:.0e}."
        )


class Deadlines:
    """Queue of records by expiry time, the earliest first. Entries may be outdated, so callers check the record."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: datetime, main_row: str) -> None:
        """Add the expiry time of a record."""
        heapq.heappush(self._heap, (deadline, main_row))

    def renew(self, entries: Iterable[tuple[datetime, str]]) -> None:
        """Replace all entries."""
        self._heap = list(entries)
        heapq.heapify(self._heap)

    def passed(self, moment: datetime) -> list[str]:
        """Remove and return the records that expire at `moment` or before."""
        main_rows: list[str] = []
        while self._heap and self._heap[0][0] <= moment:
            main_rows.append(heapq.heappop(self._heap)[1])
        return main_rows


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
