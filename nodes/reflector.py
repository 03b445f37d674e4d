"""Reflector: distils one lesson from a finished visit."""

from collections.abc import Sequence
from typing import Annotated, Any

from langgraph.runtime import Runtime
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from memory.records import MAX_REPLACED, Lesson
from nodes.ask import SHORTEST_TEXT, ask_role, settings
from nodes.context import Context
from nodes.llm.prompting import Facts
from nodes.prompt_facts import (
    catalogue_facts,
    evidence_facts,
    finished_round_facts,
    history_facts_with_genres,
    lesson_facts,
    plan_fact,
)
from nodes.state import LessonView, VisitState
from nodes.tools.evidence import Evidence
from nodes.user_view import Visitor, visitor
from nodes.visit_memory import visit_evidence, visit_memory, writes_memory


def _empty_if_null(text: object) -> object:
    return "" if text is None else text


def _no_stub(text: str) -> str:
    """Return a lesson, empty if the visit teaches nothing new.

    Raises:
        ValueError: The text is no lesson, such as "Stop" or "None".
    """
    text = text.strip()
    if text and (len(text) < SHORTEST_TEXT or not any(map(str.isalnum, text))):
        raise ValueError(f"write a lesson of at least {SHORTEST_TEXT} characters, or leave it empty")
    return text


class Insight(BaseModel):
    """Answer of the Reflector."""

    lesson: Annotated[str, Field(max_length=2000), BeforeValidator(_empty_if_null), AfterValidator(_no_stub)]
    """Lesson; empty if there is nothing new to say."""
    replaces: list[int] = []
    """Numbers of the shown lessons that it takes up or corrects, from 1."""


@writes_memory
async def reflector(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Read the finished visit, and write at most one lesson into macro memory."""
    stayed = [step for step in state.steps if not step.left]
    # A person who leaves ends the visit before the last item, which tells nothing.
    if not (state.steps if state.profile is None else stayed):
        return {}
    context = settings(runtime)
    who = await visitor(state)
    total = round(sum(step.reward for step in stayed), 4)
    evidence = await visit_evidence(state, runtime, who)
    answer, said = await ask_role(
        "reflector",
        state,
        context,
        lambda: reflection_facts(state, context, who, len(stayed), total, evidence),
        Insight,
        fallback=lambda: Insight(lesson=""),
        rounds_listed=None,
        looks_back=True,
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
        replaces=replaced_keys(state.lessons, answer.replaces),
    )
    return said | await memory.save([lesson])


def reflection_facts(
    state: VisitState, context: Context, who: Visitor, stayed: int, total: float, evidence: Evidence
) -> Facts:
    """Return the facts about a finished visit; the round after which the user left brings no reward.

    Those of a person's visit end with the last answer, and have no distances: people know nothing of them, and leave
    when they like to.
    """
    rounds = finished_round_facts(state.steps)
    is_person = state.profile is not None
    if is_person:
        rounds = [{**one, "distance": None} for one in rounds if not one["left"]]
    return {
        **catalogue_facts(who, context),
        "history": history_facts_with_genres(who),
        "lessons": [{"number": number} | facts for number, facts in enumerate(lesson_facts(state.lessons), 1)],
        **evidence_facts(evidence.bands),
        "rounds": rounds,
        "outcome": {
            "rounds": len(rounds),
            "stayed": stayed,
            "left": state.left and not is_person,
            "total_reward": round(total, 2),
            "plan": plan_fact(state.plan),
        },
    }


def replaced_keys(lessons: Sequence[LessonView], numbers: Sequence[int]) -> list[str]:
    """Return the keys of the shown lessons with these numbers; other numbers name none.

    The state may have been edited, so the keys may be any. Recall ignores those that the visit could not recall.
    """
    chosen = [one for number, one in enumerate(lessons, 1) if number in numbers]
    return list(dict.fromkeys(key for one in chosen for key in one.keys))[:MAX_REPLACED]
