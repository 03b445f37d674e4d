"""Writes take turns in one thread, and those that wait for their turn are written together.

A call to Chroma takes 40 ms on a disk, for one row as for ten, and stops every thread of the process meanwhile. So
many visits at once would spend their time waiting if each of them wrote its few rows by itself.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from typing import NamedTuple

from memory.chroma.errors import NoAnswerError
from memory.chroma.layout import Chunk

BREATH = 0.002
"""Seconds between two calls, in which an event loop runs what has become ready. Without them, the next call begins at
the loop's first look for news, and a task waits for two or three calls at a time."""


class Waiting(NamedTuple):
    """A chunk that waits for its turn."""

    chunk: Chunk
    written: "Future[None]"


class Writer:
    """Hands chunks to `write`, in the order in which they came for each collection.

    Args:
        worker: Runs one call at a time.
        write: Makes a chunk durable.
    """

    def __init__(self, worker: Executor, write: Callable[[Chunk], None]) -> None:
        self._worker = worker
        self._write = write
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()

    def submit(self, chunk: Chunk) -> "Future[None]":
        """Queue a chunk; what it returns is done once the chunk is durable, and can be cancelled before its turn."""
        waiting = Waiting(chunk, Future())
        with self._lock:
            self._waiting.append(waiting)
        self._worker.submit(self._write_next).add_done_callback(lambda turn: self._give_up(waiting, turn))
        return waiting.written

    def _give_up(self, waiting: Waiting, turn: "Future[None]") -> None:
        """Fail a chunk whose turn failed before it was written: with it, or abandoned amid it."""
        error = turn.exception()
        if error is None:
            return
        with self._lock:
            self._waiting = deque(one for one in self._waiting if one is not waiting)
        _settle(waiting.written, error)

    def _write_next(self) -> None:
        """Write the chunk that waits longest, if it was not written with a former one, and what fits beside it."""
        turn = self._take()
        if not turn:
            return
        try:
            self._write(Chunk.joined([one.chunk for one in turn]))
        except NoAnswerError as error:
            for one in turn:
                _settle(one.written, error)
            raise  # The worker has to know.
        except BaseException as error:
            if len(turn) == 1:
                _settle(turn[0].written, error)
            else:
                self._write_apart(turn)
        else:
            for one in turn:
                _settle(one.written, None)
        time.sleep(BREATH)

    def _write_apart(self, turn: list[Waiting]) -> None:
        """Write chunks one by one that failed together, so that none fails for another's sake."""
        for number, one in enumerate(turn):
            try:
                self._write(one.chunk)
            except NoAnswerError as error:
                for rest in turn[number:]:
                    _settle(rest.written, error)
                raise
            except BaseException as error:
                _settle(one.written, error)
            else:
                _settle(one.written, None)

    def _take(self) -> list[Waiting]:
        turn: list[Waiting] = []
        rest: deque[Waiting] = deque()
        full = False
        with self._lock:
            for one in self._waiting:
                if turn and (full or one.chunk.labels != turn[0].chunk.labels):
                    rest.append(one)
                elif turn and not one.chunk.fits_beside([other.chunk for other in turn]):
                    # Nothing overtakes it: the last write to a record has to win.
                    full = True
                    rest.append(one)
                elif one.written.set_running_or_notify_cancel():
                    turn.append(one)
            self._waiting = rest
        return turn


def _settle(written: "Future[None]", error: BaseException | None) -> None:
    """Let a future end, unless it was given up."""
    with suppress(InvalidStateError):
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)
