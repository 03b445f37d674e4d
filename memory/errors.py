"""Faults of the memory that a user can do something about."""


class StoreError(Exception):
    """Base of every fault of `memory`; the message is one line and names the way out."""


class BadStoreError(StoreError, ValueError):
    """Raised where a store cannot be used as it is (foreign, damaged, locked, another embedding)."""


class BadRecordError(StoreError, ValueError):
    """Raised where a record cannot be stored as it is (no JSON, a vector that does not fit)."""


class AccessDeniedError(StoreError):
    """Raised where an account may not reach a namespace."""
