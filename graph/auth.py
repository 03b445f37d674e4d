"""An example of authentication: accounts with tokens, each of which reaches its own threads, memories and profile.

`langgraph.auth.json` switches it on; BILLP_TOKENS has the accounts. `recommend` takes the person's name from the token,
whatever the input says. A deployment with accounts of its own replaces `authenticate`, and hands on `permissions` with
"share" for those who may teach. docs/security.md has what is protected.
"""

import json
import logging
import os
from typing import Any

from langgraph_sdk import Auth

from graph.server.accounts import configured_accounts
from graph.server.limits import configured_limits, visits_under_way
from graph.server.store_access import RefusedRecordError, check_record, may_use
from graph.variants import known_kinds
from memory.access import SHARE, Account

auth = Auth()

# Read as the server starts: one that knows nobody, or has an entry that cannot be used, does not start.
ACCOUNTS = configured_accounts()
LIMITS = configured_limits()
# Seconds after which a client may try again to start a visit.
SOON = "10"
A_DAY = 86_400
# Loads the kinds of memory that other packages bring.
known_kinds()

if not json.loads(os.environ.get("LANGGRAPH_AUTH") or "{}").get("disable_studio_auth"):
    logging.getLogger(__name__).warning(
        "Authentication is on, but LangGraph takes Studio's header `x-auth-scheme` instead of a token: set "
        '"disable_studio_auth": true in the part "auth" of the configuration, as langgraph.auth.json has it.'
    )


@auth.authenticate
async def authenticate(headers: dict[bytes, bytes]) -> Auth.types.MinimalUserDict:
    """Return who sends a request, by its bearer token."""
    # Headers as bytes: one that is no text is no fault of the server.
    if account := ACCOUNTS.holder(headers.get(b"authorization", b"")):
        return {"identity": account.name, "permissions": account.permissions}
    raise Auth.exceptions.HTTPException(status_code=401, detail="no valid token: send `Authorization: Bearer …`")


def is_account(ctx: Auth.types.AuthContext) -> bool:
    """Say whether a request is an account's: LangGraph lets Studio's users in past `authenticate`."""
    return bool(ctx.user.identity) and not isinstance(ctx.user, Auth.types.StudioUser)


@auth.on
async def deny(ctx: Auth.types.AuthContext, value: Any) -> bool:
    """Refuse whatever has no rule of its own below."""
    return False


@auth.on.assistants
async def share_graphs(ctx: Auth.types.AuthContext, value: Any) -> bool:
    """Let everybody see which graphs there are, and nobody change them."""
    return is_account(ctx) and ctx.action in ("read", "search")


def marked_as_own(ctx: Auth.types.AuthContext, metadata: dict[str, Any]) -> dict[str, str]:
    """Write the account into the metadata of what a request makes, and return the filter for what is the account's."""
    owner = {"owner": ctx.user.identity}
    # Changed in place: the server keeps the dictionary that it hands over, not what replaces it.
    metadata.update(owner)
    return owner


@auth.on.threads
async def own_threads(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> dict[str, str] | bool:
    """Let an account create threads, and reach only its own."""
    known = ctx.action in ("create", "read", "update", "delete", "search")
    return is_account(ctx) and known and marked_as_own(ctx, value.setdefault("metadata", {}))


@auth.on.threads.create_run
async def start_visit(ctx: Auth.types.AuthContext, value: Auth.types.RunsCreate) -> dict[str, str] | bool:
    """Let an account start a visit on a thread of its own, unless it has too many under way.

    Raises:
        HTTPException: It has, or it is to start in more than a day, of which LangGraph's clock may know no date.
    """
    if not is_account(ctx):
        return False
    if not 0 <= value.get("after_seconds", 0) <= A_DAY:
        raise Auth.exceptions.HTTPException(status_code=422, detail=f"after_seconds is at most {A_DAY:,}")
    if await visits_under_way(ctx.user.identity) >= LIMITS.visits:
        detail = f"{LIMITS.visits:,} visits at once are under way"
        raise Auth.exceptions.HTTPException(status_code=429, detail=detail, headers={"Retry-After": SOON})
    return marked_as_own(ctx, value.setdefault("metadata", {}))


@auth.on.store
async def own_memories(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> bool:
    """Let an account read and delete what is its own, and one that may share read and write what all visits recall.

    Raises:
        HTTPException: It may not write, or what it writes is no record of a known kind.
    """
    if not is_account(ctx):
        return False
    account = Account(ctx.user.identity, SHARE in ctx.permissions)
    if ctx.action == "put" and not account.shares:
        detail = 'this account may not write memories: those that may have "share": true in BILLP_TOKENS'
        raise Auth.exceptions.HTTPException(status_code=403, detail=detail)
    if not may_use(account, ctx.action, tuple(value.get("namespace") or ())):
        return False
    if ctx.action == "put":
        try:
            check_record(value)
        except RefusedRecordError as error:
            raise Auth.exceptions.HTTPException(status_code=422, detail=str(error)) from error
    return True
