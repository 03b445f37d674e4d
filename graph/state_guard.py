"""Checks before each node: types, bounds and owner of the state.

The state can be edited between any two nodes: in Studio, over the API, by a command. So every node checks the state
again, whatever earlier nodes checked.
"""

from typing import Any

from langgraph.config import get_config
from langgraph.constants import CONF
from langgraph.runtime import get_runtime

from memory.access import Account, ScopedStore
from nodes.lifecycle import check_limits
from nodes.state import MAX_STEPS, VisitState
from nodes.visit_memory import signed_in
from sim.errors import BadInputError

_RUNTIME = "__pregel_runtime"
"""LangGraph's key for the runtime of a task, from which `get_store`, `get_runtime` and subgraphs take the store."""


def check_state(state: VisitState) -> None:
    """Check types and bounds of a state, and the order of its rounds.

    Raises:
        BadInputError: A field is invalid; the message names it.
    """
    state.check_types()
    check_limits(state)
    if len(state.steps) > MAX_STEPS:
        raise BadInputError(f"steps: there are more than {MAX_STEPS:,} rounds; remove some")
    for place, step in enumerate(state.steps):
        if step.index != place:
            raise BadInputError(f"steps: round {place} is missing or out of order: the rounds count from 0")


def check_owner(state: VisitState, account: Account | None) -> None:
    """Check that a person's visit belongs to the account that runs it. Simulated users have no owner.

    Raises:
        BadInputError: The state names another person.
    """
    if account is not None and state.profile is not None and state.user_id != account.name:
        raise BadInputError(
            f"user_id: the visit belongs to {state.user_id[:80]!r}, but {account.name[:80]!r} is signed in: "
            "start a visit of your own"
        )


def limit_store(given: dict[str, Any]) -> None:
    """Limit the store of the current task to the records that the signed-in account may reach.

    Args:
        given: Arguments that LangGraph passes to the node beside the state. `runtime` and `store` are replaced here,
            and so is the runtime of the task, because a node can take the store from there and hands it to a subgraph.
    """
    runtime = get_runtime()
    account = signed_in(runtime)
    if account is None or runtime.store is None or isinstance(runtime.store, ScopedStore):
        return
    scoped = ScopedStore(runtime.store, account)
    get_config()[CONF][_RUNTIME] = runtime.override(store=scoped)
    if "runtime" in given:
        given["runtime"] = given["runtime"].override(store=scoped)
    if "store" in given:
        given["store"] = scoped
