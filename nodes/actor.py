"""The Actor: one item for this user, guided by the plan and by experiences."""

from typing import Any

from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from memory.recall import recall_experiences
from nodes.asking import consult, settings
from nodes.context import Context
from nodes.facts import candidate_facts, experience_facts, round_facts, user_facts, wish_facts
from nodes.state import Candidate, Proposal, Remembered, VisitState
from nodes.tools.grounding import looks_like_no_item
from nodes.tools.shortlist import shortlist
from nodes.visitor import Visitor, asker, visitor
from sim.catalogue import Item


class Choice(BaseModel):
    """What the Actor answers."""

    item: str = Field(min_length=1, max_length=500)


async def actor(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Choose the item: a_t ~ LLM(s_t, z_t, the k nearest experiences, the shortlist), grounded to the catalogue."""
    context = settings(runtime)
    who = await visitor(state)
    experiences = []
    if runtime.store is not None:
        found = await recall_experiences(
            runtime.store, asker(state, context), who.situation(state.steps), context.experiences_k
        )
        experiences = [
            Remembered(
                **one.record.model_dump(include={"title", "genres", "distance", "advantage"}), similarity=one.similarity
            )
            for one in found
        ]
    candidates = await shortlist(
        who, state.steps, state.plan, context.shortlist_size, wishes=state.profile.text if state.profile else ""
    )
    facts = {
        "user": user_facts(who) | wish_facts(state.profile),
        "rounds": round_facts(state.steps),
        "experiences": experience_facts(experiences),
        "plan": state.plan,
        "candidates": candidate_facts(candidates),
    }
    ground = Grounding(who, state, context, candidates)
    answer, said = await consult(
        "actor",
        state,
        context,
        facts,
        Choice,
        check=lambda choice: ground.fault(choice.item),
        fallback=lambda: Choice(item=candidates[0].title),
    )
    item = ground(answer.item)
    proposal = Proposal(text=answer.item, item_id=item.id, title=item.title, genres=list(item.genres))
    return {"experiences": experiences, "shortlist": candidates, "proposal": proposal, **said}


class Grounding:
    """Maps what the Actor wrote to one item, one of the shortlist where it names one."""

    def __init__(self, who: Visitor, state: VisitState, context: Context, candidates: list[Candidate]) -> None:
        self._catalogue = who.place.world.catalogue
        self._grounder = who.place.fresh if context.grounding == "fresh" else who.place.nearest
        self._mode = context.grounding
        self._had = [step.item_id for step in state.steps]
        # The first of equal titles wins: it is the best predicted one.
        self._listed = {one.title: one.item_id for one in reversed(candidates)}

    def fault(self, text: str) -> str | None:
        """Say what keeps `text` from naming one item, or None."""
        if text in self._listed:
            return None
        if reason := looks_like_no_item(text, self._catalogue):
            return f"{reason}: name one of the candidates by its title"
        # The original took whatever was nearest.
        if self._mode == "nearest" or self._grounder.named(text, avoid=self._had):
            return None
        if had := self._grounder.named(text):
            return f"this visit has had {had.item.title!r} already: name another candidate by its title"
        return "there is no such item: name one of the candidates by its title"

    def __call__(self, text: str) -> Item:
        """Return the item."""
        listed = self._listed.get(text)
        return self._catalogue.item(listed) if listed else self._grounder.ground(text, avoid=self._had)
