"""A person as the user: greeted with what is known of them, asked about each item, remembered for themselves alone."""

import asyncio
from typing import Any, Self

from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from memory.records import escape
from nodes.asking import settings
from nodes.context import Context
from nodes.frame import MAX_TEXT, MAX_WISHES, check_input, fresh_visit
from nodes.llm.wording import read_wishes
from nodes.state import GUEST, Beginning, Profile, Step, VisitState
from nodes.user import describe_round, proposed_item
from nodes.visitor import known_titles, memory_space, visitor
from nodes.worlds import open_place
from sim.errors import BadInputError
from sim.world import ASSUMED_RATING

# What a skipped item counts as: neither liked nor disliked.
NEUTRAL = 3.0
PROFILE_KEY = "profile"


class Answer(BaseModel):
    """What a person answers: one of `rating`, `skip` and `leave`; comment and profile as they like."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    rating: float | None = Field(None, ge=1, le=5, strict=True)
    """How they like the item, 1 to 5."""
    skip: bool = Field(False, strict=True)
    """Go on to another item without rating this one."""
    leave: bool = Field(False, strict=True)
    """End the visit."""
    comment: str = Field("", max_length=MAX_TEXT)
    """Anything to bear in mind from now on, in their own words; goes into their profile."""
    profile: str | None = Field(None, max_length=MAX_WISHES)
    """The text of their profile, corrected."""

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if (self.rating is not None) + self.skip + self.leave != 1:
            raise ValueError('answer with exactly one of {"rating": 1-5}, {"skip": true} and {"leave": true}')
        return self


async def person_name(visit: VisitState, identity: str) -> str:
    """Return the name of the person who visits: where the server knows who asks, nobody visits under another name."""
    return identity or visit.user_id or GUEST


async def greet(state: Beginning, runtime: Runtime[Context]) -> dict[str, Any]:
    """Check the input, and begin a person's visit with the profile that their former visits left.

    Raises:
        BadInputError: The input cannot be used; the message says why.
    """
    visit = check_input(state)
    identity = runtime.server_info.user.identity if runtime.server_info and runtime.server_info.user else ""
    user_id = await person_name(visit, identity)
    place = await open_place(visit.world)
    stored = await stored_profile(visit.model_copy(update={"user_id": user_id, "profile": Profile()}), runtime)
    liked = {item.id: ASSUMED_RATING for item in await asyncio.to_thread(known_titles, place, state.history)}
    profile = add_words(stored.model_copy(update={"ratings": liked | stored.ratings}), state.wishes)
    return fresh_visit(state, user_id, profile, runtime)


async def person(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask the person about the proposed item, and append the round; a bad answer leaves the question open.

    Raises:
        BadInputError: There is no proposal, or the visit was not begun for a person.
    """
    who = await visitor(state)
    if state.profile is None:
        raise BadInputError("there is no profile: the node `greet` has to begin a person's visit")
    item = proposed_item(state.proposal, who)
    step = describe_round(state, who, item)
    answer = interrupt(question(state, step, state.profile), response_schema=Answer)
    step.left, step.skipped = answer.leave, answer.skip
    step.reward = NEUTRAL if answer.rating is None else answer.rating
    profile = state.profile if answer.profile is None else state.profile.model_copy(update={"text": answer.profile})
    if answer.rating is not None:
        profile = profile.model_copy(update={"ratings": profile.ratings | {item.id: answer.rating}})
    profile = add_words(profile, answer.comment)
    context = settings(runtime)
    if runtime.store is not None and context.learn != "off":
        await runtime.store.aput(profile_namespace(state, context), PROFILE_KEY, profile.model_dump(), index=False)
    return {"steps": [step], "left": answer.leave, "profile": profile}


def question(state: VisitState, step: Step, profile: Profile) -> dict[str, Any]:
    """Return what a person is asked: JSON for whatever shows it."""
    reasons = [f"you would probably rate it {step.predicted:.1f} of 5"]
    asked_for = [genre for genre in read_wishes(profile.text, step.genres).want]
    if asked_for:
        reasons.append(f"you asked for {' and '.join(asked_for)}")
    if step.distance is not None and step.distance >= 1:
        reasons.append("it is unlike the last ones")
    return {
        "round": step.index + 1,
        "title": step.title,
        "genres": step.genres,
        "why": "; ".join(reasons),
        "plan": state.plan,
        "profile": profile.text,
        "answer": 'one of {"rating": 1-5}, {"skip": true}, {"leave": true}; "comment" and "profile" may be added',
    }


def add_words(profile: Profile, words: str) -> Profile:
    """Return the profile with a wish or comment added; the oldest lines go where it gets too long."""
    line = " ".join(words.split())
    lines = [one for one in profile.text.splitlines() if one != line] + [line] * bool(line)
    while len("\n".join(lines)) > MAX_WISHES:
        lines = lines[1:]
    return profile.model_copy(update={"text": "\n".join(lines)})


def profile_namespace(state: VisitState, context: Context) -> tuple[str, ...]:
    """Return where the profile of the person who visits is kept; nothing but `greet` reads it."""
    return ("profiles", escape(memory_space(state, context)), escape(state.user_id))


async def stored_profile(state: VisitState, runtime: Runtime[Context]) -> Profile:
    """Return the profile that former visits left, or an empty one."""
    if runtime.store is None:
        return Profile()
    item = await runtime.store.aget(profile_namespace(state, settings(runtime)), PROFILE_KEY)
    try:
        return Profile() if item is None else Profile.model_validate(item.value)
    except ValidationError as error:
        raise BadInputError(f"the stored profile of {state.user_id!r} is damaged: delete it, or correct it") from error
