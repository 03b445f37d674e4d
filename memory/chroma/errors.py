"""Faults of the memory that a user can do something about.

They are RuntimeErrors, or ValueErrors where the caller can ask otherwise: LangGraph's server shows clients the message
of these, and "An internal error occurred" for all else.
"""


class StoreError(RuntimeError):
    """Base of every fault of `memory`; the message is one line and names the way out."""


class NoAnswerError(StoreError):
    """Raised where a Chroma server does not answer in time; the same call may succeed later."""


class BadStoreError(StoreError, ValueError):
    """Raised where a store cannot be used as it is (foreign, damaged, locked, another embedding)."""


class BadRecordError(StoreError, ValueError):
    """Raised where a record cannot be stored as it is (no JSON, a vector that does not fit)."""


class AccessDeniedError(StoreError):
    """Raised where an account may not reach a namespace."""
