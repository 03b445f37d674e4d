"""Errors of the memory that a user can act on.

They are RuntimeErrors, and ValueErrors too if a changed request can succeed: LangGraph's server shows clients the
messages of these classes, and "An internal error occurred" for all others.
"""


class StoreError(RuntimeError):
    """Base of all errors of `memory`. The message is one line with a remedy."""


class NoAnswerError(StoreError):
    """Raised if a Chroma server does not answer in time. The same call may succeed later."""


class BadStoreError(StoreError, ValueError):
    """Raised if a store is unusable (foreign, damaged, locked, another embedding)."""


class BadRecordError(StoreError, ValueError):
    """Raised if a record cannot be stored (a value that is not JSON, a vector of another shape)."""


class AccessDeniedError(StoreError):
    """Raised if an account may not access a namespace."""
