"""Errors that a user can fix; each message says how.

They are RuntimeErrors, and also ValueErrors if other input helps: LangGraph's server sends clients the message of these
two types. For every other type it sends "An internal error occurred".
"""

import shlex
from collections.abc import Sequence


class BillpError(RuntimeError):
    """Base of every error of the project outside `memory`. The message is one line and ends with the next step."""


class BadInputError(BillpError, ValueError):
    """Invalid input from a user, a file or a request; the command line exits with status 2."""


class MissingOptionsError(BadInputError):
    """Input that can be used with further options; the command line shows the command that has them.

    Args:
        fault: The faults, on one line.
        options: The options that mend them, as written on the command line.
        condition: Condition for the options; "" if there is none.
        otherwise: The options if the condition does not hold.
    """

    def __init__(
        self, fault: str, options: Sequence[str] = (), condition: str = "", otherwise: Sequence[str] = ()
    ) -> None:
        self.fault, self.options = fault, tuple(options)
        self.condition, self.otherwise = condition, tuple(otherwise)
        added = f"; add: {' '.join(map(shlex.quote, options))}" if options else ""
        super().__init__(f"{fault}{added}{f' ({self.note})' if condition else ''}")

    @property
    def note(self) -> str:
        """Return the condition with the other options."""
        return f"{self.condition}; else {' '.join(self.otherwise)}" if self.otherwise else self.condition

    def __reduce__(self) -> tuple[type["MissingOptionsError"], tuple[str, tuple[str, ...], str, tuple[str, ...]]]:
        return type(self), (self.fault, self.options, self.condition, self.otherwise)
