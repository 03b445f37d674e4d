"""Critic: estimates the value of the state, and so gives the last recommendation its credit."""

from collections.abc import Sequence
from typing import Any, Literal

from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from memory.records import MAX_CATEGORIES, MAX_TITLE, V_MAX, Experience, Record, Value
from nodes.ask import ask_role, settings
from nodes.context import Context
from nodes.llm.endpoint.usage import Usage
from nodes.llm.prompting import Facts
from nodes.prompt_facts import (
    RECENT_TITLES,
    evidence_facts,
    history_facts,
    item_facts,
    person_facts,
    round_facts,
    value_facts,
)
from nodes.state import Profile, Step, VisitState
from nodes.tools.wish_text import without_comments
from nodes.tools.wishes import understand
from nodes.user_view import Visitor, visitor
from nodes.visit_memory import VisitMemory, visit_evidence, visit_memory, writes_memory
from sim.catalogue import Item
from sim.errors import BadInputError
from sim.leave import WINDOW

# Titles of the history for a Critic that sees titles alone.
TITLES_ALONE = 5


class Judgement(BaseModel):
    """Answer of the Critic."""

    value: float = Field(ge=-V_MAX, le=V_MAX, allow_inf_nan=False)


@writes_memory
async def critic(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Estimate V(s_{t+1}), credit the recommendation with its advantage A_t, and save an experience and a value.

    V(s_{t+1}) ~ LLM(titles and earlier rewards of s_{t+1}, k nearest values). The Critic never sees this round's reward
    or whether the user left, so its answer can be scored as a prediction.

    Raises:
        BadInputError: The visit has no round yet.
    """
    if not state.steps:
        raise BadInputError("there is no round to judge: put a user before the Critic")
    context = settings(runtime)
    who = await visitor(state)
    last = state.steps[-1]
    memory = visit_memory(state, runtime)
    values = await memory.values(who.situation(state.steps), context.values_k)
    evidence = await visit_evidence(state, runtime, who)
    wishes = await former_wishes(state, last, who)

    def facts() -> Facts:
        shown = {
            **(evidence_facts(evidence.bands) if not context.critic_titles_only else {}),
            "history": history_facts(who, TITLES_ALONE if context.critic_titles_only else RECENT_TITLES),
            "rounds": round_facts(state.steps[:-1]),
            "values": value_facts([one.record for one in values]),
            "now": item_facts(last),
        }
        return titles_only(shown) if context.critic_titles_only else shown | wishes

    answer, said = await ask_role(
        "critic", state, context, facts, Judgement, fallback=lambda: Judgement(value=state.value), looks_back=True
    )
    step = credit(last, answer.value, context)
    step.outcomes = step.outcomes | {"critic": said["exchange"]["critic"].outcome}
    step.usage = said["usage"] - Usage.total([one.usage for one in state.steps[:-1]])
    if state.profile is None:
        learnt = await memory.save(memories(memory, state, who, step, context))
    else:
        if step.left:
            step.advantage = None
        learnt = await memory.save(await memories_of_person(memory, state, state.profile, step, context))
    return {"steps": [step], "value": answer.value, **said, **learnt}


async def former_wishes(state: VisitState, last: Step, who: Visitor) -> Facts:
    """Return what a person wished before the last item: what they said of it would tell how they took it."""
    if state.profile is None:
        return {}
    text = without_comments(state.profile.text, last.title[:MAX_TITLE])
    never = [one for one in state.profile.never if one != last.item_id]
    former = state.profile.model_copy(update={"text": text, "never": never})
    return person_facts(former, await understand(who.open_world, text), who)


def titles_only(facts: Facts) -> Facts:
    """Return the facts of the Critic without ratings, predictions and distances, as in the original."""

    def bare(one: Facts) -> Facts:
        return {name: value for name, value in one.items() if name in ("title", "target")}

    return {name: bare(fact) if isinstance(fact, dict) else list(map(bare, fact)) for name, fact in facts.items()}


def credit(step: Step, next_value: float, context: Context) -> Step:
    """Return the round with V(s_{t+1}) and the advantage."""
    gain = advantage(
        step.reward,
        step.value,
        next_value,
        left=step.left,
        gamma=context.gamma,
        leave_penalty=context.leave_penalty,
        reward_offset=context.reward_offset,
        rule=context.advantage_rule,
    )
    return step.model_copy(update={"next_value": next_value, "advantage": round(gain, 4)})


def advantage(
    reward: float,
    value: float,
    next_value: float,
    *,
    left: bool,
    gamma: float,
    leave_penalty: float,
    reward_offset: float,
    rule: Literal["td", "value_difference"],
) -> float:
    """Return the advantage of a recommendation: how much better it turned out than expected.

    `td`: A = (reward - reward_offset) + gamma V(s') - V(s); on leaving A = -leave_penalty - V(s). This is the
    advantage of actor-critic learning; the offset makes returns fit the range of V.
    `value_difference`: A = 1 if V(s') >= V(s), else -1, also on leaving. This is the rule that the original recorded.

    Args:
        reward: The user's rating, 1 to 5.
        value: V(s), before the recommendation.
        next_value: V(s'), after the recommendation.
        left: Whether the user left.
        gamma: Discount of the next value.
        leave_penalty: Loss when the user leaves.
        reward_offset: Number subtracted from the reward.
        rule: Name of the rule.

    Raises:
        BadInputError: The rule is unknown.
    """
    if rule not in ("td", "value_difference"):
        raise BadInputError(f"there is no advantage rule {rule!r}: use `td` or `value_difference`")
    if rule == "value_difference":
        return 1.0 if next_value >= value else -1.0
    if left:
        return -leave_penalty - value
    return reward - reward_offset + gamma * next_value - value


def memories(memory: VisitMemory, state: VisitState, who: Visitor, step: Step, context: Context) -> list[Record]:
    """Return the experience and the value of a round, and the value of the end if the user left.

    Experience and value describe the situation before the round. The experience is (s_t, z_t, a_t, A_t). The value is
    s_t with the target of V, clipped to [-5, 5]. V is asked for the situation after an item, so the situation after the
    last one has a value too: the loss of the leaving. That before it has the loss as one round ahead, because its own
    item did no harm. The original stored the whole loss there and nothing after it. Title, categories and predictions
    come from the world, because the state may have been edited.
    """
    before = state.steps[:-1]
    target = advantage(
        step.reward,
        0.0,
        step.next_value or 0.0,
        left=step.left,
        gamma=context.gamma,
        leave_penalty=context.leave_penalty,
        reward_offset=context.reward_offset,
        rule="td",
    )
    catalogue = who.open_world.world.catalogue
    item = catalogue.item(step.item_id)
    experience = memory.record(
        Experience,
        step.index,
        situation=who.situation(before),
        plan=step.plan,
        item_id=item.id,
        title=item.title[:MAX_TITLE],
        genres=saved_genres(item),
        recent=[one.item_id for one in before[-WINDOW:]],
        predicted=who.predicted_rating(item),
        distance=who.distance(before, item),
        reward=None if step.skipped else step.reward,
        advantage=step.advantage or 0.0,
        left=step.left,
    )
    if not step.left or context.critic_titles_only:
        return [experience, value_record(memory, who, before, target)]
    return [
        experience,
        value_record(memory, who, before, context.gamma * target),
        value_record(memory, who, [*before, step], target),
    ]


async def memories_of_person(
    memory: VisitMemory, state: VisitState, profile: Profile, step: Step, context: Context
) -> list[Record]:
    """Return the records of a person's round, as `memories` does for a simulated user.

    A person leaves when they like to: the item on the screen, which they did not try, gets no record, and no value has
    the loss. That they left is noted with the item before it, the last one that they answered; its advantage is that of
    the answer.
    """
    steps = state.steps[:-1] if step.left else state.steps
    if not steps:
        return []
    answered = steps[-1] if step.left else step
    # Without the rating itself, which the profile has already, the prediction is one.
    ratings = {one: rating for one, rating in profile.ratings.items() if one != answered.item_id}
    earlier = {"steps": steps, "profile": profile.model_copy(update={"ratings": ratings})}
    before = state.model_copy(update=earlier)
    written = memories(memory, before, await visitor(before), answered, context)
    if not step.left:
        return written
    experience = written[0]
    return [experience.model_copy(update={"value": experience.value.model_copy(update={"left": True})})]


def value_record(memory: VisitMemory, who: Visitor, steps: Sequence[Step], target: float) -> Record:
    """Return the value of the situation after some rounds, with the last item as the Critic saw it."""
    item = who.open_world.world.catalogue.item(steps[-1].item_id) if steps else None
    return memory.record(
        Value,
        len(steps),
        situation=who.situation(steps),
        distance=who.distance(steps[:-1], item) if item else None,
        genres=saved_genres(item) if item else [],
        risk=steps[-1].risk if steps else None,
        target=round(max(-V_MAX, min(V_MAX, target)), 4),
    )


def saved_genres(item: Item) -> list[str]:
    """Return the categories of an item within the bounds of a record."""
    return [genre[:MAX_TITLE] for genre in item.genres[:MAX_CATEGORIES]]
