"""Actor: turns the plan into one item for this user, guided by experiences of past actions."""

from typing import Any, Literal

import numpy as np
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from memory.recall import Recalled
from memory.records import Experience
from nodes.ask import ask_role, settings
from nodes.context import Context
from nodes.llm.prompting import Facts
from nodes.prompt_facts import (
    candidate_facts,
    candidate_titles,
    catalogue_facts,
    category_facts,
    experience_facts,
    history_facts,
    lesson_facts,
    plan_fact,
    round_facts,
    shown,
    wish_facts,
)
from nodes.shortlist import shortlist, with_former
from nodes.state import Candidate, ExperienceView, Proposal, VisitState
from nodes.tools.categories import random_categories
from nodes.tools.grounding import is_sentence, looks_like_no_item
from nodes.user_view import Visitor, visitor
from nodes.visit_memory import visit_memory
from sim.catalogue import Catalogue


class Choice(BaseModel):
    """Answer of the Actor."""

    item: str = Field(min_length=1, max_length=500)


async def actor(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Choose the item of the round: a_t ~ LLM(s_t, z_t, k nearest experiences), grounded to one catalogue item.

    The item comes from the shortlist. With `choices=free` the model writes any title.
    """
    context = settings(runtime)
    who = await visitor(state)
    experiences = await like_experiences(state, runtime, who)
    candidates = await listed(state, context, who, state.plan, experiences)

    def facts() -> Facts:
        return {
            # The Planner already knows the categories. The Actor needs them only if it gets no candidates.
            **({} if candidates else catalogue_facts(who, context)),
            "history": history_facts(who),
            **({"lessons": lesson_facts(state.lessons)} if context.actor_lessons else {}),
            "rounds": round_facts(state.steps),
            **wish_facts(state.profile),
            "plan": plan_fact(state.plan),
            **choice_facts(state, context, who, experiences, candidates),
        }

    ground = ChoiceResolver(who, state, context, candidates)
    answer, said = await ask_role(
        "actor",
        state,
        context,
        facts,
        Choice,
        check=lambda choice: ground.fault(choice.item),
        fallback=lambda: Choice(item=ground.fallback()),
    )
    return {"experiences": experiences, "shortlist": candidates, "proposal": ground.proposal(answer.item), **said}


async def like_experiences(state: VisitState, runtime: Runtime[Context], who: Visitor) -> list[ExperienceView]:
    """Recall the experiences of this round: those of the nearest situations."""
    situation = who.situation(state.steps)
    found = await visit_memory(state, runtime).experiences(situation, settings(runtime).experiences_k)
    return [experience_view(one, situation, who.open_world.world.catalogue) for one in found]


def experience_view(one: Recalled[Experience], situation: str, catalogue: Catalogue) -> ExperienceView:
    """Return the view of a recalled experience that the Actor gets in this situation.

    Title and categories come from the catalogue if it has the item, because anybody may have written the record.
    """
    record = one.record
    fields = record.model_dump(include={"item_id", "title", "genres", "distance", "advantage"})
    if record.item_id in catalogue:
        item = catalogue.item(record.item_id)
        fields |= {"title": item.title, "genres": list(item.genres)}
    before: float | Literal["left"] | None = None
    if one.own and record.situation == situation:
        before = "left" if record.left else record.reward and round(record.reward, 2)
    return ExperienceView(**fields, similarity=one.similarity, before=before)


async def listed(
    state: VisitState, context: Context, who: Visitor, plan: str, experiences: list[ExperienceView]
) -> list[Candidate]:
    """Return the candidates of the round; none with `choices=free`."""
    if context.choices == "free":
        return []
    wishes = state.profile.text if state.profile else ""
    candidates = state.foreseen or await shortlist(who, state.steps, plan, context.shortlist_size, wishes=wishes)
    return with_former(candidates, experiences, who, state.steps)


def choice_facts(
    state: VisitState, context: Context, who: Visitor, experiences: list[ExperienceView], candidates: list[Candidate]
) -> Facts:
    """Return the facts for the choice of an item, apart from the plan."""
    count = context.hints if context.category_tool else 0
    to_try = random_categories(who.open_world.categories, count, state.seed, len(state.steps))
    return {
        "experiences": experience_facts(experiences, titles=not candidates),
        **({"categories_to_try": category_facts(to_try)} if to_try else {}),
        **({"candidates": candidate_facts(candidates)} if candidates else {}),
    }


class ChoiceResolver:
    """Resolver of the Actor's text to one item: a candidate if the text names one, else any grounded item."""

    def __init__(self, who: Visitor, state: VisitState, context: Context, candidates: list[Candidate]) -> None:
        self._catalogue = who.open_world.world.catalogue
        self._predicted = who.predicted
        self._grounder = who.open_world.fresh if context.grounding == "fresh" else who.open_world.nearest
        self._mode = context.grounding
        self._noun = "candidate" if candidates else "item"
        self._had = [*(step.item_id for step in state.steps), *who.seen]
        ids = [one.item_id for one in candidates]
        self._listed = dict(zip(candidate_titles(candidates), ids, strict=True))

    def fault(self, text: str) -> str | None:
        """Return the reason why `text` does not name one usable item; None if it does."""
        if text in self._listed:
            return None
        if reason := looks_like_no_item(text, self._catalogue):
            return f"{reason}: name one {self._noun} by its title"
        # The original accepted the nearest item for every text.
        if self._mode == "nearest" or self._grounder.named(text, avoid=self._had):
            return None
        if had := self._grounder.named(text):
            return f"the user has had {shown(had.item.title)!r} already: name another {self._noun} by its title"
        if self._listed:
            return "there is no such item: name one candidate by its title"
        # Without candidates the Actor cannot know the catalogue, so an unknown title is accepted.
        return "a sentence, not a title: name one item by its title" if is_sentence(text) else None

    def fallback(self) -> str:
        """Return the title to use if no reply names an item: the best candidate, else the best predicted item."""
        if not self._listed:
            predicted = self._predicted.copy()
            predicted[self._catalogue.positions(self._had)] = -np.inf
            item = self._catalogue[int(np.argmax(predicted))]
            # Keep the id: another item may have the same title.
            self._listed[shown(item.title)] = item.id
        return next(iter(self._listed))

    def proposal(self, text: str) -> Proposal:
        """Return the proposal for the item that `text` names."""
        listed = self._listed.get(text)
        item = self._catalogue.item(listed) if listed else self._grounder.ground(text, avoid=self._had)
        return Proposal(text=text, item_id=item.id, title=item.title, genres=list(item.genres))
