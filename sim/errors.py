"""Errors that a user can fix; each message says how.

They are RuntimeErrors, and also ValueErrors if other input helps: LangGraph's server sends clients the message of these
two types. For every other type it sends "An internal error occurred".
"""


class BillpError(RuntimeError):
    """Base of every error of the project outside `memory`. The message is one line and ends with the next step."""


class BadInputError(BillpError, ValueError):
    """Invalid input from a user, a file or a request; the command line exits with status 2."""
