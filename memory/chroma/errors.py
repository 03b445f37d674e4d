"""Errors of the memory that a user can act on.

They are RuntimeErrors, and ValueErrors too if a changed request can succeed: LangGraph's server shows clients the
messages of these classes, and "An internal error occurred" for all others.
"""

from pathlib import Path


class StoreError(RuntimeError):
    """Base of all errors of `memory`. The message is one line with a remedy."""


class NoAnswerError(StoreError):
    """Raised if a Chroma server does not answer in time. The same call may succeed later."""


class BadStoreError(StoreError, ValueError):
    """Raised if a store is unusable (foreign, damaged, locked, another embedding)."""


class StoreInUseError(BadStoreError):
    """Raised if another process or store has locked the folder of a store.

    Args:
        message: The message.
        lock: File of the lock.
    """

    # The default serves unpickling, which restores the attribute afterwards.
    def __init__(self, message: str, lock: Path = Path()) -> None:
        super().__init__(message)
        self.lock = lock


class BadRecordError(StoreError, ValueError):
    """Raised if a record cannot be stored (a value that is not JSON, a vector of another shape)."""


class AccessDeniedError(StoreError):
    """Raised if an account may not access a namespace."""
