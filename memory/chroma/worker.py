"""Worker thread for calls to a Chroma server. It can be abandoned if the server hangs."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def within(seconds: float, call: Callable[[], T], late: Callable[[T], None]) -> T:
    """Make a call in a thread of its own, with a limit on the wait.

    Args:
        seconds: Longest wait.
        call: The call.
        late: Called with the result if it arrives after the limit.

    Raises:
        TimeoutError: The call is still running. It ends with the process at the latest.
    """
    worker = ServerWorker("memory-opening")
    future = worker.submit(call)
    worker.shutdown(wait=False)
    try:
        return future.result(seconds)
    except TimeoutError:
        if not future.done():
            future.add_done_callback(lambda done: None if done.exception() else late(done.result()))
            raise
        return future.result()


class ServerWorker(Executor):
    """Makes calls one at a time, in the order of their arrival, in a daemon thread.

    `ThreadPoolExecutor` is not used, since its threads delay the end of the process, for ever if a server hangs.

    Args:
        name: Name of the thread.
        silences: Returns whether the error of a call shows that the server hangs. Then all waiting calls fail with that
            error too, since they have waited as long and would fail one after another.
    """

    def __init__(self, name: str, silences: Callable[[BaseException], bool] = lambda error: False) -> None:
        self._silences = silences
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._under_way: Future[Any] | None = None
        self._ended = False
        self._abandoned: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Queue a call. The future can be cancelled until its turn, and fails if the worker was abandoned.

        Raises:
            RuntimeError: The worker was shut down.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._abandoned is not None:
                future.set_exception(self._abandoned)
                return future
            if self._ended:
                raise RuntimeError("the worker was shut down")
            self._waiting.append((future, lambda: call(*args, **kwargs)))
            self._changed.notify_all()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Reject new calls, and end the thread after the waiting ones."""
        with self._changed:
            self._ended = True
            if cancel_futures:
                for future, _ in self._waiting:
                    future.cancel()
                self._waiting.clear()
            self._changed.notify_all()
        if wait:
            self._thread.join()

    def abandon(self, error: BaseException) -> None:
        """Reject new calls, and fail the current and the waiting ones with `error` immediately."""
        with self._changed:
            self._ended, self._abandoned = True, error
            under_way = self._under_way
            self._changed.notify_all()
        self._fail_waiting(error)
        if under_way is not None:
            with suppress(InvalidStateError):  # It ended meanwhile.
                under_way.set_exception(error)

    def abandon_once_it_hangs(self, seconds: float, error: BaseException) -> None:
        """Wait for the end of the worker, and abandon it as soon as a call takes longer than `seconds`."""
        while True:
            with self._changed:
                call = self._under_way
                if self._changed.wait_for(lambda call=call: self._ended or self._under_way is not call, seconds):  # type: ignore[misc]
                    if self._ended:
                        return
                    continue
            if call is not None:
                self.abandon(error)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                future, call = self._waiting.popleft()
                if not future.set_running_or_notify_cancel():
                    continue
                self._under_way = future
                self._changed.notify_all()
            self._make(future, call)
            with self._changed:
                self._under_way = None
                self._changed.notify_all()

    def _make(self, future: "Future[Any]", call: Callable[[], Any]) -> None:
        try:
            answer = call()
        except BaseException as error:
            if self._silences(error):
                self._fail_waiting(error)
            with suppress(InvalidStateError):  # It was abandoned.
                future.set_exception(error)
        else:
            with suppress(InvalidStateError):
                future.set_result(answer)

    def _fail_waiting(self, error: BaseException) -> None:
        with self._changed:
            waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
