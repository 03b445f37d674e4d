"""The Critic: how well things stand, and so whether the last recommendation was good."""

from typing import Any, Literal

from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from memory.records import MAX_CATEGORIES, MAX_TITLE, Experience, Record, Value
from nodes.ask import ask_role, settings
from nodes.context import Context
from nodes.llm.endpoint.usage import Usage
from nodes.llm.prompting import Facts
from nodes.prompt_facts import history_facts, item_facts, round_facts
from nodes.state import Step, VisitState
from nodes.user_view import Visitor, visitor
from nodes.visit_memory import VisitMemory, visit_memory, writes_memory
from sim.errors import BadInputError
from sim.leave import WINDOW

V_MAX = 5.0


class Judgement(BaseModel):
    """What the Critic answers."""

    value: float = Field(ge=-V_MAX, le=V_MAX, allow_inf_nan=False)


@writes_memory
async def critic(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Judge V(s_{t+1}) without this round's reward, credit the recommendation, and remember both."""
    if not state.steps:
        raise BadInputError("there is no round to judge: a user has to stand before the Critic")
    context = settings(runtime)
    who = await visitor(state)
    last = state.steps[-1]
    memory = visit_memory(state, runtime)
    values = await memory.values(who.situation(state.steps), context.values_k)

    def facts() -> Facts:
        told = {
            "history": history_facts(who),
            "rounds": round_facts(state.steps[:-1]),
            "values": [{"distance": one.record.distance, "target": round(one.record.target, 2)} for one in values],
            "now": item_facts(last),
        }
        return titles_only(told) if context.critic_titles_only else told

    answer, said = await ask_role(
        "critic", state, context, facts, Judgement, fallback=lambda: Judgement(value=state.value), looks_back=True
    )
    step = credit(last, answer.value, context)
    step.outcomes = step.outcomes | {"critic": said["exchange"]["critic"].outcome}
    step.usage = said["usage"] - sum((one.usage for one in state.steps[:-1]), Usage())
    learnt = await memory.save(memories(memory, state, who, step, context))
    return {"steps": [step], "value": answer.value, **said, **learnt}


def titles_only(facts: Facts) -> Facts:
    """Return the facts of the Critic without ratings, predictions and distances."""

    def bare(one: Facts) -> Facts:
        return {name: value for name, value in one.items() if name in ("title", "target")}

    return {name: bare(told) if isinstance(told, dict) else list(map(bare, told)) for name, told in facts.items()}


def credit(step: Step, next_value: float, context: Context) -> Step:
    """Return the round with the Critic's value of what follows and the advantage."""
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
    """Return how much better than expected a recommendation turned out.

    `td`: A = (reward - reward_offset) + gamma V(s') - V(s), and A = -leave_penalty - V(s) where the user left; so the
    advantage of actor-critic learning, with the offset that makes returns fit the range of V. `value_difference`: 1
    where V(s') >= V(s), else -1, whether the user left or not, as the original recorded it.

    Args:
        reward: The user's rating.
        value: V(s), before the recommendation.
        next_value: V(s'), after it.
        left: Whether the user left.
        gamma: Discount.
        leave_penalty: What leaving costs.
        reward_offset: What is taken from the reward.
        rule: Which of the two.

    Raises:
        BadInputError: There is no such rule.
    """
    if rule not in ("td", "value_difference"):
        raise BadInputError(f"there is no advantage rule {rule!r}: use `td` or `value_difference`")
    if rule == "value_difference":
        return 1.0 if next_value >= value else -1.0
    if left:
        return -leave_penalty - value
    return reward - reward_offset + gamma * next_value - value


def memories(memory: VisitMemory, state: VisitState, who: Visitor, step: Step, context: Context) -> list[Record]:
    """Return the experience and the value of a round; both are about the situation before it.

    What the world knows of the item is asked of the world again, since a state may be edited.
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
    catalogue = who.place.world.catalogue
    item = catalogue.item(step.item_id)
    situation = who.situation(before)
    experience = memory.record(
        Experience,
        step.index,
        situation=situation,
        plan=step.plan,
        item_id=item.id,
        title=item.title[:MAX_TITLE],
        genres=[genre[:MAX_TITLE] for genre in item.genres[:MAX_CATEGORIES]],
        recent=[one.item_id for one in before[-WINDOW:]],
        predicted=who.predicted_rating(item),
        distance=who.distance(before, item),
        reward=step.reward,
        advantage=step.advantage or 0.0,
        left=step.left,
    )
    value = memory.record(
        Value,
        step.index,
        situation=situation,
        distance=who.distance(before[:-1], catalogue.item(before[-1].item_id)) if before else None,
        target=round(max(-V_MAX, min(V_MAX, target)), 4),
    )
    return [experience, value]
