"""Actor: turns the plan into one item for this user, guided by experiences of past actions."""

import hashlib
from typing import Any, Literal

import numpy as np
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from memory.recall import Recalled
from memory.records import Experience
from nodes.ask import ask_role, settings
from nodes.context import Context
from nodes.llm.prompting import Facts
from nodes.outlook import foreseen_items
from nodes.prompt_facts import (
    candidate_facts,
    candidate_titles,
    catalogue_facts,
    category_facts,
    experience_facts,
    history_facts,
    lesson_facts,
    order_facts,
    person_facts,
    plan_fact,
    round_facts,
    safe_distance_facts,
    shown,
    to_come_facts,
)
from nodes.shortlist import shortlist, with_former
from nodes.state import Candidate, ExperienceView, Proposal, VisitState
from nodes.tools.categories import random_categories
from nodes.tools.evidence import Evidence
from nodes.tools.grounding import is_sentence, looks_like_no_item
from nodes.tools.wish_items import Drawn
from nodes.user_view import Visitor, drawn_for, understood_wishes, visitor
from nodes.visit_memory import visit_evidence, visit_memory
from sim.catalogue import Catalogue, Item

# Experiences that the last rounds told, which are not told again.
MOST_TOLD = 12


class Choice(BaseModel):
    """Answer of the Actor."""

    item: str = Field(min_length=1, max_length=500)


