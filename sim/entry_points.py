"""Registry of plug-ins: built-in objects and objects from the entry points of installed packages, by name."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, TypeVar

from sim.errors import BadInputError

ENTRY_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_log = logging.getLogger(__name__)

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Mapping from names to built-in objects and plug-ins.

    Entry points are loaded when the mapping is listed or a name that is not built in is looked up. A plug-in that
    cannot be used is left out, with one warning in the log.

    Args:
        what: Kind of object, as the warning calls it.
        group: Entry point group of the plug-ins.
        own: Built-in objects by name.
        checked: Converts the object that an entry point loads; raises if the object is unsuitable.
    """

    def __init__(self, what: str, group: str, own: Mapping[str, T], checked: Callable[[Any], T]) -> None:
        self._what = what
        self._group = group
        self._own = own
        self._checked = checked
        self._added: dict[str, T] = {}

    def add(self, name: str, loaded: Any) -> None:
        """Add an object for this process; it replaces an object added before under the name.

        Raises:
            BadInputError: The object is unsuitable, or the name is invalid or that of another object.
        """
        if not ENTRY_NAME.fullmatch(name):
            raise BadInputError(
                f"its name {name[:80]!r} is invalid: use lower-case letters, digits and _, starting with a letter"
            )
        if name in self._own or name in self._installed:
            raise BadInputError(f"there is another {self._what} {name!r}: choose another name")
        self._added[name] = self._checked(loaded)

    def remove(self, name: str) -> None:
        """Remove an object that `add` added.

        Raises:
            KeyError: No such object was added.
        """
        del self._added[name]

    def __getitem__(self, name: str) -> T:
        for known in (self._own, self._added):
            if name in known:
                return known[name]
        return self._installed[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._own, *self._installed, *self._added))

    def __len__(self) -> int:
        return len(self._own) + len(self._installed) + len(self._added)

    @cached_property
    def _installed(self) -> dict[str, T]:
        found: dict[str, T] = {}
        for entry in sorted(entry_points(group=self._group), key=lambda one: one.name):
            try:
                if not ENTRY_NAME.fullmatch(entry.name):
                    raise BadInputError("its name is invalid: use lower-case letters, digits and _")
                if entry.name in self._own or entry.name in found:
                    raise BadInputError(f"there is another {self._what} of that name")
                found[entry.name] = self._checked(entry.load())
            except Exception as error:  # Foreign code may raise anything.
                package = entry.dist.name if entry.dist else entry.value
                reason = " ".join(str(error).split()) or type(error).__name__
                _log.warning("%s %s of the package %s is left out: %s", self._what, entry.name, package, reason)
        return found
