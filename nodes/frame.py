"""Begin and end of a visit."""

from typing import Any

from langgraph.runtime import Runtime
from langgraph.types import Overwrite

from nodes.asking import settings
from nodes.context import Context
from nodes.state import Beginning, Identity, Profile, Usage, VisitState
from nodes.visitor import visitor
from nodes.worlds import default_world
from sim.errors import BadInputError

# Limits of what a request may bring.
# Five nodes a round stay within the 10,007 steps that LangGraph takes by default.
MAX_STEPS = 2_000
MAX_HISTORY = 1_000
MAX_HISTORY_TEXT = 50_000
MAX_TEXT = 500
MAX_WISHES = 2_000


async def simulated_name(visit: VisitState, identity: str) -> str:
    """Return the name of the simulated user who visits; who asks for the visit is somebody else.

    Raises:
        BadInputError: The world is unknown, or has no such user.
    """
    return (await visitor(visit)).user_id


async def begin(state: Beginning, runtime: Runtime[Context]) -> dict[str, Any]:
    """Check the input, and clear what a former visit on the same thread left.

    Raises:
        BadInputError: The input cannot be used; the message says why.
    """
    who = await visitor(check_input(state))
    return fresh_visit(state, who.user_id, None, runtime)


def fresh_visit(state: Beginning, user_id: str, profile: Profile | None, runtime: Runtime[Context]) -> dict[str, Any]:
    """Return the state of a visit that begins."""
    world = state.world or default_world()
    thread = runtime.execution_info.thread_id if runtime.execution_info else None
    if profile is None and settings(runtime).learn == "cohort":
        # A study tells its visits apart by seed. Threads are named by whoever runs it, and with them the order of
        # equally good memories would change from run to run.
        thread = None
    origin = thread or f"{world}/{user_id}/{state.seed}"
    return {
        "identity": Identity(
            world=world, user_id=user_id, history=state.history, seed=state.seed, max_steps=state.max_steps
        ),
        "profile": profile,
        "visit": state.visit + 1,
        "visit_id": f"{origin}#{state.visit + 1}",
        "plan": "",
        "lessons": [],
        "experiences": [],
        "shortlist": [],
        "foreseen": [],
        "proposal": None,
        "value": 0.0,
        "exchange": {},
        "usage": Usage(),
        "steps": Overwrite([]),
        "records": Overwrite([]),
        "left": False,
        "leave_reason": None,
    }


def check_input(state: Beginning) -> VisitState:
    """Check the limits of what a visit is given, and return it as the nodes know it.

    Raises:
        BadInputError: One is not kept.
    """
    state.check_types()
    if state.seed >= 2**63:
        raise BadInputError("seed has more than 63 bits")
    if any("\0" in text for text in (state.world, state.user_id)):
        raise BadInputError("a name holds a character that no name can hold")
    if not 1 <= state.max_steps <= MAX_STEPS:
        raise BadInputError(f"max_steps is {state.max_steps}: it must be between 1 and {MAX_STEPS:,}")
    if state.seed < 0:
        raise BadInputError(f"seed is {state.seed}: it must be 0 or more")
    if len(state.history) > MAX_HISTORY:
        raise BadInputError(f"the history has {len(state.history):,} titles: at most {MAX_HISTORY:,} are taken")
    if any(len(text) > MAX_TEXT for text in (state.world, state.user_id, *state.history)):
        raise BadInputError(f"a name or title is longer than {MAX_TEXT} characters")
    if (length := sum(map(len, state.history))) > MAX_HISTORY_TEXT:
        raise BadInputError(f"the history has {length:,} characters: at most {MAX_HISTORY_TEXT:,} are taken")
    if len(state.wishes) > MAX_WISHES:
        raise BadInputError(f"the wishes have {len(state.wishes):,} characters: at most {MAX_WISHES:,} are taken")
    given = {name: getattr(state, name) for name in ("user_id", "history", "seed", "max_steps")}
    return VisitState(world=state.world or default_world(), **given)


async def finish(state: VisitState) -> dict[str, Any]:
    """Sum the visit up."""
    stayed = [step for step in state.steps if not step.left]
    total = sum(step.reward for step in stayed)
    return {
        "user_id": state.user_id,
        "length": len(stayed),
        "length_with_exit": len(state.steps),
        "total_reward": round(total, 6),
        "mean_reward": round(total / len(stayed), 6) if stayed else 0.0,
    }
