"""Terminal in which a test types: a process on a pseudo-terminal of its own, where Ctrl-C is a key."""

import fcntl
import os
import pty
import select
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.processes import Command, Process, started
from tests.waiting import PATIENCE

CTRL_C = "\x03"


class Terminal:
    """Keyboard and screen of a process."""

    def __init__(self, keyboard: int, process: Process) -> None:
        self._keyboard = keyboard
        self.process = process
        self.screen = ""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._keyboard, keys.encode())

    def wait_for(self, text: str, times: int = 1) -> None:
        """Read the screen until it shows a text so many times.

        Raises:
            AssertionError: The process ended, or PATIENCE seconds passed, before that.
        """
        end = time.monotonic() + PATIENCE
        while self.screen.count(text) < times:
            assert time.monotonic() < end and self._read(), f"{text!r} is missing on the screen:\n{self.screen}"

    def end(self) -> int:
        """Read the screen until the process has ended, and return its exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        if select.select([self._keyboard], [], [], PATIENCE)[0]:
            try:
                found = os.read(self._keyboard, 65_536)
            except OSError:
                # Linux reports so that no process has the terminal open.
                return False
            self.screen += found.decode(errors="replace").replace("\r\n", "\n")
            return bool(found)
        return False


@contextmanager
def terminal(command: Command, **options: Any) -> Iterator[Terminal]:
    """Run a command on a terminal while the block runs; further arguments are those of `subprocess.Popen`."""
    keyboard, screen = pty.openpty()
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), screen)

    def take_terminal() -> None:
        # The process leads a session; the keys of its terminal then send it signals.
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    try:
        with started(command, preexec_fn=take_terminal, **streams, **options) as process:
            os.close(screen)
            yield Terminal(keyboard, process)
    finally:
        os.close(keyboard)
