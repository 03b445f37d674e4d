"""First and last node of a visit, and the limits of its input."""

from contextvars import ContextVar
from typing import Any

from langgraph.runtime import Runtime

from nodes.context import Context
from nodes.state import MAX_STEPS, Identity, Profile, VisitInput, VisitStart, VisitState
from nodes.tools.open_world import default_world
from nodes.user_view import visitor
from nodes.visit_memory import visit_id
from sim.errors import BadInputError

# Limits of a request: titles, and characters of the history, of a name or title, of the wishes.
MAX_HISTORY = 1_000
MAX_HISTORY_TEXT = 50_000
MAX_INPUT_TEXT = 500
MAX_WISHES = 2_000
history_bytes: ContextVar[int | None] = ContextVar("history_bytes", default=None)
"""Most bytes of the states in a history, the first state aside. A server sets it for requests; None for no limit."""


async def simulated_name(visit: VisitState, identity: str) -> str:
    """Return the id of the simulated user; the account that asks for the visit is not the user.

    Raises:
        BadInputError: The world is unknown, or it has no such user.
    """
    return (await visitor(visit)).user_id


async def begin(state: VisitStart, runtime: Runtime[Context]) -> dict[str, Any]:
    """Check the input, and start a visit.

    Raises:
        BadInputError: The input cannot be used; the message says why.
    """
    who = await visitor(check_input(state))
    return fresh_visit(state, who.user_id, None, runtime)


def fresh_visit(state: VisitStart, user_id: str, profile: Profile | None, runtime: Runtime[Context]) -> dict[str, Any]:
    """Return the first state of a visit; the graph resets the other fields before."""
    world = state.world or default_world()
    identity = Identity(world=world, user_id=user_id, history=state.history, seed=state.seed, max_steps=state.max_steps)
    numbered = VisitState(identity=identity, profile=profile, visit=state.visit + 1, place=state.place)
    return {
        "identity": identity,
        "profile": profile,
        "visit": numbered.visit,
        "place": numbered.place,
        "visit_id": visit_id(numbered, runtime),
    }


def check_input(state: VisitStart) -> VisitState:
    """Check the limits of a visit's input, and return it as a state for the nodes.

    Raises:
        BadInputError: The input breaks a limit.
    """
    state.check_types()
    check_limits(state)
    if len(state.wishes) > MAX_WISHES:
        raise BadInputError(f"the wishes have {len(state.wishes):,} characters: at most {MAX_WISHES:,} are allowed")
    given = {name: getattr(state, name) for name in ("user_id", "history", "seed", "max_steps")}
    return VisitState(world=state.world or default_world(), **given)


def check_limits(visit: VisitInput) -> None:
    """Check the limits of the identity of a visit, in a new input and in an edited state.

    Raises:
        BadInputError: The identity breaks a limit.
    """
    if visit.seed >= 2**63:
        raise BadInputError("seed is too large: choose one below 2**63")
    if any("\0" in text for text in (visit.world, visit.user_id)):
        raise BadInputError("a name contains a NUL character: remove it")
    if not 1 <= visit.max_steps <= MAX_STEPS:
        raise BadInputError(f"max_steps is {visit.max_steps}: it must be between 1 and {MAX_STEPS:,}")
    if visit.seed < 0:
        raise BadInputError(f"seed is {visit.seed}: it must be 0 or more")
    if len(visit.history) > MAX_HISTORY:
        raise BadInputError(f"the history has {len(visit.history):,} titles: at most {MAX_HISTORY:,} are allowed")
    if any(len(text) > MAX_INPUT_TEXT for text in (visit.world, visit.user_id, *visit.history)):
        raise BadInputError(f"a name or title is longer than {MAX_INPUT_TEXT} characters: shorten it")
    if (length := sum(map(len, visit.history))) > MAX_HISTORY_TEXT:
        raise BadInputError(f"the history has {length:,} characters: at most {MAX_HISTORY_TEXT:,} are allowed")


async def finish(state: VisitState) -> dict[str, Any]:
    """Return the length and the rewards of the finished visit."""
    stayed = [step for step in state.steps if not step.left]
    total = sum(step.reward for step in stayed)
    return {
        "user_id": state.user_id,
        "length": len(stayed),
        "length_with_exit": len(state.steps),
        "total_reward": round(total, 6),
        "mean_reward": round(total / len(stayed), 6) if stayed else 0.0,
    }
