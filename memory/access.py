"""Accounts, the namespaces that each may reach, and a store that keeps to them."""

from collections.abc import Iterable
from dataclasses import dataclass

from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, Op, PutOp, Result, SearchOp

from memory.errors import AccessDeniedError
from memory.records import account_space, people_space, private_space, unescape

SHARE = "share"
"""Permission of an account whose visits teach others."""


@dataclass(frozen=True)
class Account:
    """Who is signed in, as the server's authentication says.

    Example:
        >>> bob = Account("bob")
        >>> bob.may_read(("lessons", "tiny")), bob.may_write(("lessons", "tiny", "8"))
        (True, False)
        >>> bob.may_read(("lessons", "people:tiny", "bob")), bob.may_read(("lessons", "people:tiny", "ann"))
        (True, False)
    """

    name: str
    shares: bool = False
    """Whether its visits teach others, and its edits of the shared memory are taken."""

    def may_read(self, prefix: tuple[str, ...]) -> bool:
        """Return whether all records below a prefix may be read: shared spaces and its own, never another account's."""
        space, user = self._place(prefix)
        return bool(space) and (self._common(space) or self._owns(space, user))

    def may_write(self, namespace: tuple[str, ...]) -> bool:
        """Return whether records of a namespace may be written or deleted."""
        space, user = self._place(namespace)
        return bool(space and user) and ((self.shares and self._common(space)) or self._owns(space, user))

    def _common(self, space: str) -> bool:
        # No name of a world or of a space has a colon.
        return ":" not in (space.removeprefix(private_space("")) if self.shares else space)

    def _owns(self, space: str, user: str) -> bool:
        if space.startswith(people_space("")):
            return user == self.name
        own = account_space(self.name, "")
        return space.startswith((own, private_space(own)))

    def _place(self, labels: tuple[str, ...]) -> tuple[str, str]:
        """Return space and user of a namespace, empty where it names none."""
        _, space, user = (*map(unescape, labels[:3]), "", "", "")[:3]
        return space, user


class ScopedStore(BaseStore):
    """The part of a store that an account may reach. The graph hands it to its nodes, so that no node reaches more.

    Args:
        store: The whole store.
        account: Who is signed in.

    Raises:
        AccessDeniedError: By each operation on somebody else's namespace; nothing is read or written then.
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

    def _checked(self, ops: Iterable[Op]) -> list[Op]:
        ops = list(ops)
        for op in ops:
            if not self._allows(op):
                raise AccessDeniedError(
                    f"the account {self.account.name!r} may not reach this part of the memory: "
                    "use its own spaces, or sign in as somebody else"
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
    """Return the store behind a `ScopedStore`, or the store itself; to know it again, not to reach around the scope."""
    return store.whole if isinstance(store, ScopedStore) else store
