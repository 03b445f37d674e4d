"""Holder of a file's lock: the process and its command, for the message to whoever finds the file locked."""

import itertools
import os
import re
from pathlib import Path

_LOCKS = Path("/proc/locks")
# Programs whose command is worth naming, each with the words that follow it.
_PROGRAMS = {"billp": "billp", "graph.cli": "billp", "langgraph": "langgraph", "chroma": "chroma"}


def lock_holder(path: Path) -> str:
    """Return the process that holds the lock of a file, such as "process 4711 (billp study)".

    Only Linux tells; elsewhere, and for a process of another container, the answer is "another process".
    """
    pid = _holder(path)
    if not pid:
        return "another process"
    if pid == os.getpid():
        return "this process"
    command = _command(_words(pid))
    return f"process {pid} ({command})" if command else f"process {pid}"


def server_address(path: Path) -> str:
    """Return the URL of the LangGraph server that holds the lock of a file; empty if no server holds it."""
    words = _words(_holder(path))
    if not any(os.path.basename(word) == "langgraph" for word in words):
        return ""
    given = dict(itertools.pairwise([part for word in words for part in word.split("=", 1)]))
    return f"http://{given.get('--host', '127.0.0.1')}:{given.get('--port', '2024')}"


def _holder(path: Path) -> int:
    """Return the id of the process that holds the lock of a file; 0 if unknown."""
    try:
        inode = path.stat().st_ino
        rows = [line.split() for line in _LOCKS.read_text().splitlines()]
    except OSError:
        return 0
    # A row is: number, kind, mode, access, pid, device:inode, start, end. A waiting process has `->` as its kind.
    pids = [int(row[4]) for row in rows if row[1] != "->" and row[5].rpartition(":")[2] == str(inode)]
    return next((one for one in pids if one > 0), 0)


def _words(pid: int) -> list[str]:
    """Return the words of a process's command; none if it cannot be read."""
    try:
        return [part.decode(errors="replace") for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    except OSError:
        return []


def _command(words: list[str]) -> str:
    """Return a command without its options, which may hold secrets; empty without words."""
    for place, word in enumerate(words):
        if program := _PROGRAMS.get(os.path.basename(word)):
            named = itertools.takewhile(lambda one: re.fullmatch(r"[a-z][a-z-]*", one), words[place + 1 : place + 3])
            return " ".join([program, *named])
    return os.path.basename(words[0]) if words else ""
