"""Shortlist: catalogue items for the Actor to choose among.

The shortlist joins several rankings of the catalogue and takes their best items in turn: what promises most, what the
plan asks for, what is liked best and what is safest. Left out of all of them are the items that the visit had, those
that the user had before it, and those with a category that the plan leaves out. For a person, and for
a plan that a person wrote, it is drawn from the items that meet what was asked for.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nodes.llm.text.wish_grammar import Wishes, asked_for, read_wishes
from nodes.state import Candidate, ExperienceView, Step
from nodes.tools.wish_items import Drawn
from nodes.user_view import Visitor
from sim.arrays import Doubles, Floats, Mask, Numbers, Positions
from sim.catalogue import Catalogue
from sim.leave import WINDOW
from sim.policies.pair_evidence import PairEvidence

# Number of the best liked items that are on every list of at least `LONG` items, and of the safest ones.
ALWAYS = 2
LONG = 8
# Items that the semantic search finds besides those that are left out.
SEMANTIC_POOL = 16


@dataclass(frozen=True)
class Outlook:
    """Leave risk of every item and the score by which the outlook ranks them, each of shape (n_items,)."""

    risks: Doubles
    prior_risks: Doubles
    """Risks without the evidence of pairs."""
    scores: Doubles


@dataclass(frozen=True)
class Figures:
    """Figures of every item in a round, each of shape (n_items,)."""

    size: int
    """Number of candidates, a single number."""
    recent: int
    """Number of the last items, at most four, a single number."""
    predicted: Floats
    offered: Mask
    """Whether an item may be on the list."""
    distances: Floats | None
    """Least distance to the last four items; None in the first round."""
    known: Positions | None
    """Number of the last four items with which users have taken the item and stayed; None without evidence."""
    to_unknown: Floats | None
    """Least distance to the others of the last four items, infinite if there are none; None without evidence."""
    ended: Positions | None
    """Number of visits that ended when the item met one of the last four; None without evidence."""
    outlook: Outlook | None

    def ranked(self, *keys: Numbers | Positions | Mask, among: Mask | None = None) -> list[int]:
        """Return the positions of the first `size` offered items by keys; a later key decides among equals.

        Args:
            keys: Arrays of shape (n_items,), smallest first.
            among: Items to rank; None for all.
        """
        chosen = np.flatnonzero(self.offered if among is None else self.offered & among)
        order = np.lexsort([key[chosen] for key in reversed(keys)])
        return [int(position) for position in chosen[order[: self.size]]]


async def shortlist(
    visitor: Visitor,
    steps: Sequence[Step],
    plan: str,
    size: int,
    *,
    drawn: Drawn | None = None,
    evidence: PairEvidence | None = None,
    outlook: Outlook | None = None,
) -> list[Candidate]:
    """Return at most `size` candidates, the highest predicted rating first.

    Args:
        visitor: The user who visits.
        steps: The rounds so far.
        plan: Plan of the round. What it asks for is the query of the semantic search; if it asks for nothing, the
            user's last titles are the query.
        size: Number of candidates.
        drawn: Items that meet a person's wishes; None without wishes.
        evidence: Evidence of earlier visits; None for nothing.
        outlook: Outlook of the round; None without one.
    """
    catalogue = visitor.open_world.world.catalogue
    bounds = read_wishes(plan, catalogue.genres)
    unwanted = [] if drawn is None else [np.flatnonzero(~drawn.allowed)]
    unwanted.append(np.flatnonzero(catalogue.with_genre(bounds.avoid)))
    figures = _figures(visitor, steps, size, unwanted, evidence, outlook)
    asked = (asked_for(plan), drawn.query if drawn is not None else "")
    query = "\n".join(filter(None, asked)) or visitor.situation(steps)
    hits = await visitor.open_world.index.nearest(query, 2 * SEMANTIC_POOL + len(steps)) if size > 1 else []
    fitting = [position for position in catalogue.positions(hits).tolist() if figures.offered[position]]
    rankings = _rankings(figures, bounds, _asked_for(fitting, catalogue, bounds))
    return _candidates(visitor, _chosen(figures, rankings), figures)


def random_shortlist(
    visitor: Visitor,
    steps: Sequence[Step],
    size: int,
    rng: np.random.Generator,
    evidence: PairEvidence | None,
    outlook: Outlook | None,
) -> list[Candidate]:
    """Return at most `size` candidates drawn at random, the highest predicted rating first."""
    figures = _figures(visitor, steps, size, (), evidence, outlook)
    return _candidates(visitor, figures.ranked(rng.random(len(figures.offered))), figures)


def _figures(
    visitor: Visitor,
    steps: Sequence[Step],
    size: int,
    unwanted: Iterable[Positions],
    evidence: PairEvidence | None,
    outlook: Outlook | None,
) -> Figures:
    world = visitor.open_world.world
    last = [step.item_id for step in steps[-WINDOW:]]
    recent = world.catalogue.positions(last).tolist()
    distances = world.logs.distances_to(last)
    took = evidence.known(recent) if evidence and recent else None
    return Figures(
        size=size,
        recent=len(recent),
        predicted=visitor.predicted,
        offered=visitor.offered(steps, *unwanted),
        distances=distances.min(axis=1) if recent else None,
        known=None if took is None else took.sum(axis=1),
        to_unknown=None if took is None else np.where(took, np.inf, distances).min(axis=1),
        ended=evidence.ended(recent) if evidence and recent else None,
        outlook=outlook,
    )


def _asked_for(hits: Sequence[int], catalogue: Catalogue, bounds: Wishes) -> list[int]:
    """Return the hits with a category that the plan names, or all of them if it names none or no hit has one.

    The nearest texts are not all of these categories, and the best liked of the others would take their place.
    """
    pool = hits[:SEMANTIC_POOL]
    wanted = catalogue.with_genre(bounds.want)
    return [position for position in pool if wanted[position]] or list(pool)


def _rankings(figures: Figures, bounds: Wishes, hits: Sequence[int]) -> list[list[int]]:
    """Return rankings of the items that promise most and of those that the plan asks for, with or without an outlook.

    Args:
        figures: Figures of the items.
        bounds: Wishes of the plan.
        hits: Items whose text is nearest to what the plan asks for.
    """
    dislike = -figures.predicted
    is_hit = np.zeros(len(dislike), dtype=bool)
    is_hit[hits] = True
    if figures.outlook is not None:
        unpromising = -figures.outlook.scores
        return [figures.ranked(unpromising), figures.ranked(unpromising, among=is_hit)]
    if figures.distances is None:
        return [figures.ranked(dislike), figures.ranked(dislike, among=is_hit)]
    misses = np.maximum(0, (bounds.least or 0.0) - figures.distances)
    misses += np.maximum(0, figures.distances - (2.0 if bounds.most is None else bounds.most))
    front = _spread(pareto(figures.predicted, figures.distances, figures.offered), figures.size)
    if figures.known is None or figures.ended is None:
        return [figures.ranked(misses, dislike), figures.ranked(misses, dislike, among=is_hit), front]
    ended, strange = figures.ended > 0, figures.known < figures.recent
    return [
        figures.ranked(ended, misses > 0, strange, misses, dislike),
        figures.ranked(ended, misses, dislike),
        figures.ranked(ended, misses, dislike, among=is_hit),
        front,
    ]


def _safest(figures: Figures) -> list[int]:
    """Return the items by safety: by leave risk, else by evidence and distance."""
    dislike = -figures.predicted
    if figures.outlook is not None:
        return figures.ranked(figures.outlook.risks, dislike)
    if figures.distances is None:
        return figures.ranked(dislike)
    if figures.known is None or figures.ended is None:
        return figures.ranked(-figures.distances)
    return figures.ranked(figures.ended, -figures.known, -figures.distances)


def _chosen(figures: Figures, rankings: Sequence[Sequence[int]]) -> list[int]:
    """Return the items that the rankings choose in turn; a long list begins with some of the best liked and the safest.

    Each ranking gives its best item that is not on the list yet, so that what the plan asks for has its place even if
    the best of it is there already.
    """
    liked, safest = figures.ranked(-figures.predicted), _safest(figures)
    chosen = dict.fromkeys([*liked[:ALWAYS], *safest[:ALWAYS]] if figures.size >= LONG else [])
    waiting = deque(map(iter, (*rankings, safest, liked)))
    while waiting and len(chosen) < figures.size:
        ranking = waiting.popleft()
        new = next((one for one in ranking if one not in chosen), None)
        if new is not None:
            chosen[new] = None
            waiting.append(ranking)
    return list(chosen)


def with_former(
    candidates: Sequence[Candidate],
    experiences: Sequence[ExperienceView],
    visitor: Visitor,
    steps: Sequence[Step],
    drawn: Drawn | None = None,
) -> list[Candidate]:
    """Return the candidates with this user's reactions to them in the same situation on a former visit.

    Items for which the user stayed then are added, without a risk, because the reaction is known; of a person's, those
    that meet their wishes.
    """
    catalogue, had = visitor.open_world.world.catalogue, {step.item_id for step in steps}
    known = {one.item_id: one.before for one in experiences if one.before is not None and one.item_id in catalogue}
    listed = {one.item_id for one in candidates}
    with_before = [one.model_copy(update={"before": known.get(one.item_id)}) for one in candidates]
    gone = listed | had | visitor.seen
    stayed = [item_id for item_id, before in known.items() if before != "left" and item_id not in gone]
    if drawn is not None:
        stayed = [item_id for item_id in stayed if drawn.allowed[catalogue.position(item_id)]]
    if not stayed:
        return with_before
    joining = _candidates(visitor, catalogue.positions(stayed).tolist(), _figures(visitor, steps, 0, (), None, None))
    return with_before + [one.model_copy(update={"before": known[one.item_id]}) for one in joining]


def pareto(predicted: Floats, distances: Floats, offered: Mask) -> list[int]:
    """Return the positions of the Pareto front of the offered items, from the best predicted to the most distant."""
    order = np.argsort(-predicted, kind="stable")
    order = order[offered[order]]
    farthest_before = np.maximum.accumulate(np.concatenate(([-np.inf], distances[order])))[:-1]
    return [int(position) for position in order[distances[order] > farthest_before]]


def _spread(positions: Sequence[int], count: int) -> list[int]:
    """Return `count` evenly spread positions, including the first and the last."""
    if len(positions) <= count:
        return list(positions)
    return [positions[index] for index in np.unique(np.linspace(0, len(positions) - 1, count).round().astype(int))]


def _candidates(visitor: Visitor, positions: Iterable[int], figures: Figures) -> list[Candidate]:
    """Return items as candidates, the highest predicted rating first."""
    order = sorted(positions, key=lambda position: (-visitor.predicted[position], position))
    return [_candidate(visitor, position, figures) for position in order]


def _candidate(visitor: Visitor, position: int, figures: Figures) -> Candidate:
    item = visitor.open_world.world.catalogue[position]

    def at(values: Numbers, digits: int) -> float:
        return round(float(values[position]), digits)

    outlook = figures.outlook
    to_unknown = None if figures.to_unknown is None else at(figures.to_unknown, 2)
    return Candidate(
        item_id=item.id,
        title=item.title,
        genres=list(item.genres),
        predicted=round(float(visitor.predicted[position]), 2),
        distance=None if figures.distances is None else at(figures.distances, 2),
        risk=at(outlook.risks, 4) if outlook else None,
        prior_risk=at(outlook.prior_risks, 4) if outlook else None,
        known=None if figures.known is None else int(figures.known[position]),
        to_unknown=to_unknown if to_unknown is not None and np.isfinite(to_unknown) else None,
        ended=None if figures.ended is None else int(figures.ended[position]),
    )
