"""Accounts, the namespaces that each may read and write, and a store limited to them."""

from collections.abc import Iterable
from dataclasses import dataclass

from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, Op, PutOp, Result, SearchOp

from memory.chroma.errors import AccessDeniedError
from memory.records import account_space, escape, people_space, private_space, unescape

SHARE = "share"
"""Permission of an account whose visits teach other users."""


@dataclass(frozen=True)
class Account:
    """Signed-in account, as given by the server's authentication.

    Example:
        >>> bob = Account("bob")
        >>> bob.may_read(("lessons", "tiny")), bob.may_write(("lessons", "tiny", "8"))
        (True, False)
        >>> bob.may_read(("lessons", "people:tiny", "bob")), bob.may_read(("lessons", "people:tiny", "ann"))
        (True, False)
    """

    name: str
    shares: bool = False
    """Whether its visits teach other users, and whether it may edit the shared memory."""

    def owns(self, labels: tuple[str, ...]) -> bool:
        """Return whether all records below a prefix are this account's: as a person, or of its simulated visits."""
        space, user = _place(labels)
        if space.startswith(people_space("")):
            return user == self.name
        return space.removeprefix(private_space("")).startswith(account_space(self.name, ""))

    def may_read(self, labels: tuple[str, ...]) -> bool:
        """Return whether the account may read all records below a prefix: shared ones and its own, no other's."""
        return self.owns(labels) or is_shared(labels) or (self.shares and _is_private(labels))

    def may_write(self, labels: tuple[str, ...]) -> bool:
        """Return whether the account may write records in a namespace."""
        if not all(_place(labels)):
            return False
        return self.owns(labels) or (self.shares and (is_shared(labels) or _is_private(labels)))


def is_shared(labels: tuple[str, ...]) -> bool:
    """Return whether all records below a prefix are in a space that every visit may recall.

    Names of worlds and shared spaces contain no colon; names of all other spaces do. `*` matches any label in a
    listing.
    """
    space, _ = _place(labels)
    return bool(space) and ":" not in space and space != "*"


def _is_private(labels: tuple[str, ...]) -> bool:
    """Return whether records are in the private part of a shared space, recalled only by their own simulated users."""
    space, _ = _place(labels)
    return space.startswith(private_space("")) and is_shared(("", escape(space.removeprefix(private_space("")))))


def _place(labels: tuple[str, ...]) -> tuple[str, str]:
    """Return space and user of a namespace, each empty if missing."""
    if not 2 <= len(labels) <= 3:
        return "", ""
    _, space, user = (*map(unescape, labels), "")[:3]
    return space, user


class ScopedStore(BaseStore):
    """Part of a store that an account may reach. The graph passes it to its nodes, which limits every node to it.

    Args:
        store: The whole store.
        account: The signed-in account.

    Raises:
        AccessDeniedError: By each operation on another account's namespace. Nothing is read or written.
    """

    def __init__(self, store: BaseStore, account: Account) -> None:
        self.whole = store
        self.account = account
        self.ttl_config = store.ttl_config
        self.supports_ttl = store.supports_ttl

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations, see `BaseStore.batch`."""
        return self.whole.batch(self._checked(ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations, see `BaseStore.abatch`."""
        return await self.whole.abatch(self._checked(ops))

    def whole_below(self, prefix: tuple[str, ...]) -> BaseStore:
        """Return the whole store for reads below a prefix.

        Raises:
            AccessDeniedError: The account may not read all records below it.
        """
        self._checked([SearchOp(prefix)])
        return self.whole

    def _checked(self, ops: Iterable[Op]) -> list[Op]:
        ops = list(ops)
        for op in ops:
            if not self._allows(op):
                raise AccessDeniedError(
                    f"the account {self.account.name!r} may not access this part of the memory: "
                    "use the account's own spaces, or sign in to another account"
                )
        return ops

    def _allows(self, op: Op) -> bool:
        match op:
            case GetOp():
                return self.account.may_read(op.namespace)
            case SearchOp():
                return self.account.may_read(op.namespace_prefix)
            case PutOp():
                return self.account.may_write(op.namespace)
            case ListNamespacesOp():
                return False


def whole_store(store: BaseStore) -> BaseStore:
    """Return the store behind a `ScopedStore`, or the store itself. For identification, not to bypass the scope."""
    return store.whole if isinstance(store, ScopedStore) else store
