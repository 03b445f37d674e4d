"""One open store a place, shared by all in the process who ask for it.

LangGraph's server asks for the store once for each of its threads, and loads `memory/store.py` under a module name of
its own; a folder can be opened only once.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar


class Closable(Protocol):
    """A store. Not `ChromaStore`: that class exists once for each name under which its module was loaded."""

    def close(self) -> None:
        """Leave Chroma."""


S = TypeVar("S", bound=Closable)


class SharedStores:
    """Stores by place, each closed when the last of its users leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, tuple[Any, int]] = {}

    def join(self, where: str, make: Callable[[str], S]) -> S:
        """Return the store at `where`, made by `make` if nobody has it open."""
        with self._lock:
            store: S
            store, users = self._users[where] if where in self._users else (make(where), 0)
            self._users[where] = (store, users + 1)
            return store

    def leave(self, where: str) -> None:
        """Give back what `join` returned; the last one closes it."""
        with self._lock:
            store, users = self._users.pop(where)
            if users > 1:
                self._users[where] = (store, users - 1)
            else:
                store.close()


open_stores = SharedStores()
