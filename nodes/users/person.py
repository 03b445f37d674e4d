"""Person as the user: starts with their profile, rates each item, and keeps memories of their own."""

import asyncio
from typing import Any, Self

from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nodes.ask import settings
from nodes.context import Context
from nodes.lifecycle import MAX_INPUT_TEXT, MAX_WISHES, check_input, fresh_visit
from nodes.llm.text.understood import Understood
from nodes.llm.text.wish_grammar import read_wishes
from nodes.state import GUEST, Profile, Step, VisitStart, VisitState
from nodes.tools.brought_titles import brought_titles, known_titles
from nodes.tools.open_world import OpenWorld, open_world
from nodes.tools.wish_text import own_words, understood_line, understood_parts
from nodes.tools.wishes import understand
from nodes.user_view import visitor
from nodes.users.answer_faults import FORMS_OF_ANSWERS, bad_answer
from nodes.users.profile import check_greeting, greeting, stated, statements, stored_profile
from nodes.users.simulated import describe_round, proposed_item
from nodes.visit_memory import signed_in, visit_memory
from sim.catalogue import Catalogue, Item
from sim.errors import BadInputError
from sim.world.factor_model import HIGHEST_REWARD, LOWEST_REWARD

# Reward of a skipped item: neither liked nor disliked.
NEUTRAL = 3.0


class Answer(BaseModel):
    """Answer of a person: one of `rating`, `skip`, `leave`, `seen` and `never`; comment and profile are optional."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    rating: float | None = Field(None, ge=1, le=5, strict=True)
    """Rating of the item, 1 to 5."""
    skip: bool = Field(False, strict=True)
    """Skip this item without a rating."""
    leave: bool = Field(False, strict=True)
    """End the visit."""
    seen: bool = Field(False, strict=True)
    """The person knows the item already; it is not recommended again. A rating may be added."""
    never: bool = Field(False, strict=True)
    """The person never wants this item; it is not recommended again."""
    comment: str = Field("", max_length=MAX_INPUT_TEXT)
    """Comment for all later rounds, in the person's own words; it goes into the profile."""
    profile: str | None = Field(None, max_length=MAX_WISHES)
    """Corrected text of the profile."""
    plan: str = Field("", max_length=MAX_INPUT_TEXT)
    """Order for the next round, such as "only documentaries"; unlike a comment, it counts once."""

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        rated = self.rating is not None and not self.seen
        if rated + self.skip + self.leave + self.seen + self.never != 1:
            raise ValueError(
                'answer with exactly one of {"rating": 1-5}, {"skip": true}, {"leave": true}, {"seen": true} and '
                '{"never": true}; a rating may come with "seen"'
            )
        return self


async def person_name(visit: VisitState, identity: str) -> str:
    """Return the name of the person: the signed-in account if there is one, else the name in the input, else guest."""
    return identity or visit.user_id or GUEST


async def greet(state: VisitStart, runtime: Runtime[Context]) -> dict[str, Any]:
    """Check the input, and start a person's visit with the profile from their former visits.

    Raises:
        BadInputError: The input cannot be used; the message says why.
    """
    visit = check_input(state)
    account = signed_in(runtime)
    user_id = await person_name(visit, account.name if account else "")
    opened = await open_world(visit.world)
    numbered = {"visit": state.visit + 1, "place": state.place}
    started = visit.model_copy(update={"user_id": user_id, "profile": Profile(), **numbered})
    memory = visit_memory(started, runtime)
    liked = await asyncio.to_thread(known_titles, opened, state.history)
    # Write the statements with the first answer: until then the person has only seen an item.
    said = greeting(memory, state.wishes, liked)
    profile = await stored_profile(memory)
    profile = stated(profile, said)
    understood = await understand(opened, profile.text)
    return fresh_visit(state, user_id, profile, runtime) | {"said": said, "understood": understood}


async def person(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask the person about the proposed item, and append the round; after a bad answer the question stays open.

    Raises:
        BadInputError: The proposal is missing, or the visit was not started for a person.
        BadAnswerError: The answer cannot be used; the question stays open.
    """
    who = await visitor(state)
    if state.profile is None:
        raise BadInputError("there is no profile: start a person's visit with the node `greet`")
    item = proposed_item(state.proposal, who)
    step = describe_round(state, who, item)
    understood = await understand(who.open_world, state.profile.text)
    asked = (
        question(state, step, state.profile)
        | wish_question(state, item, understood, who.open_world.world.catalogue)
        | await titles_question(state, who.open_world)
    )
    try:
        answer = interrupt(asked, response_schema=Answer)
    except ValidationError as error:
        raise bad_answer(error, Answer) from error
    step.left, step.skipped = answer.leave, answer.rating is None and not answer.leave
    step.reward = NEUTRAL if answer.rating is None else answer.rating
    memory = visit_memory(state, runtime)
    said = statements(memory, step.index, item, answer, state.profile)
    memory.check(state.said)
    check_greeting(state.said, who.open_world.world.catalogue)
    if settings(runtime).learn != "off":
        await memory.write([*state.said, *said])
    profile = stated(state.profile, said)
    return {
        "steps": [step],
        "left": answer.leave,
        "profile": profile,
        "said": [],
        "understood": await understand(who.open_world, profile.text),
        **({"plan": answer.plan, "ordered": True} if answer.plan.strip() else {}),
    }


def wish_question(state: VisitState, item: Item, understood: Understood, catalogue: Catalogue) -> dict[str, Any]:
    """Return the part of the question that says how the person's words were taken, as JSON for the front end."""
    return {
        "year": item.year,
        "understood": understood_parts(understood, catalogue),
        "searched": understood.words,
        "unjudged": [*understood.unjudged, *understood.missing],
        "unknown": understood.unknown,
        "understood_line": understood_line(understood, catalogue),
        "unmet": state.unmet,
    }


async def titles_question(state: VisitState, opened: OpenWorld) -> dict[str, Any]:
    """Return the part of the first question that says which of the titles that the person brought were found."""
    if state.steps or not state.history:
        return {"titles": [], "not_found": [], "titles_lines": []}
    found = await asyncio.to_thread(brought_titles, opened, state.history)
    missing = [{"title": title, "nearest": near} for title, near in found.not_found.items()]
    return {"titles": [item.title for item in found.items], "not_found": missing, "titles_lines": found.lines}


def question(state: VisitState, step: Step, profile: Profile) -> dict[str, Any]:
    """Return the question for a person, as JSON for the front end."""
    return {
        "round": step.index + 1,
        "title": step.title,
        "genres": step.genres,
        "why": reasons(step, profile.text),
        "plan": state.plan,
        "profile": profile.text,
        "answer": FORMS_OF_ANSWERS,
    }


def reasons(step: Step, wishes: str) -> str:
    """Return the reasons for a recommendation, addressed to the person.

    Args:
        step: Round with the item.
        wishes: Wishes of the person in their own words.
    """
    rating = min(max(step.predicted, LOWEST_REWARD), HIGHEST_REWARD)
    found = [f"you would probably rate it {rating:.1f} of 5"]
    if asked_for := read_wishes(own_words(wishes), step.genres).want:
        found.append(f"you asked for {' and '.join(asked_for)}")
    if step.distance is not None and step.distance >= 1:
        found.append("it is unlike the last ones")
    return "; ".join(found)
