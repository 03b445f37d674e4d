"""Shortlist: catalogue items for the Actor to choose among.

The shortlist joins two searches, both without the items that this visit already had. The first search uses the logs
model: it takes the Pareto front of predicted rating and distance from the last recommendations, from the item with the
highest rating to the most distant one. The second is a semantic search over the catalogue in Chroma for the words of
the plan. If the caller passes scores, the items with the best scores replace the Pareto front.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nodes.llm.text.wish_grammar import read_wishes
from nodes.state import Candidate, ExperienceView, Step
from nodes.user_view import Visitor
from sim.catalogue import Catalogue

# Share of the list that the semantic search may fill.
SEMANTIC_SHARE = 0.4
# Semantic hits searched for each place that they may fill.
SEMANTIC_POOL = 8


async def shortlist(
    visitor: Visitor,
    steps: Sequence[Step],
    plan: str,
    size: int,
    *,
    wishes: str = "",
    scores: NDArray[np.float64] | None = None,
    risks: NDArray[np.float64] | None = None,
) -> list[Candidate]:
    """Return at most `size` candidates, the highest predicted rating first.

    The items that the visit had, the items that the person has seen and the items that they want to avoid are left
    out, in this order. A group stays in if nothing else would remain.

    Args:
        visitor: The user who visits.
        steps: The rounds so far.
        plan: Query of the semantic search; if empty, the user's last titles are the query.
        size: Number of candidates.
        wishes: A person's own words.
        scores: Score of each item, shape (n_items,); None ranks by predicted rating and distance.
        risks: Risk that the user leaves after each item, shape (n_items,), shown with the candidates.
    """
    world = visitor.open_world.world
    had = world.catalogue.positions(step.item_id for step in steps)
    distances = visitor.distances(steps)
    seen = world.catalogue.positions(visitor.seen)
    gone = np.zeros(len(world.catalogue), dtype=bool)
    unwanted = _has_genre(world.catalogue, read_wishes(wishes, world.catalogue.genres).avoid)
    for left_out in (had, seen, np.flatnonzero(unwanted)):
        rest = gone.copy()
        rest[left_out] = True
        gone = gone if rest.all() else rest
    predicted = np.where(gone, -np.inf, visitor.predicted)
    query = "\n".join(filter(None, (plan, wishes))) or visitor.situation(steps)
    most = int(size * SEMANTIC_SHARE)
    hits = await visitor.open_world.index.nearest(query, most * SEMANTIC_POOL + len(had) + len(seen)) if most else []
    fitting = np.array([position for hit in hits if not gone[position := world.catalogue.position(hit)]], dtype=int)
    if scores is None:
        by_meaning = fitting[pareto(predicted[fitting], None if distances is None else distances[fitting])]
        chosen = dict.fromkeys(_spread(by_meaning, most))
        rest = np.array([position for position in pareto(predicted, distances) if position not in chosen], int)
        chosen |= dict.fromkeys(_spread(rest, size - len(chosen)))
    else:
        scores = np.where(gone, -np.inf, scores)
        chosen = dict.fromkeys(fitting[np.argsort(-scores[fitting], kind="stable")][:most].tolist())
        best = [position for position in np.argsort(-scores, kind="stable")[:size].tolist() if position not in chosen]
        chosen |= dict.fromkeys(best[: size - len(chosen)])
    # The front may be short: fill up with the highest predicted ratings.
    for position in np.argsort(-predicted, kind="stable")[: size + len(chosen)]:
        if len(chosen) < min(size, int((~gone).sum())):
            chosen.setdefault(int(position))
    order = sorted(chosen, key=lambda position: (-predicted[position], position))
    return [_candidate(visitor, position, distances, risks) for position in order]


def with_former(
    candidates: Sequence[Candidate], experiences: Sequence[ExperienceView], visitor: Visitor, steps: Sequence[Step]
) -> list[Candidate]:
    """Return the candidates with this user's reactions to them in the same situation on a former visit.

    Items for which the user stayed then are added, without a risk, because the reaction is known.
    """
    catalogue, had = visitor.open_world.world.catalogue, {step.item_id for step in steps}
    known = {one.item_id: one.before for one in experiences if one.before is not None and one.item_id in catalogue}
    listed = {one.item_id for one in candidates}
    with_before = [one.model_copy(update={"before": known.get(one.item_id)}) for one in candidates]
    gone = listed | had | visitor.seen
    stayed = [item_id for item_id, before in known.items() if before != "left" and item_id not in gone]
    distances = visitor.distances(steps)
    joining = [_candidate(visitor, catalogue.position(item_id), distances, None) for item_id in stayed]
    return with_before + [one.model_copy(update={"before": known[one.item_id]}) for one in joining]


def _has_genre(catalogue: Catalogue, genres: Sequence[str]) -> NDArray[np.bool_]:
    columns = [catalogue.genres.index(genre) for genre in genres]
    return np.asarray(catalogue.genre_matrix[:, columns].any(axis=1), dtype=np.bool_)


def pareto(predicted: NDArray[np.float32], distances: NDArray[np.float32] | None) -> NDArray[np.int_]:
    """Return the positions of the Pareto front, highest prediction first; without distances the best one alone."""
    order = np.argsort(-predicted, kind="stable")
    order = order[np.isfinite(predicted[order])]
    if distances is None or not len(order):
        return order[:1]
    farthest_before = np.maximum.accumulate(np.concatenate(([-np.inf], distances[order][:-1])))
    return order[distances[order] > farthest_before]


def _spread(positions: NDArray[np.int_], count: int) -> list[int]:
    """Return `count` evenly spread positions, including the first and the last."""
    if len(positions) > count:
        positions = positions[np.unique(np.linspace(0, len(positions) - 1, count).round().astype(int))]
    return [int(position) for position in positions]


def _candidate(
    visitor: Visitor,
    position: int,
    distances: NDArray[np.float32] | None,
    risks: NDArray[np.float64] | None,
) -> Candidate:
    item = visitor.open_world.world.catalogue[position]
    return Candidate(
        item_id=item.id,
        title=item.title,
        genres=list(item.genres),
        predicted=round(float(visitor.predicted[position]), 2),
        distance=None if distances is None else round(float(distances[position]), 2),
        risk=None if risks is None else round(float(risks[position]), 4),
    )
