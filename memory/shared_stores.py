"""Open stores of the process: one for each location, shared by all its users.

LangGraph's server opens the store once for each of its threads, and loads `memory/store.py` under another module name.
A folder can be opened only once.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar


class Closable(Protocol):
    """A store. Not `ChromaStore`, since that class exists once for each name its module was loaded under."""

    def close(self) -> None:
        """Close the connection to Chroma."""


S = TypeVar("S", bound=Closable)


class SharedStores:
    """Stores by location. Each is closed when its last user leaves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, tuple[Any, int]] = {}

    def join(self, where: str, make: Callable[[str], S]) -> S:
        """Return the store at `where`, opened with `make` if it is not open yet."""
        with self._lock:
            store: S
            store, users = self._users[where] if where in self._users else (make(where), 0)
            self._users[where] = (store, users + 1)
            return store

    def leave(self, where: str) -> None:
        """Release a store from `join`. The last user closes it."""
        with self._lock:
            store, users = self._users.pop(where)
            if users > 1:
                self._users[where] = (store, users - 1)
            else:
                store.close()


open_stores = SharedStores()
