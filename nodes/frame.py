"""Begin and end of a visit."""

from typing import Any

from langgraph.runtime import Runtime
from langgraph.types import Overwrite

from nodes.context import Context
from nodes.state import Usage, VisitState
from nodes.visitor import visitor
from nodes.worlds import default_world
from sim.errors import BadInputError

# Limits of what a request may bring.
MAX_STEPS = 10_000
MAX_HISTORY = 1_000
MAX_TEXT = 500
MAX_WISHES = 2_000


async def begin(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Check the input, and clear what a former visit on the same thread left.

    Raises:
        BadInputError: The input cannot be used; the message says why.
    """
    check_input(state)
    world = state.world or default_world()
    state = state.model_copy(update={"world": world, "brought": state.history, "profile": None, "steps": []})
    who = await visitor(state)
    return fresh_visit(state.model_copy(update={"user_id": who.user_id}), runtime)


def fresh_visit(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Return the state of a visit that begins, for the world and user of `state`."""
    thread = runtime.execution_info.thread_id if runtime.execution_info else None
    number = state.visit + 1
    origin = thread or f"{state.world}/{state.user_id}/{state.seed}"
    return {
        "world": state.world,
        "user_id": state.user_id,
        # Taken over from the input, which keeps what it is not given anew: the next visit may be another user's.
        "brought": state.history,
        "history": [],
        "wishes": "",
        "profile": state.profile,
        "visit": number,
        "visit_id": f"{origin}#{number}",
        "plan": "",
        "lessons": [],
        "experiences": [],
        "shortlist": [],
        "proposal": None,
        "value": 0.0,
        "exchange": {},
        "usage": Usage(),
        "steps": Overwrite([]),
        "records": Overwrite([]),
        "left": False,
        "leave_reason": None,
    }


def check_input(state: VisitState) -> None:
    """Check the limits of what a visit is given.

    Raises:
        BadInputError: One is not kept.
    """
    state.check_types()
    if not 1 <= state.max_steps <= MAX_STEPS:
        raise BadInputError(f"max_steps is {state.max_steps}: it must be between 1 and {MAX_STEPS:,}")
    if state.seed < 0:
        raise BadInputError(f"seed is {state.seed}: it must be 0 or more")
    if len(state.history) > MAX_HISTORY:
        raise BadInputError(f"the history has {len(state.history):,} titles: at most {MAX_HISTORY:,} are taken")
    if any(len(text) > MAX_TEXT for text in (state.world, state.user_id, *state.history)):
        raise BadInputError(f"a name or title is longer than {MAX_TEXT} characters")
    if len(state.wishes) > MAX_WISHES:
        raise BadInputError(f"the wishes have {len(state.wishes):,} characters: at most {MAX_WISHES:,} are taken")


async def finish(state: VisitState) -> dict[str, Any]:
    """Sum the visit up."""
    stayed = [step for step in state.steps if not step.left]
    total = sum(step.reward for step in stayed)
    return {
        "length": len(stayed),
        "length_with_exit": len(state.steps),
        "total_reward": round(total, 6),
        "mean_reward": round(total / len(stayed), 6) if stayed else 0.0,
    }
