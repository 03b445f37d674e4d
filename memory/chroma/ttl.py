"""When records expire, and in which order."""

import heapq
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from langgraph.store.base import PutOp

from memory.chroma.errors import BadRecordError

LONGEST = 1e9
"""Minutes that a record may live at most, 1,900 years: dates end in the year 9999."""
REFRESH_FROM = 0.01
"""Share of its time to live that has to be gone before a read starts it anew, so that few reads are writes."""


def now() -> datetime:
    """Return the time by which records are written and expire."""
    return datetime.now(UTC)


def end_of(ttl: float, start: datetime) -> datetime:
    """Return when a record expires whose `ttl` minutes begin at `start`."""
    return start + timedelta(minutes=ttl)


def check_ttl(op: PutOp) -> None:
    """Raise where the time to live that a write asks for is none.

    Raises:
        BadRecordError: It is no number of minutes.
    """
    ttl = op.ttl
    if ttl is None:
        return
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or math.isnan(ttl) or abs(ttl) > LONGEST:
        raise BadRecordError(
            f"The time to live of {op.key!r} in {op.namespace} is {ttl!r}: use minutes, at most {LONGEST:.0e}."
        )


class Deadlines:
    """Which records expire when, the next one first; an entry may be out of date, so whoever takes it looks again."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, str]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: datetime, head: str) -> None:
        """Note when a record expires."""
        heapq.heappush(self._heap, (deadline, head))

    def renew(self, entries: Iterable[tuple[datetime, str]]) -> None:
        """Forget all entries but these."""
        self._heap = list(entries)
        heapq.heapify(self._heap)

    def passed(self, moment: datetime) -> list[str]:
        """Take out and return the records with a deadline that is not after `moment`."""
        heads: list[str] = []
        while self._heap and self._heap[0][0] <= moment:
            heads.append(heapq.heappop(self._heap)[1])
        return heads
