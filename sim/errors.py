"""Faults that a user can do something about, each with what to do next.

They are RuntimeErrors, or ValueErrors where other input helps: LangGraph's server shows clients the message of these,
and "An internal error occurred" for all else.
"""


class BillpError(RuntimeError):
    """Base of every fault of the project outside `memory`; the message is one line and names the way out."""


class BadInputError(BillpError, ValueError):
    """Raised where what a user, a file or a request brought cannot be used; the command line exits with 2."""
