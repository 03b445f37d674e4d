"""Planner: writes a plan for the next round, guided by lessons."""

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
    """Answer of the Planner."""

    plan: str = Field(pattern=r"\w", min_length=SHORTEST_TEXT, max_length=2000)


async def planner(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Write the plan of the round: z_t ~ LLM(s_t, the visit so far, K lessons)."""
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
    """Return the lessons of the visit: recalled in the first round, then kept for all rounds."""
    if state.steps or runtime.store is None:
        # Recall once a visit: with the same lessons, consecutive prompts share a long prefix.
        return state.lessons
    found = await visit_memory(state, runtime).lessons(who.situation([]), settings(runtime).lessons_k)
    return [LessonView(text=one.record.text, support=one.support, length=round(one.length, 1)) for one in found]


def planning_facts(state: VisitState, context: Context, who: Visitor, lessons: list[LessonView]) -> Facts:
    """Return the facts for a plan; facts that change least come first."""
    return {
        **catalogue_facts(who, context),
        "history": history_facts_with_genres(who),
        "lessons": lesson_facts(lessons),
        "rounds": round_facts_with_genres(state.steps),
        **recent_facts(who, state.steps, context),
        **wish_facts(state.profile),
    }


def plain_plan(state: VisitState, who: Visitor) -> str:
    """Return the fallback plan: liked categories that the last rounds did not have."""
    liked = count_categories(who.history)
    recent = {genre for step in state.steps[-WINDOW:] for genre in step.genres}
    fresh = [name for name in liked if name not in recent][:2]
    return f"Recommend {' or '.join(fresh or list(liked)[:2]) or 'what the user likes best'}."
