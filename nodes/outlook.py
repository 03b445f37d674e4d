"""Outlook: shortlist of the items with the highest expected return, by their leave risk. It asks no model."""

import asyncio
import random
from typing import Any

import numpy as np
from langgraph.runtime import Runtime

from nodes.ask import settings
from nodes.context import Context
from nodes.prompt_facts import rounds_to_come
from nodes.shortlist import Outlook, random_shortlist, shortlist
from nodes.state import Candidate, VisitState
from nodes.tools.evidence import prior_model
from nodes.user_view import drawn_for, visitor
from nodes.visit_memory import visit_evidence
from sim.leave import WINDOW
from sim.policies.leave_risk import expected_return


async def outlook(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Shortlist the items with the highest (1 - risk)(predicted rating + value of the rounds to come).

    The risk that the user leaves is learned from all experiences that the visit may recall. If it has told these visits
    no better than their leave rate does, the Actor makes its own shortlist. A share of a study's training visits gets
    random items, because an item that is never tried teaches nothing.
    """
    return {"foreseen": await foreseen_items(state, runtime), "foreseen_plan": state.plan}


async def foreseen_items(state: VisitState, runtime: Runtime[Context]) -> list[Candidate]:
    """Return the candidates of the round by plan and risk; none if the Actor makes its own shortlist."""
    context = settings(runtime)
    # With `choices=free` the Actor gets no candidates.
    if not context.outlook or context.choices == "free":
        return []
    who = await visitor(state)
    evidence = await visit_evidence(state, runtime, who)
    model = evidence.model
    if model is None:
        # The prior believes what is known of simulated users.
        if state.profile is not None:
            return []
        model = await asyncio.to_thread(prior_model, who.open_world)
    recent = who.open_world.world.catalogue.positions(step.item_id for step in state.steps[-WINDOW:]).tolist()
    risks, prior_risks = model.risks_and_prior(recent, who.predicted)
    scores = expected_return(risks, who.predicted, ahead=rounds_to_come(state))
    foreseen = Outlook(risks, prior_risks, scores)
    if explores(state, context):
        rng = np.random.default_rng([state.seed, len(state.steps)])
        return random_shortlist(who, state.steps, context.shortlist_size, rng, model.evidence, foreseen)
    if not model.tells:
        return []
    return await shortlist(
        who,
        state.steps,
        state.plan,
        context.shortlist_size,
        drawn=await drawn_for(state, who),
        evidence=model.evidence,
        outlook=foreseen,
    )


def explores(state: VisitState, context: Context) -> bool:
    """Return whether this training visit tries random items."""
    return context.learn == "cohort" and random.Random(f"explore {state.seed}").random() < context.explore
