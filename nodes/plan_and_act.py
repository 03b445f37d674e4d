"""Planner and Actor in one role: plan and item in one reply, which saves one call a round."""

from typing import Any

from langgraph.runtime import Runtime

from nodes.actor import Choice, ChoiceResolver, choice_facts, followed, like_experiences, listed
from nodes.ask import ask_role, settings
from nodes.context import Context
from nodes.llm.prompting import Facts
from nodes.planner import Plan, known_lessons, plain_plan, planning_facts
from nodes.prompt_facts import catalogue_facts, order_facts, plan_fact
from nodes.state import VisitState
from nodes.user_view import drawn_for, understood_wishes, visitor
from nodes.visit_memory import visit_evidence


class PlannedChoice(Choice, Plan):
    """Answer of Planner and Actor in one: the plan, then the item that follows from it."""


async def plan_and_act(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Write the plan and choose the item: (z_t, a_t) ~ LLM(s_t, lessons, experiences), grounded to the catalogue."""
    context = settings(runtime)
    who = await visitor(state)
    lessons = await known_lessons(state, runtime, who)
    experiences, told = await like_experiences(state, runtime, who)
    evidence = await visit_evidence(state, runtime, who)
    drawn, understood = await drawn_for(state, who), await understood_wishes(state, who)
    # No plan exists yet unless a person wrote one, so the semantic search uses the last titles.
    candidates = await listed(state, context, who, state.order, experiences, evidence, drawn)

    def facts() -> Facts:
        return {
            # Without candidates the role needs all categories, as the Actor does.
            **({} if candidates else catalogue_facts(who, context)),
            **planning_facts(state, context, who, lessons, evidence, drawn, understood),
            **({"plan": plan_fact(state.order), **order_facts(state)} if state.order else {}),
            **choice_facts(state, context, who, experiences, candidates),
        }

    ground = ChoiceResolver(who, state, context, candidates, drawn)
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
        "plan": state.order or answer.plan,
        "own_plan": answer.plan,
        **followed(drawn),
        "lessons": lessons,
        "experiences": experiences,
        "told": told,
        "shortlist": candidates,
        "proposal": ground.proposal(answer.item),
        **said,
    }
