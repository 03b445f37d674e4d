"""LLM as the user: rates the proposed item, stays or leaves, and gives a reason, with the taste of that user."""

from collections import defaultdict
from typing import Any

from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from nodes.ask import ask_role, settings
from nodes.context import Context
from nodes.llm.prompting import Facts
from nodes.prompt_facts import TEXT_TOKENS, genre_facts, history_facts_with_genres, round_facts_with_genres, shown
from nodes.state import VisitState
from nodes.user_view import STATE_TITLES, Visitor, visitor
from nodes.users.simulated import describe_round, proposed_item, simulated
from sim.catalogue import Item
from sim.leave import LeaveReason
from sim.world.world import ASSUMED_RATING

# Categories of the persona: those with most ratings by the user.
TASTES = 12


class Opinion(BaseModel):
    """Answer of an LLM as the user."""

    rating: float = Field(ge=1, le=5, allow_inf_nan=False)
    stay: bool
    reason: str = Field("", max_length=2000)


async def llm_user(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask the model of the user for a rating and whether to stay, and append the round.

    With `user_guard` the user also leaves when the world's leave rule says so.
    """
    context = settings(runtime)
    who = await visitor(state)
    item = proposed_item(state.proposal, who)
    recent = [step.item_id for step in state.steps]
    answer, said = await ask_role(
        "user",
        state,
        context,
        lambda: user_facts(state, who, item),
        Opinion,
        # Without a usable reply the simulated user gives the rating, and the guard decides whether to stay.
        fallback=lambda: Opinion(rating=simulated(who).react(item.id, recent).reward, stay=True),
    )
    leave_reason: LeaveReason | None = None
    if not answer.stay:
        leave_reason = "chose"
    elif context.user_guard:
        leave_reason = simulated(who).react(item.id, recent, answer.rating).leave_reason
    step = describe_round(state.model_copy(update=said), who, item)
    step.reward, step.left = answer.rating, leave_reason is not None
    step.reason = shown(answer.reason, TEXT_TOKENS) if answer.reason else ""
    return {"steps": [step], "left": step.left, "leave_reason": leave_reason, **said}


def user_facts(state: VisitState, who: Visitor, item: Item) -> Facts:
    """Return the facts for the user: their taste, their ratings before and in this visit, and the item."""
    return {
        **persona(who),
        "history": history_facts_with_genres(who, STATE_TITLES),
        "rounds": [
            {name: value for name, value in one.items() if name != "distance"}
            for one in round_facts_with_genres(state.steps)
        ],
        "now": {
            "title": shown(item.title),
            "genres": genre_facts(item.genres),
            # Compare ids, because two items may have the same title.
            "again": item.id in [step.item_id for step in state.steps],
        },
    }


def persona(who: Visitor) -> Facts:
    """Return the persona of the user from the whole history: mean rating, and mean of each category rated most."""
    ratings = [ASSUMED_RATING if rating is None else rating for rating in who.ratings]
    by_category: defaultdict[str, list[float]] = defaultdict(list)
    for item, rating in zip(who.history, ratings, strict=True):
        for genre in item.genres:
            by_category[genre].append(rating)
    most = sorted(by_category.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:TASTES]
    return {
        "mean_rating": round(sum(ratings) / len(ratings), 2),
        "tastes": [
            {"category": shown(genre), "ratings": len(given), "mean_rating": round(sum(given) / len(given), 2)}
            for genre, given in most
        ],
    }