async def actor(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Choose the item of the round: a_t ~ LLM(s_t, z_t, k nearest experiences), grounded to one catalogue item.

    The item comes from the shortlist. With `choices=free` the model writes any title.
    """
    context = settings(runtime)
    who = await visitor(state)
    if state.foreseen and state.foreseen_plan not in (None, state.plan):
        # Somebody edited the plan after the outlook, or a role between the two changed it.
        state = state.model_copy(update={"foreseen": await foreseen_items(state, runtime)})
    experiences, told = await like_experiences(state, runtime, who)
    evidence = await visit_evidence(state, runtime, who)
    drawn, understood = await drawn_for(state, who), await understood_wishes(state, who)
    candidates = await listed(state, context, who, state.plan, experiences, evidence, drawn)

    def facts() -> Facts:
        return {
            # The Planner already knows the categories. The Actor needs them only if it gets no candidates.
            **({} if candidates else catalogue_facts(who, context)),
            "history": history_facts(who),
            **({"lessons": lesson_facts(state.lessons)} if context.actor_lessons else {}),
            "rounds": round_facts(state.steps),
            **person_facts(state.profile, understood, who),
            "plan": plan_fact(state.plan),
            **order_facts(state),
            **safe_distance_facts(evidence),
            **choice_facts(state, context, who, experiences, candidates),
        }

    ground = ChoiceResolver(who, state, context, candidates, drawn)
    answer, said = await ask_role(
        "actor",
        state,
        context,
        facts,
        Choice,
        check=lambda choice: ground.fault(choice.item),
        fallback=lambda: Choice(item=ground.fallback()),
    )
    chosen = {"shortlist": candidates, "proposal": ground.proposal(answer.item)}
    return {"experiences": experiences, "told": told, **chosen, **followed(drawn), **said}


def followed(drawn: Drawn | None) -> dict[str, Any]:
    """Return the state update of a round that has followed what a person asked for."""
    return {"ordered": False, "unmet": drawn.unmet if drawn is not None else []}


async def like_experiences(
    state: VisitState, runtime: Runtime[Context], who: Visitor
) -> tuple[list[ExperienceView], list[str]]:
    """Recall the experiences of this round: those of the nearest situations that the last rounds have not told yet.

    Returns:
        The experiences, and the names of those that this round and the last ones have told.
    """
    situation, k = who.situation(state.steps), settings(runtime).experiences_k
    found = await visit_memory(state, runtime).experiences(situation, k + len(state.told) if k else 0)
    catalogue = who.open_world.world.catalogue
    # What a person answered in this very situation is history, and no item to begin with once more.
    now = situation if state.profile is None else None
    views = {_told_name(one): experience_view(one, now, catalogue) for one in found}
    # What happened in this very situation is always told, and the rest again if nothing new is left.
    new = [name for name, view in views.items() if view.before is not None or name not in state.told]
    chosen = (new or list(views))[:k]
    return [views[name] for name in chosen], list(dict.fromkeys([*state.told, *chosen]))[-MOST_TOLD:]


def _told_name(one: Recalled[Experience]) -> str:
    """Return a short name of an experience, which shows nothing of another user's visit."""
    return hashlib.blake2b(f"{one.record.visit}\n{one.record.item_id}".encode(), digest_size=8).hexdigest()


def experience_view(one: Recalled[Experience], situation: str | None, catalogue: Catalogue) -> ExperienceView:
    """Return the view of a recalled experience that the Actor gets in this situation; None for no situation of its own.

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
    state: VisitState,
    context: Context,
    who: Visitor,
    plan: str,
    experiences: list[ExperienceView],
    evidence: Evidence,
    drawn: Drawn | None,
) -> list[Candidate]:
    """Return the candidates of the round; none with `choices=free`."""
    if context.choices == "free":
        return []
    # The outlook may have drawn its candidates before a person edited the plan.
    foreseen = state.foreseen if drawn is None else [one for one in state.foreseen if _meets(one, drawn, who)]
    candidates = foreseen or await shortlist(
        who, state.steps, plan, context.shortlist_size, drawn=drawn, evidence=evidence.pairs
    )
    return with_former(candidates, experiences, who, state.steps, drawn)


def _meets(candidate: Candidate, drawn: Drawn, who: Visitor) -> bool:
    catalogue = who.open_world.world.catalogue
    return candidate.item_id in catalogue and bool(drawn.allowed[catalogue.position(candidate.item_id)])


def choice_facts(
    state: VisitState, context: Context, who: Visitor, experiences: list[ExperienceView], candidates: list[Candidate]
) -> Facts:
    """Return the facts for the choice of an item, apart from the plan."""
    count = context.hints if context.category_tool else 0
    to_try = random_categories(who.open_world.categories, count, state.seed, len(state.steps))
    return {
        "experiences": experience_facts(experiences),
        **({"categories_to_try": category_facts(to_try)} if to_try else {}),
        **(to_come_facts(state, who) | {"candidates": candidate_facts(candidates)} if candidates else {}),
    }


class ChoiceResolver:
    """Resolver of the Actor's text to one item: a candidate if the text names one, else any grounded item."""

    def __init__(
        self,
        who: Visitor,
        state: VisitState,
        context: Context,
        candidates: list[Candidate],
        drawn: Drawn | None = None,
    ) -> None:
        self._catalogue = who.open_world.world.catalogue
        self._who, self._steps = who, state.steps
        self._grounder = who.open_world.fresh if context.grounding == "fresh" else who.open_world.nearest
        self._mode = context.grounding
        self._noun = "candidate" if candidates else "item"
        # The original took any item of the visit again; what the user had before it is the world's to allow.
        had = who.not_offered(state.steps if self._mode == "fresh" else [])
        unasked = (
            [] if drawn is None else [self._catalogue[place].id for place in np.flatnonzero(~drawn.allowed).tolist()]
        )
        self._had, self._avoid = frozenset(had), list(dict.fromkeys([*had, *unasked]))
        ids = [one.item_id for one in candidates]
        self._listed = dict(zip(candidate_titles(candidates), ids, strict=True))

    def fault(self, text: str) -> str | None:
        """Return the reason why `text` does not name one usable item; None if it does."""
        if text in self._listed:
            return None
        if reason := looks_like_no_item(text, self._catalogue):
            return f"{reason}: name one {self._noun} by its title"
        # The original accepted the nearest item for every text.
        if self._mode == "nearest" or self._grounder.named(text, avoid=self._avoid):
            return None
        had = self._grounder.named(text)
        if had and had.item.id not in self._had:
            return f"{shown(had.item.title)!r} is not what the person asked for: name another {self._noun} by its title"
        if had:
            return f"the user has had {shown(had.item.title)!r} already: name another {self._noun} by its title"
        if self._listed:
            return "there is no such item: name one candidate by its title"
        # Without candidates the Actor cannot know the catalogue, so an unknown title is accepted.
        return "a sentence, not a title: name one item by its title" if is_sentence(text) else None

    def fallback(self) -> str:
        """Return the title to use if no reply names an item: the best candidate, else the best predicted item."""
        if not self._listed:
            predicted = self._who.predicted.copy()
            predicted[self._catalogue.positions([*self._who.not_offered(self._steps), *self._avoid])] = -np.inf
            item = self._catalogue[int(np.argmax(predicted))]
            # Keep the id: another item may have the same title.
            self._listed[shown(item.title)] = item.id
        return next(iter(self._listed))

    def proposal(self, text: str) -> Proposal:
        """Return the proposal for the item that `text` names."""
        listed = self._listed.get(text)
        item = self._catalogue.item(listed) if listed else self._grounded(text)
        return Proposal(text=text, item_id=item.id, title=item.title, genres=list(item.genres))

    def _grounded(self, text: str) -> Item:
        """Return the item that a text means; of several items with the title, a candidate comes first."""
        listed = {*self._listed.values()}
        unlisted = [item.id for item in self._catalogue if item.id not in listed]
        candidate = self._grounder.named(text, avoid=unlisted) if listed else None
        return candidate.item if candidate else self._grounder.ground(text, avoid=self._avoid)
