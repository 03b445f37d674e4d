"""User contract: the built-in users pass, and faulty users fail."""

from pathlib import Path
from typing import Any

import pytest
from langgraph.runtime import Runtime

from graph.conformance import UserContract
from graph.variants import VARIANTS, Variant
from nodes.context import Context
from nodes.state import VisitState
from nodes.users.simulated import user
from sim.errors import BadInputError


class TestTheTables(UserContract):
    variant = "billp"
    role = "user"


class TestAnLLM(UserContract):
    variant = "billp_llm_user"
    role = "llm_user"


async def enthusiast(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    update = await user(state, runtime)
    update["steps"][0].reward = 6.0
    return update


async def leaves_without_a_word(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    update = await user(state, runtime)
    update["steps"][0].left = True
    return update | {"left": True, "leave_reason": None}


async def regulars_only(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    if state.history:
        raise BadInputError("who are you?")
    return await user(state, runtime)


BROKEN: dict[Any, Any] = {
    enthusiast: UserContract.test_each_round_gets_one_step_with_a_rating,
    leaves_without_a_word: UserContract.test_whoever_leaves_says_why,
    regulars_only: UserContract.test_it_plays_somebody_whom_the_world_does_not_know,
}


@pytest.mark.parametrize("role", BROKEN, ids=lambda role: role.__name__)
def test_a_user_that_breaks_the_contract_is_found_out(role: Any, home: Path) -> None:
    planner, actor, *_ = VARIANTS["billp"].step

    class Broken(UserContract):
        variant = Variant((planner, actor, role))

    Broken.role = role.__name__
    with pytest.raises((AssertionError, BadInputError)):
        BROKEN[role](Broken())
