"""An example of authentication: each person reaches only their own threads, memories and profile.

Switch it on with `"auth": {"path": "./graph/auth.py:auth"}` in langgraph.json, and name the tokens in the environment:
`BILLP_TOKENS={"a long random token": "ann"}`. `recommend` then takes the person's name from the token, whatever the
input says. A deployment with accounts of its own replaces `authenticate`.
"""

import hmac
import json
import os
from typing import Any

from langgraph_sdk import Auth

from memory.records import escape

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None) -> Auth.types.MinimalUserDict:
    """Return who sends a request, by its bearer token."""
    given = (authorization or "").removeprefix("Bearer ").encode()
    for token, name in json.loads(os.environ.get("BILLP_TOKENS") or "{}").items():
        if hmac.compare_digest(given, token.encode()):
            return {"identity": name}
    raise Auth.exceptions.HTTPException(status_code=401, detail="no valid token: send `Authorization: Bearer …`")


@auth.on
async def deny(ctx: Auth.types.AuthContext, value: Any) -> bool:
    """Refuse whatever has no rule of its own below."""
    return False


@auth.on.assistants
async def share_graphs(ctx: Auth.types.AuthContext, value: Any) -> bool:
    """Let everybody see which graphs there are, and nobody change them."""
    return ctx.action in ("read", "search")


@auth.on.threads
async def own_threads(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Auth.types.FilterType:
    """Let a person create threads, and reach only their own."""
    owner = {"owner": ctx.user.identity}
    # Changed in place: the server keeps the dictionary that it hands over, not what replaces it.
    value.setdefault("metadata", {}).update(owner)
    return owner


@auth.on.store
async def own_memories(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> bool:
    """Let a person read and delete what is remembered of them, in the spaces of people, and nothing else."""
    namespace = tuple(value.get("namespace") or ())
    return len(namespace) == 3 and namespace[1].startswith("people:") and namespace[2] == escape(ctx.user.identity)
