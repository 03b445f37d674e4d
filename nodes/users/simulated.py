"""Simulated user: rates the proposed item, and stays or leaves."""

from typing import Any

from langgraph.runtime import Runtime

from nodes.context import Context
from nodes.llm.endpoint.usage import Usage
from nodes.state import Proposal, Step, VisitState
from nodes.user_view import Visitor, visitor
from sim.catalogue import Item
from sim.errors import BadInputError
from sim.world.simulated_user import SimulatedUser


async def user(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Let the simulated user react, and append the round: reward r_t in [1, 5], and stay or leave by the leave rule."""
    who = await visitor(state)
    item = proposed_item(state.proposal, who)
    reaction = simulated(who).react(item.id, [step.item_id for step in state.steps])
    step = describe_round(state, who, item)
    step.reward, step.left = reaction.reward, reaction.left
    return {"steps": [step], "left": reaction.left, "leave_reason": reaction.leave_reason}


def simulated(who: Visitor) -> SimulatedUser:
    """Return the simulated user of a visitor; a user unknown to the world gets the reward table of the dev users."""
    world = who.open_world.world
    known = world.users.get(who.user_id)
    return SimulatedUser(
        world.split(known.split if known else "dev"), who.user_id, [] if known else [item.id for item in who.history]
    )


def proposed_item(proposal: Proposal | None, who: Visitor) -> Item:
    """Return the item of a proposal; an edit of its id, title or text counts.

    Raises:
        BadInputError: The proposal is missing, or the catalogue does not know its id.
    """
    if proposal is None or not (proposal.item_id or proposal.title or proposal.text):
        raise BadInputError("there is no proposal: put a node that makes one before the user")
    catalogue = who.open_world.world.catalogue
    title = proposal.title or proposal.text
    if not proposal.item_id:
        return who.open_world.fresh.ground(title)
    item = catalogue.item(proposal.item_id)
    if not title:
        return item
    # Id and title differ, so one was edited. The title still matches the Actor's text if the id was edited.
    if title == item.title or title == who.open_world.fresh.ground(proposal.text).title:
        return item
    return who.open_world.fresh.ground(title)


def describe_round(state: VisitState, who: Visitor, item: Item) -> Step:
    """Return the round before the user's reaction."""
    listed = next((one for one in state.shortlist if one.item_id == item.id), None)
    figures = listed.model_dump(include={"risk", "prior_risk", "known", "to_unknown", "ended"}) if listed else {}
    spent_before = Usage.total([step.usage for step in state.steps])
    return Step(
        index=len(state.steps),
        plan=state.plan,
        proposed=state.proposal.text if state.proposal else "",
        item_id=item.id,
        title=item.title,
        genres=list(item.genres),
        predicted=who.predicted_rating(item),
        distance=who.distance(state.steps, item),
        **figures,
        value=state.value,
        outcomes={role: one.outcome for role, one in state.exchange.items() if one.round == len(state.steps)},
        usage=state.usage - spent_before,
    )
