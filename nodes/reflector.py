"""Reflector: distils one lesson from a finished visit."""

from typing import Any

from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from memory.records import Lesson
from nodes.ask import SHORTEST_TEXT, ask_role, settings
from nodes.context import Context
from nodes.llm.prompting import Facts
from nodes.prompt_facts import (
    catalogue_facts,
    history_facts_with_genres,
    lesson_facts,
    plan_fact,
    round_facts_with_genres,
)
from nodes.state import VisitState
from nodes.user_view import visitor
from nodes.visit_memory import visit_memory, writes_memory


class Insight(BaseModel):
    """Answer of the Reflector."""

    lesson: str = Field(pattern=r"\w", min_length=SHORTEST_TEXT, max_length=2000)


@writes_memory
async def reflector(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Read the finished visit, and write one lesson into macro memory; nothing if the model gives no lesson."""
    if not state.steps:
        return {}
    context = settings(runtime)
    who = await visitor(state)
    stayed = [step for step in state.steps if not step.left]
    total = round(sum(step.reward for step in stayed), 4)

    def facts() -> Facts:
        return {
            **catalogue_facts(who, context),
            "history": history_facts_with_genres(who),
            "lessons": lesson_facts(state.lessons),
            "rounds": round_facts_with_genres(state.steps),
            "outcome": {
                "rounds": len(stayed),
                "left": state.left,
                "total_reward": round(total, 2),
                "plan": plan_fact(state.plan),
            },
        }

    no_lesson = Insight.model_construct(lesson="")
    answer, said = await ask_role(
        "reflector", state, context, facts, Insight, fallback=lambda: no_lesson, rounds_listed=None, looks_back=True
    )
    last = state.steps[-1]
    outcomes = last.outcomes | {"reflector": said["exchange"]["reflector"].outcome}
    said["steps"] = [last.model_copy(update={"outcomes": outcomes})]
    if not answer.lesson:
        return said
    memory = visit_memory(state, runtime)
    lesson = memory.record(
        Lesson,
        len(state.steps),
        situation=who.situation([]),
        text=answer.lesson,
        length=len(stayed),
        total_reward=total,
    )
    return said | await memory.save([lesson])
