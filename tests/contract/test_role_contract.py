"""Role contract: every built-in role passes, and faulty roles fail."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph.runtime import Runtime

from graph.variants import VARIANTS, Variant
from memory.records import Lesson
from nodes import ask
from nodes.ask import settings
from nodes.context import Context
from nodes.state import VisitState
from nodes.visit_memory import visit_memory
from sim.errors import BadInputError
from tests.contract.role import BUILT_IN, RoleContract


class TestBuiltIn(RoleContract):
    @pytest.fixture(params=BUILT_IN, autouse=True)
    def of_each(self, request: pytest.FixtureRequest, home: Path) -> Iterator[None]:
        cls = type(self)
        cls.role, cls.variant = request.param, BUILT_IN[request.param]
        yield


def test_no_built_in_role_is_left_out() -> None:
    assert {node.__name__ for variant in VARIANTS.values() for node in variant.nodes} == {*BUILT_IN}


async def undeclared(state: VisitState) -> dict[str, Any]:
    return {"plan": "Recommend Drama.", "mood": "good"}


async def forgets_its_types(state: VisitState) -> dict[str, Any]:
    return {"lessons": [{"text": "a lesson", "support": "many"}]}


async def never_the_same_name(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    memory = visit_memory(state, runtime)
    step = random.randrange(10**9)
    return await memory.save(
        [memory.record(Lesson, step, situation="", text="Recommend Drama.", length=1, total_reward=1.0)]
    )


async def rolls_dice(state: VisitState) -> dict[str, Any]:
    return {"plan": f"Keep a distance of at least {random.random()} from the last four items."}


async def needs_a_store(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    store: Any = runtime.store
    return {"plan": f"Recommend {len(await store.asearch(('lessons',)))} of them."}


async def takes_any_reply(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    model = await cast(Any, ask).role_model(settings(runtime), "planner")
    facts = {"role": "planner", "history": [], "rounds": [], "lessons": []}
    reply = await model.ainvoke(f"```json\n{json.dumps(facts)}\n```")
    return {"plan": json.loads(reply.text)["plan"]}


async def sleeps(state: VisitState) -> dict[str, Any]:
    time.sleep(1)  # noqa: ASYNC251
    return {}


async def compares_all_rounds(state: VisitState) -> dict[str, Any]:
    alike = sum(one.title == other.title for one in state.steps for other in state.steps)
    return {"plan": f"{state.plan} Recommend none of {alike} again."}


BROKEN: dict[Any, tuple[Any, type[Exception]]] = {
    undeclared: (RoleContract.test_it_returns_what_is_declared_and_nothing_else, AssertionError),
    forgets_its_types: (RoleContract.test_what_it_writes_keeps_its_types_when_somebody_edits_it, BadInputError),
    never_the_same_name: (RoleContract.test_what_it_remembers_is_written_once_however_often_it_runs, AssertionError),
    rolls_dice: (RoleContract.test_the_same_visit_comes_out_the_same, AssertionError),
    needs_a_store: (RoleContract.test_it_works_without_any_memory, AttributeError),
    takes_any_reply: (RoleContract.test_it_works_where_the_model_is_of_no_use, json.JSONDecodeError),
    sleeps: (RoleContract.test_the_event_loop_goes_on_meanwhile, AssertionError),
    compares_all_rounds: (RoleContract.test_the_longest_visit_holds_up_no_other, AssertionError),
}


@pytest.mark.slow
@pytest.mark.parametrize("role", BROKEN, ids=lambda role: role.__name__)
def test_a_role_that_breaks_the_contract_is_found_out(role: Any, home: Path) -> None:
    planner, *rest = VARIANTS["billp"].step

    class Broken(RoleContract):
        variant = Variant((planner, role, *rest))

    Broken.role = role.__name__
    test, fault = BROKEN[role]
    with pytest.raises(fault):
        test(Broken())
