"""Outlook: shortlist of the items with the highest expected return, by their leave risk. It asks no model."""

import asyncio
import random
from typing import Any

import numpy as np
from langgraph.runtime import Runtime
from numpy.typing import NDArray

from nodes.ask import settings
from nodes.context import Context
from nodes.shortlist import shortlist
from nodes.state import VisitState
from nodes.tools.leave_risk_from_memory import leave_risk_at_prior, leave_risk_from_memory
from nodes.user_view import visitor
from nodes.visit_memory import visit_memory
from sim.leave import WINDOW
from sim.policies.leave_risk import LeaveRiskModel, expected_return


async def outlook(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Shortlist the items with the highest (1 - risk)(predicted rating + value of the rounds ahead).

    The risk that the user leaves is learned from all experiences that the visit may recall, unless the setting
    `leave_risk` keeps it at its prior. A share of a study's training visits gets random items instead, because an item
    that is never tried teaches nothing.
    """
    context = settings(runtime)
    # With `choices=free` the Actor gets no candidates.
    if runtime.store is None or not context.outlook or context.choices == "free":
        return {"foreseen": []}
    who = await visitor(state)
    n_items = len(who.predicted)
    model: LeaveRiskModel | None
    if context.leave_risk == "prior":
        model = await asyncio.to_thread(leave_risk_at_prior, who.open_world)
    else:
        model = await leave_risk_from_memory(
            runtime.store, visit_memory(state, runtime).scope, who.open_world, begins=not state.steps
        )
    risks: NDArray[np.float64] | None = None
    if model is not None:
        recent = who.open_world.world.catalogue.positions(step.item_id for step in state.steps[-WINDOW:])
        risks = model.risks([int(position) for position in recent], who.predicted)
    if explores(state, context, nothing_known=model is None):
        scores = np.random.default_rng([state.seed, len(state.steps)]).random(n_items)
    elif risks is not None:
        scores = expected_return(risks, who.predicted, ahead=state.max_steps)
    else:
        return {"foreseen": []}
    wishes = state.profile.text if state.profile else ""
    found = await shortlist(
        who, state.steps, state.plan, context.shortlist_size, wishes=wishes, scores=scores, risks=risks
    )
    return {"foreseen": found}


def explores(state: VisitState, context: Context, *, nothing_known: bool) -> bool:
    """Return whether this training visit tries random items: a share does, and all do while nothing is known."""
    drawn = nothing_known or random.Random(f"explore {state.seed}").random() < context.explore
    return context.learn == "cohort" and context.explore > 0 and drawn
