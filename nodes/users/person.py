"""Person as the user: starts with their profile, rates each item, and keeps memories of their own."""

import asyncio
from typing import Any, Self

from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nodes.ask import settings
from nodes.context import Context
from nodes.lifecycle import MAX_INPUT_TEXT, MAX_WISHES, check_input, fresh_visit
from nodes.llm.text.wish_grammar import read_wishes
from nodes.state import GUEST, Profile, Step, VisitStart, VisitState
from nodes.tools.open_world import open_world
from nodes.user_view import known_titles, visitor
from nodes.users.profile import check_greeting, greeting, stated, statements, stored_profile
from nodes.users.simulated import describe_round, proposed_item
from nodes.visit_memory import signed_in, visit_memory
from sim.errors import BadInputError

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
    return fresh_visit(state, user_id, profile, runtime) | {"said": said}


async def person(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask the person about the proposed item, and append the round; after a bad answer the question stays open.

    Raises:
        BadInputError: The proposal is missing, or the visit was not started for a person.
    """
    who = await visitor(state)
    if state.profile is None:
        raise BadInputError("there is no profile: start a person's visit with the node `greet`")
    item = proposed_item(state.proposal, who)
    step = describe_round(state, who, item)
    answer = interrupt(question(state, step, state.profile), response_schema=Answer)
    step.left, step.skipped = answer.leave, answer.rating is None and not answer.leave
    step.reward = NEUTRAL if answer.rating is None else answer.rating
    memory = visit_memory(state, runtime)
    said = statements(memory, step.index, item, answer, state.profile)
    memory.check(state.said)
    check_greeting(state.said, who.open_world.world.catalogue)
    if settings(runtime).learn != "off":
        await memory.write([*state.said, *said])
    return {"steps": [step], "left": answer.leave, "profile": stated(state.profile, said), "said": []}


def question(state: VisitState, step: Step, profile: Profile) -> dict[str, Any]:
    """Return the question for a person, as JSON for the front end."""
    return {
        "round": step.index + 1,
        "title": step.title,
        "genres": step.genres,
        "why": reasons(step, profile.text),
        "plan": state.plan,
        "profile": profile.text,
        "answer": 'one of {"rating": 1-5}, {"skip": true}, {"leave": true}, {"seen": true}, {"never": true}; '
        '"comment" and "profile" may be added, and "rating" to "seen"',
    }


def reasons(step: Step, wishes: str) -> str:
    """Return the reasons for a recommendation, addressed to the person.

    Args:
        step: Round with the item.
        wishes: Wishes of the person in their own words.
    """
    found = [f"you would probably rate it {step.predicted:.1f} of 5"]
    if asked_for := read_wishes(wishes, step.genres).want:
        found.append(f"you asked for {' and '.join(asked_for)}")
    if step.distance is not None and step.distance >= 1:
        found.append("it is unlike the last ones")
    return "; ".join(found)
