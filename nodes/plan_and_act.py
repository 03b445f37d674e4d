"""Planner and Actor in one role: plan and item in one reply, which saves one call a round."""

from typing import Any

from langgraph.runtime import Runtime

from nodes.actor import Choice, ChoiceResolver, choice_facts, like_experiences, listed
from nodes.ask import ask_role, settings
from nodes.context import Context
from nodes.llm.prompting import Facts
from nodes.planner import Plan, known_lessons, plain_plan, planning_facts
from nodes.state import VisitState
from nodes.user_view import visitor


class PlannedChoice(Choice, Plan):
    """Answer of Planner and Actor in one: the plan, then the item that follows from it."""


async def plan_and_act(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Write the plan and choose the item: (z_t, a_t) ~ LLM(s_t, lessons, experiences), grounded to the catalogue."""
    context = settings(runtime)
    who = await visitor(state)
    lessons = await known_lessons(state, runtime, who)
    experiences = await like_experiences(state, runtime, who)
    # No plan exists yet, so the semantic search uses the last titles.
    candidates = await listed(state, context, who, "", experiences)

    def facts() -> Facts:
        return {
            **planning_facts(state, context, who, lessons),
            **choice_facts(state, context, who, experiences, candidates),
        }

    ground = ChoiceResolver(who, state, context, candidates)
    answer, said = await ask_role(
        "plan_and_act",
        state,
        context,
        facts,
        PlannedChoice,
        check=lambda choice: ground.fault(choice.item),
        fallback=lambda: PlannedChoice(plan=plain_plan(state, who), item=ground.fallback()),
    )
    return {
        "plan": answer.plan,
        "lessons": lessons,
        "experiences": experiences,
        "shortlist": candidates,
        "proposal": ground.proposal(answer.item),
        **said,
    }
