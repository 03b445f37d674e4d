"""The Planner: a plan for the next round, guided by lessons."""

from typing import Any

from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from nodes.ask import SHORTEST_TEXT, ask_role, settings
from nodes.context import Context
from nodes.llm.prompting import Facts
from nodes.prompt_facts import (
    catalogue_facts,
    history_facts_with_genres,
    lesson_facts,
    recent_facts,
    round_facts_with_genres,
    wish_facts,
)
from nodes.state import LessonView, VisitState
from nodes.tools.categories import count_categories
from nodes.user_view import Visitor, visitor
from nodes.visit_memory import visit_memory
from sim.leave import WINDOW


class Plan(BaseModel):
    """What the Planner answers."""

    plan: str = Field(pattern=r"\w", min_length=SHORTEST_TEXT, max_length=2000)


async def planner(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Write the plan of the round: z_t ~ LLM(s_t, the episode so far, K lessons)."""
    context = settings(runtime)
    who = await visitor(state)
    lessons = await known_lessons(state, runtime, who)
    answer, said = await ask_role(
        "planner",
        state,
        context,
        lambda: planning_facts(state, context, who, lessons),
        Plan,
        fallback=lambda: Plan(plan=plain_plan(state, who)),
    )
    return {"plan": answer.plan, "lessons": lessons, **said}


async def known_lessons(state: VisitState, runtime: Runtime[Context], who: Visitor) -> list[LessonView]:
    """Return the visit's lessons: recalled in its first round, and the same ones from then on."""
    if state.steps or runtime.store is None:
        # Once a visit: a prompt whose lessons stay the same shares a long prefix with the one before.
        return state.lessons
    found = await visit_memory(state, runtime).lessons(who.situation([]), settings(runtime).lessons_k)
    return [LessonView(text=one.record.text, support=one.support, length=round(one.length, 1)) for one in found]


def planning_facts(state: VisitState, context: Context, who: Visitor, lessons: list[LessonView]) -> Facts:
    """Return what a plan is made from, what changes least first."""
    return {
        **catalogue_facts(who, context),
        "history": history_facts_with_genres(who),
        "lessons": lesson_facts(lessons),
        "rounds": round_facts_with_genres(state.steps),
        **recent_facts(who, state.steps, context),
        **wish_facts(state.profile),
    }


def plain_plan(state: VisitState, who: Visitor) -> str:
    """Return the plan for a round in which the model has none: what the user likes and has not had lately."""
    liked = count_categories(who.history)
    recent = {genre for step in state.steps[-WINDOW:] for genre in step.genres}
    fresh = [name for name in liked if name not in recent][:2]
    return f"Recommend {' or '.join(fresh or list(liked)[:2]) or 'what the user likes best'}."
