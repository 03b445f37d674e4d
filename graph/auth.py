"""Example of authentication: accounts with tokens, each limited to its own threads, memories and profile.

`langgraph.auth.json` switches authentication on; BILLP_TOKENS lists the accounts. `recommend` takes the person's name
from the token and ignores the name in the input. A deployment with other accounts replaces `authenticate` and returns
"share" in `permissions` for accounts that may write shared memories. docs/security.md lists the protected data.
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

# Read at the start of the server: without accounts, or with an invalid entry, the server does not start.
ACCOUNTS = configured_accounts()
LIMITS = configured_limits()
# Seconds after which a client may try again to start a visit.
SOON = "10"
A_DAY = 86_400
# Load the kinds of memory that other packages add.
known_kinds()

if not json.loads(os.environ.get("LANGGRAPH_AUTH") or "{}").get("disable_studio_auth"):
    logging.getLogger(__name__).warning(
        "Authentication is on, but LangGraph takes Studio's header `x-auth-scheme` instead of a token: set "
        '"disable_studio_auth": true in the part "auth" of the configuration, as langgraph.auth.json has it.'
    )


@auth.authenticate
async def authenticate(headers: dict[bytes, bytes]) -> Auth.types.MinimalUserDict:
    """Return the account of a request, by its bearer token."""
    # Headers are bytes: a header that is not valid text must not raise an error in the server.
    if account := ACCOUNTS.holder(headers.get(b"authorization", b"")):
        return {"identity": account.name, "permissions": account.permissions}
    raise Auth.exceptions.HTTPException(status_code=401, detail="no valid token: send `Authorization: Bearer …`")


def is_account(ctx: Auth.types.AuthContext) -> bool:
    """Return whether an account sent the request: LangGraph lets users of Studio skip `authenticate`."""
    return bool(ctx.user.identity) and not isinstance(ctx.user, Auth.types.StudioUser)


@auth.on
async def deny(ctx: Auth.types.AuthContext, value: Any) -> bool:
    """Refuse every request that no rule below allows."""
    return False


@auth.on.assistants
async def share_graphs(ctx: Auth.types.AuthContext, value: Any) -> bool:
    """Let every account read the list of graphs, and let no account change it."""
    return is_account(ctx) and ctx.action in ("read", "search")


def marked_as_own(ctx: Auth.types.AuthContext, metadata: dict[str, Any]) -> dict[str, str]:
    """Write the account into the metadata of a new object, and return the filter for the account's own objects."""
    owner = {"owner": ctx.user.identity}
    # Change the dictionary in place: the server keeps the object that it passed in and ignores a replacement.
    metadata.update(owner)
    return owner


@auth.on.threads
async def own_threads(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> dict[str, str] | bool:
    """Let an account create threads, and reach its own threads only."""
    known = ctx.action in ("create", "read", "update", "delete", "search")
    return is_account(ctx) and known and marked_as_own(ctx, value.setdefault("metadata", {}))


@auth.on.threads.create_run
async def start_visit(ctx: Auth.types.AuthContext, value: Auth.types.RunsCreate) -> dict[str, str] | bool:
    """Let an account start a visit on its own thread, up to its limit of visits at once.

    Raises:
        HTTPException: The account has reached its limit; or the visit would start in more than a day, a delay that may
            exceed the dates that LangGraph's clock can represent.
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
    """Let an account read and delete its own records; with "share", read and write the shared records too.

    Raises:
        HTTPException: The account may not write, or the written value is not a record of a known kind.
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
