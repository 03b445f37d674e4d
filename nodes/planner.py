"""Planner: writes a plan for the next round, guided by lessons."""

import asyncio
from itertools import islice
from typing import Any

from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from memory.recall import LESSON_POOL, Recalled
from memory.records import MAX_REPLACED, Lesson
from nodes.ask import SHORTEST_TEXT, ask_role, settings
from nodes.context import Context
from nodes.llm.prompting import Facts
from nodes.llm.text.lesson_taste import about_taste
from nodes.llm.text.understood import Understood
from nodes.llm.text.wish_grammar import read_wishes
from nodes.prompt_facts import (
    category_choice,
    evidence_facts,
    genre_facts,
    history_facts_with_genres,
    lesson_facts,
    person_facts,
    round_facts_with_genres,
    safe_distance_facts,
)
from nodes.state import LessonView, VisitState
from nodes.tools.categories import count_categories
from nodes.tools.evidence import Evidence
from nodes.tools.wish_items import Drawn
from nodes.user_view import Visitor, drawn_for, understood_wishes, visitor
from nodes.visit_memory import visit_evidence, visit_memory
from sim.leave import WINDOW


class Plan(BaseModel):
    """Answer of the Planner."""

    plan: str = Field(pattern=r"\w", min_length=SHORTEST_TEXT, max_length=2000)


async def planner(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Write the plan of the round: z_t ~ LLM(s_t, the visit so far, K lessons)."""
    context = settings(runtime)
    who = await visitor(state)
    lessons = await known_lessons(state, runtime, who)
    if state.order:
        # A person's plan stands, and no model is asked for another.
        return {"lessons": lessons}
    evidence = await visit_evidence(state, runtime, who)
    drawn, understood = await drawn_for(state, who), await understood_wishes(state, who)
    answer, said = await ask_role(
        "planner",
        state,
        context,
        lambda: planning_facts(state, context, who, lessons, evidence, drawn, understood),
        Plan,
        fallback=lambda: Plan(plan=plain_plan(state, who)),
    )
    return {"plan": answer.plan, "own_plan": answer.plan, "ordered": False, "lessons": lessons, **said}


async def known_lessons(state: VisitState, runtime: Runtime[Context], who: Visitor) -> list[LessonView]:
    """Return the lessons of the visit: recalled in the first round, then kept for all rounds."""
    if state.steps or runtime.store is None:
        # Recall once a visit: with the same lessons, consecutive prompts share a long prefix.
        return state.lessons
    memory, situation, k = visit_memory(state, runtime), who.situation([]), settings(runtime).lessons_k
    if state.profile is None:
        return [_view(one, one.record.text) for one in await memory.lessons(situation, k)]
    # Simulated users leave by a rule that says nothing of people. What they taught of taste may help.
    taught = await memory.lessons(situation, LESSON_POOL if k else 0)
    genres = who.open_world.world.catalogue.genres
    texts = ((one, one.record.text if one.own else about_taste(one.record.text, genres)) for one in taught)
    # In a thread: there may be many lessons to read.
    return await asyncio.to_thread(lambda: list(islice((_view(one, text) for one, text in texts if text), k)))


def _view(one: Recalled[Lesson], text: str) -> LessonView:
    return LessonView(text=text, support=one.support, length=round(one.length, 1), keys=list(one.keys[:MAX_REPLACED]))


def planning_facts(
    state: VisitState,
    context: Context,
    who: Visitor,
    lessons: list[LessonView],
    evidence: Evidence,
    drawn: Drawn | None,
    understood: Understood | None,
) -> Facts:
    """Return the facts for a plan; facts that change least come first."""
    return {
        "history": history_facts_with_genres(who),
        "lessons": lesson_facts(lessons),
        **evidence_facts(evidence.bands),
        "rounds": round_facts_with_genres(state.steps),
        **safe_distance_facts(evidence),
        **({"choice": category_choice(who, state.steps, evidence, drawn)} if context.category_tool else {}),
        **unmet_facts(state, who),
        **person_facts(state.profile, understood, who),
    }


def unmet_facts(state: VisitState, who: Visitor) -> Facts:
    """Return what the last plan asked for and its item did not bring; empty if the plan was met."""
    if not state.steps:
        return {}
    last = state.steps[-1]
    asked = read_wishes(last.plan, who.open_world.world.catalogue.genres)
    unmet: Facts = {}
    if asked.want and not {*asked.want}.intersection(last.genres):
        unmet["categories"] = genre_facts(asked.want)
    if last.distance is not None and asked.least is not None and last.distance < asked.least:
        unmet["distance"] = asked.least
    return {"unmet": unmet} if unmet else {}


def plain_plan(state: VisitState, who: Visitor) -> str:
    """Return the fallback plan: liked categories that the last rounds did not have."""
    liked = count_categories(who.history)
    recent = {genre for step in state.steps[-WINDOW:] for genre in step.genres}
    fresh = [name for name in liked if name not in recent][:2]
    return f"Recommend {' or '.join(fresh or list(liked)[:2]) or 'what the user likes best'}."
