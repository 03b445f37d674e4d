"""Time to live of records, and their expiry in order of time."""

import heapq
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from langgraph.store.base import PutOp

from memory.chroma.errors import BadRecordError

LONGEST = 1e9
"""Longest time to live in minutes, 1,900 years, since dates end in the year 9999."""
REFRESH_FROM = 0.01
"""Share of the time to live that must pass before a read refreshes it, so that few reads become writes."""


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
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or math.isnan(ttl) or abs(ttl) > LONGEST:
        raise BadRecordError(
            f"The time to live of {op.key!r} in {op.namespace} is {ttl!r}: use a number of minutes, at most "
            f"{LONGEST:.0e}."
        )


class Deadlines:
    """Queue of records by expiry time, the earliest first. Entries may be outdated, so callers check the record."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: datetime, head: str) -> None:
        """Add the expiry time of a record."""
        heapq.heappush(self._heap, (deadline, head))

    def renew(self, entries: Iterable[tuple[datetime, str]]) -> None:
        """Replace all entries."""
        self._heap = list(entries)
        heapq.heapify(self._heap)

    def passed(self, moment: datetime) -> list[str]:
        """Remove and return the records that expire at `moment` or before."""
        heads: list[str] = []
        while self._heap and self._heap[0][0] <= moment:
            heads.append(heapq.heappop(self._heap)[1])
        return heads
