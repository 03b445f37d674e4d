"""Accounts of a server: their tokens and permissions, from the variable BILLP_TOKENS."""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from memory.access import SHARE
from nodes.lifecycle import MAX_INPUT_TEXT
from sim.errors import BillpError

VARIABLE = "BILLP_TOKENS"
FORM = f'write {VARIABLE}={{"TOKEN": "ann", "TOKEN": {{"name": "bob", "share": true}}}}, each token random: '
FORM += "`openssl rand -hex 24`"
# A text of 16 random letters and digits has 95 bits, too many to guess.
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 500


class AccountsError(BillpError):
    """Raised when the accounts of a server are invalid. The message names the entry and shows no token."""


def _user_id(name: str) -> str:
    """Check that a name can be a user id and a label of the store.

    Raises:
        ValueError: The name is invalid.
    """
    if not 0 < len(name) <= MAX_INPUT_TEXT:
        raise ValueError(f"a name has 1 to {MAX_INPUT_TEXT} characters")
    # `account:NAME:SPACE` is a space of the store, and `*` matches any label when namespaces are listed.
    if not name.isprintable() or name != name.strip() or ":" in name or name == "*":
        raise ValueError("a name has visible characters, no colon, no blank at its ends, and is not *")
    return name


def _from_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class AccountEntry(BaseModel):
    """Holder of a token."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(strict=True), AfterValidator(_user_id)]
    """Identity of the account, and user id of the person in their own visits."""
    share: bool = Field(False, strict=True)
    """Whether the account may write memories that others recall."""

    @property
    def permissions(self) -> list[str]:
        """Permissions as LangGraph passes them to handlers and runs."""
        return [SHARE] if self.share else []


_ENTRY: TypeAdapter[AccountEntry] = TypeAdapter(Annotated[AccountEntry, BeforeValidator(_from_name)])
_TOKEN: TypeAdapter[str] = TypeAdapter(
    Annotated[str, Field(min_length=SHORTEST_TOKEN, max_length=LONGEST_TOKEN, pattern=r"^[!-~]*$")]
)


class _Pairs(list[tuple[str, Any]]):
    """Members of a JSON object in written order; `json.loads` alone keeps only the last of two equal keys."""


class _Holder(NamedTuple):
    digest: bytes
    account: AccountEntry


class Accounts:
    """Accounts by token. Only a digest of each token is kept, so that no token gets into a log."""

    def __init__(self, text: str) -> None:
        """Read the accounts.

        Args:
            text: A JSON object from token to name, or to an object with `name` and `share`.

        Raises:
            AccountsError: An entry is invalid.
        """
        self._holders: list[_Holder] = []
        for number, (token, value) in enumerate(_members(text), 1):
            holder = _Holder(_digest(_checked_token(number, token).encode()), _account(number, value))
            for before, other in enumerate(self._holders, 1):
                if other.digest == holder.digest:
                    raise AccountsError(f"{VARIABLE}: entry {number} has the token of entry {before}")
                if other.account.name == holder.account.name:
                    raise AccountsError(f"{VARIABLE}: entry {number} has the name of entry {before}")
            self._holders.append(holder)

    def __len__(self) -> int:
        return len(self._holders)

    def holder(self, authorization: bytes) -> AccountEntry | None:
        """Return the account of the token in an `Authorization` header; None if no token matches."""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        shown, found = _digest(token.strip()), None
        # Compare with all entries, so that the time does not depend on the entry.
        for holder in self._holders:
            if hmac.compare_digest(shown, holder.digest):
                found = holder.account
        return found


def configured_accounts(environment: Mapping[str, str] = os.environ) -> Accounts:
    """Return the accounts in BILLP_TOKENS.

    Raises:
        AccountsError: No account is configured, or an entry is invalid.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        raise AccountsError(f"authentication is on, and {VARIABLE} is not set: {FORM}")
    return Accounts(text)


def _members(text: str) -> _Pairs:
    try:
        members = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        # Not chained: the message of the cause may contain a token.
        raise AccountsError(f"{VARIABLE} is not JSON: {FORM}") from None
    if not isinstance(members, _Pairs) or not members:
        raise AccountsError(f"{VARIABLE} is not a JSON object with an entry for each account: {FORM}")
    return members


def _checked_token(number: int, token: str) -> str:
    try:
        return _TOKEN.validate_python(token)
    except ValidationError:
        raise AccountsError(
            f"{VARIABLE}: the token of entry {number} must have {SHORTEST_TOKEN} to {LONGEST_TOKEN} visible ASCII "
            f"characters, but has {len(token)}"
        ) from None


def _account(number: int, value: object) -> AccountEntry:
    if isinstance(value, _Pairs):
        if len({key for key, _ in value}) < len(value):
            raise AccountsError(f"{VARIABLE}: entry {number} contains a key twice: remove one of them")
        value = dict(value)
    try:
        return _ENTRY.validate_python(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise AccountsError(
            f"{VARIABLE}: entry {number} cannot be used ({f'{where}: ' if where else ''}{fault['msg']}): {FORM}"
        ) from None


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
