"""Headless Chromium of Debian, controlled by the DevTools protocol."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.processes import started

PATIENCE = 60.0
EXECUTABLE = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(EXECUTABLE is None, reason="no chromium here: apt-get install chromium")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Visited(NamedTuple):
    """Result of opening a page."""

    faults: list[str]
    """Errors and warnings of the console, exceptions of scripts and dialogs."""
    fetched: list[str]
    """Requested addresses, without the page's own."""
    answers: list[Any]


@contextmanager
def browser(profile: Path) -> Iterator[str]:
    """Start Chromium with an empty profile, and yield the address of its DevTools."""
    assert EXECUTABLE is not None
    command = [EXECUTABLE, *QUIET, "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    with started(command, signal.SIGKILL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        listening = (line for line in process.stderr if line.startswith("DevTools listening on "))
        yield next(listening).rsplit(" ", 1)[1].strip()


def open_page(devtools: str, page: Path, width: int, questions: tuple[str, ...], *, dark: bool = False) -> Visited:
    """Open a page in a window of the given width, and evaluate expressions in it."""
    with connect(devtools, max_size=None, proxy=None) as socket:
        target = _Session(socket).call("Target.createTarget", url="about:blank")["targetId"]
        session = _Session(socket)
        session.id = session.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            session.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        session.call("Emulation.setEmulatedMedia", features=[scheme])
        session.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600
        )
        session.call("Page.navigate", url=page.as_uri())
        session.wait_for("Page.loadEventFired")
        answers = [
            session.call("Runtime.evaluate", expression=question, returnByValue=True)["result"].get("value")
            for question in questions
        ]
        session.call("Target.closeTarget", targetId=target)
    requested = [event["params"]["request"]["url"] for event in session.of("Network.requestWillBeSent")]
    return Visited(
        [*map(str, session.of("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"))]
        + [str(event) for event in session.of("Runtime.consoleAPICalled")],
        [url for url in requested if url not in (page.as_uri(), "about:blank", "data:,")],
        answers,
    )


class _Session:
    """Calls over one connection, with the events received between them."""

    def __init__(self, socket: ClientConnection) -> None:
        self.id = ""
        self._socket = socket
        self._events: list[dict[str, Any]] = []
        self._calls = 0

    def call(self, method: str, **params: Any) -> Any:
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": self.id} if self.id else {})))
        while True:
            heard = self._hear()
            if heard.get("id") == self._calls:
                assert "error" not in heard, (method, heard)
                return heard["result"]

    def wait_for(self, event: str) -> None:
        while not self.of(event):
            self._hear()

    def of(self, *events: str) -> list[dict[str, Any]]:
        return [one for one in self._events if one["method"] in events]

    def _hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self._socket.recv(PATIENCE))
        if "method" in heard:
            self._events.append(heard)
        return heard
