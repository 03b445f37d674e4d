"""The Planner: a plan for the next round, guided by lessons."""

from typing import Any

from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from memory.recall import recall_lessons
from nodes.asking import SHORTEST_TEXT, consult, settings
from nodes.context import Context
from nodes.facts import lesson_facts, round_facts, user_facts, wish_facts
from nodes.state import Told, VisitState
from nodes.tools.categories import count_categories, recent_categories
from nodes.visitor import WINDOW, Visitor, asker, visitor


class Plan(BaseModel):
    """What the Planner answers."""

    plan: str = Field(pattern=r"\w", min_length=SHORTEST_TEXT, max_length=2000)


async def planner(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Write the plan of the round: z_t ~ LLM(s_t, the episode so far, K lessons)."""
    context = settings(runtime)
    who = await visitor(state)
    lessons = state.lessons
    if runtime.store is not None and not state.steps:
        # Once a visit: a prompt whose lessons stay the same shares a long prefix with the one before.
        found = await recall_lessons(runtime.store, asker(state, context), who.situation([]), context.lessons_k)
        lessons = [Told(text=one.record.text, support=one.support, length=round(one.length, 1)) for one in found]
    recent = recent_categories([who.place.world.catalogue.item(step.item_id) for step in state.steps], WINDOW)
    facts = {
        "categories": who.place.categories,
        "user": user_facts(who) | wish_facts(state.profile),
        "lessons": lesson_facts(lessons),
        "rounds": round_facts(state.steps),
        "recent_categories": recent,
    }
    answer, said = await consult(
        "planner", state, context, facts, Plan, fallback=lambda: Plan(plan=plain_plan(who, recent))
    )
    return {"plan": answer.plan, "lessons": lessons, **said}


def plain_plan(who: Visitor, recent: list[str]) -> str:
    """Return the plan for a round in which the model has none: what the user likes and has not had lately."""
    liked = count_categories(who.history)
    fresh = [name for name in liked if name not in recent][:2]
    return f"Recommend {' or '.join(fresh or list(liked)[:2]) or 'what the user likes best'}."
