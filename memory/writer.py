"""Queue of writes: one thread writes them, and joins waiting writes into one call.

A call to Chroma takes 40 ms on a disk, for one row as for ten, and blocks every thread of the process meanwhile. Many
concurrent visits would spend their time waiting if each of them wrote its few rows separately.
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
"""Seconds between two calls, for the event loop to run the tasks that are ready. Without the pause, the next call
starts at the loop's first poll, and a task waits for two or three calls at a time."""


class Waiting(NamedTuple):
    """A queued chunk."""

    chunk: Chunk
    written: "Future[None]"


class Writer:
    """Passes chunks to `write`, for each collection in the order of their arrival.

    Args:
        worker: Executor that runs one call at a time.
        write: Makes a chunk durable.
    """

    def __init__(self, worker: Executor, write: Callable[[Chunk], None]) -> None:
        self._worker = worker
        self._write = write
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()

    def submit(self, chunk: Chunk) -> "Future[None]":
        """Queue a chunk. The returned future is done when the chunk is durable; it can be cancelled until its turn."""
        waiting = Waiting(chunk, Future())
        with self._lock:
            self._waiting.append(waiting)
        self._worker.submit(self._write_next).add_done_callback(lambda turn: self._give_up(waiting, turn))
        return waiting.written

    def _give_up(self, waiting: Waiting, turn: "Future[None]") -> None:
        """Fail a chunk whose call failed, or was abandoned midway, before the chunk was written."""
        error = turn.exception()
        if error is None:
            return
        with self._lock:
            self._waiting = deque(one for one in self._waiting if one is not waiting)
        _settle(waiting.written, error)

    def _write_next(self) -> None:
        """Write the oldest waiting chunk, joined with those that fit. None may wait: an earlier call took it along."""
        turn = self._take()
        if not turn:
            return
        try:
            self._write(Chunk.joined([one.chunk for one in turn]))
        except NoAnswerError as error:
            for one in turn:
                _settle(one.written, error)
            raise  # The worker must see the error.
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
        """Write the chunks of a failed call one by one, so that a bad chunk fails alone."""
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
                elif turn and not one.chunk.fits_with([other.chunk for other in turn]):
                    # No later chunk may overtake this one, since the last write to a record must win.
                    full = True
                    rest.append(one)
                elif one.written.set_running_or_notify_cancel():
                    turn.append(one)
            self._waiting = rest
        return turn


def _settle(written: "Future[None]", error: BaseException | None) -> None:
    """Complete a future unless it was abandoned."""
    with suppress(InvalidStateError):
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)
