"""Facts for the prompts of the roles, with bounds on every text from outside."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from memory.records import Value
from nodes.context import Context
from nodes.llm.prompting import Facts, as_data
from nodes.llm.text.caching import cached_for_short_texts
from nodes.llm.text.tokens import count_tokens, first_tokens
from nodes.llm.text.understood import Era, Understood
from nodes.state import Candidate, ExperienceView, LessonView, Profile, Step, VisitState
from nodes.tools.evidence import Band, Evidence
from nodes.tools.wish_items import Drawn
from nodes.tools.wish_text import era_text, named_titles
from nodes.user_view import Visitor
from sim.arrays import Mask
from sim.leave import WINDOW
from sim.policies.leave_risk import liked_rating

# Most tokens of a title or category, of a plan or lesson, and of all wishes. Real titles are nearly always shorter.
TITLE_TOKENS = 32
TEXT_TOKENS = 200
WISHES_TOKENS = 300
# Titles of the history for the roles that need it less: with the rounds they soon make the ten titles of the state.
PLANNED_TITLES, RECENT_TITLES = 5, 3
# Latest titles that a person refused.
REFUSED_TITLES = 5
# Most categories of an item, and of the catalogue (the largest ones).
ITEM_CATEGORIES = 10
CATEGORIES = 40
# Most categories to choose among, and the best predicted share of the catalogue, which counts as good for a user.
CHOICES = 6
GOOD = 0.25
# Figures of an item that are shown if they are known, and those of a candidate.
FIGURES = ("risk", "known", "to_unknown", "ended")
OPTIONAL = (*FIGURES, "before")
# Most categories of the item of a value or experience: these change in each round, and no provider's cache holds them.
TOLD_CATEGORIES = 2


@cached_for_short_texts
def shown(text: str, most: int = TITLE_TOKENS) -> str:
    """Return a text from outside for a prompt: plain, of bounded length, and never empty."""
    return first_tokens(as_data(text), most) or "untitled"


def genre_facts(genres: Iterable[str]) -> list[str]:
    """Return the categories of an item for a prompt."""
    return [shown(genre) for genre in list(genres)[:ITEM_CATEGORIES]]


def category_facts(categories: Iterable[str]) -> list[str]:
    """Return the categories of a catalogue for a prompt."""
    return [shown(name) for name in list(categories)[:CATEGORIES]]


def catalogue_facts(visitor: Visitor, context: Context) -> Facts:
    """Return the facts about the catalogue's categories; empty without the category tool."""
    return {"categories": category_facts(visitor.open_world.categories)} if context.category_tool else {}


def category_choice(who: Visitor, steps: Sequence[Step], evidence: Evidence, drawn: Drawn | None) -> list[Facts]:
    """Return a row for each category: `good` items at a safe distance, rounds that had it, and how long `ago`.

    Rows with most good items come first, and those of the last four items are always among them.

    Args:
        who: The user.
        steps: The rounds so far.
        evidence: Evidence of earlier visits.
        drawn: Items that meet a person's wishes; no other is good. None without wishes.
    """
    catalogue = who.open_world.world.catalogue
    offered = who.offered(steps) if drawn is None else drawn.allowed
    safe = _safe(who, steps, evidence, offered)
    best = np.quantile(who.predicted[safe], 1 - GOOD) if safe.any() else np.inf
    good = (catalogue.genre_matrix[safe & (who.predicted >= best)] > 0).sum(axis=0)
    rounds: dict[str, list[int]] = {}
    for ago, step in enumerate(reversed(steps), 1):
        for genre in step.genres:
            rounds.setdefault(genre, []).append(ago)
    rows: list[Facts] = [
        {"category": name, "good": int(count), "shown": len(rounds.get(name, [])), "ago": min(rounds.get(name, [0]))}
        for name, count in zip(catalogue.genres, good, strict=True)
    ]
    rows.sort(key=lambda row: (-row["good"], row["category"]))
    listed = rows[:CHOICES] + [row for row in rows[CHOICES:] if 0 < row["ago"] <= WINDOW]
    return [row | {"category": shown(row["category"])} for row in listed]


def _safe(who: Visitor, steps: Sequence[Step], evidence: Evidence, offered: Mask) -> Mask:
    """Return the offered items at a safe distance, by evidence; without any, those of the farther half."""
    distances = who.distances(steps)
    if distances is None:
        return offered
    least = evidence.safe_distance
    edge = float(np.median(distances[offered])) if least is None else least
    return np.asarray(offered & (distances >= edge), dtype=np.bool_)


def history_facts(visitor: Visitor, count: int = RECENT_TITLES) -> list[Facts]:
    """Return the last `count` titles of the user's history, with the ratings from the logs."""
    known = list(zip(visitor.history, visitor.ratings, strict=True))[-count:]
    return [{"title": shown(item.title), "rating": rating} for item, rating in known]


def history_facts_with_genres(visitor: Visitor, count: int = PLANNED_TITLES) -> list[Facts]:
    """Return the last `count` titles of the user's history with categories, for the roles that decide on categories."""
    return [
        facts | {"genres": genre_facts(item.genres)}
        for facts, item in zip(history_facts(visitor, count), visitor.history[-count:], strict=True)
    ]


def person_facts(profile: Profile | None, understood: Understood | None, who: Visitor) -> Facts:
    """Return what a person wishes, what was understood of it, and what they refused; empty for a simulated user.

    `nodes/llm/prompts/wishes.md` explains them.
    """
    if profile is None:
        return {}
    catalogue = who.open_world.world.catalogue
    refused = [shown(catalogue.item(one).title) for one in profile.never if one in catalogue][-REFUSED_TITLES:]
    return wish_facts(profile) | understood_facts(understood, who) | ({"never": refused} if refused else {})


def wish_facts(profile: Profile) -> Facts:
    """Return a person's wishes in their own words: the latest lines that fit; empty without wishes."""
    lines = [as_data(line) for line in profile.text.splitlines() if line.strip()]
    tokens = itertools.accumulate(map(count_tokens, reversed(lines)))
    kept = len(list(itertools.takewhile(lambda counted: counted <= WISHES_TOKENS, tokens)))
    return {"wishes": lines[-kept:]} if kept else {}


def understood_facts(understood: Understood | None, who: Visitor) -> Facts:
    """Return what was understood of a person's wishes, beside their words; empty if nothing was."""
    if understood is None:
        return {}
    catalogue = who.open_world.world.catalogue

    def titles(ids: Sequence[str]) -> list[str]:
        return [shown(one) for one in named_titles(catalogue, ids)]

    def flat(groups: Sequence[Sequence[str]]) -> list[str]:
        return genre_facts(name for group in groups for name in group)

    bounds = [era_text(understood.bounds)] if understood.bounds != Era() else []
    known: Facts = {
        # Categories that an item is to have at once stand together.
        "asked_for": [flat(groups) for groups in (*understood.want, *understood.before)],
        "left_out": [flat(groups) for groups in understood.avoid],
        "words_left_out": [shown(one) for one in understood.not_words],
        "titles": titles(understood.titles),
        "similar_to": titles(understood.like),
        "not_similar_to": titles(understood.unlike),
        "years": [*bounds, *map(era_text, understood.eras), *(f"not {era_text(one)}" for one in understood.not_eras)],
        "least_distance": understood.least,
        "most_distance": understood.most,
        "cannot_be_judged": [shown(one) for one in (*understood.unjudged, *understood.missing)],
        "no_such_title": [shown(one) for one in understood.unknown],
    }
    told = {name: value for name, value in known.items() if value or value == 0}
    return {"understood": told} if told else {}


def order_facts(state: VisitState) -> Facts:
    """Return that the plan is the order of a person; empty if the Planner wrote it."""
    return {"plan_is_an_order_of_a_person": True} if state.order else {}


def plan_fact(plan: str) -> str:
    """Return the plan for a prompt; empty without a plan."""
    return shown(plan, TEXT_TOKENS) if plan else ""


def round_facts(steps: Sequence[Step]) -> list[Facts]:
    """Return the rounds for a prompt, without whether and why the user left."""
    return [{"title": shown(step.title), "distance": step.distance, "reward": round(step.reward, 2)} for step in steps]


def round_facts_with_genres(steps: Sequence[Step]) -> list[Facts]:
    """Return the rounds with categories, for the roles that decide on categories."""
    return [facts | {"genres": genre_facts(step.genres)} for facts, step in zip(round_facts(steps), steps, strict=True)]


def finished_round_facts(steps: Sequence[Step]) -> list[Facts]:
    """Return the rounds of a finished visit, with the risk of each if one is known, and the round that ended it."""
    known = any(step.risk is not None for step in steps)
    return [
        facts | ({"risk": step.risk} if known else {}) | {"left": step.left}
        for facts, step in zip(round_facts_with_genres(steps), steps, strict=True)
    ]


def lesson_facts(lessons: Sequence[LessonView]) -> list[Facts]:
    """Return the lessons for a prompt, without keys, because a key means nothing to a model."""
    return [{"text": shown(one.text, TEXT_TOKENS), "support": one.support, "length": one.length} for one in lessons]


def evidence_facts(bands: Sequence[Band]) -> Facts:
    """Return how often users left by distance, over all pairs that the visit may recall; empty without pairs."""
    rows = [{"from": one.low, "pairs": one.pairs, "ended": round(one.left, 1)} for one in bands]
    return {"evidence": rows} if rows else {}


def safe_distance_facts(evidence: Evidence) -> Facts:
    """Return the distance from which on hardly any pairs ended visits; empty without enough evidence."""
    return {} if evidence.safe_distance is None else {"safe_distance": evidence.safe_distance}


def rounds_to_come(state: VisitState) -> int:
    """Return the number of rounds after the current one if the user stays."""
    return state.max_steps - len(state.steps) - 1


def to_come_facts(state: VisitState, who: Visitor) -> Facts:
    """Return the rounds to come if the user stays, and the reward that a good item of the catalogue brings in each."""
    return {
        "to_come": {
            "rounds": rounds_to_come(state),
            "reward": round(liked_rating(who.predicted), 2),
        }
    }


def experience_facts(experiences: Sequence[ExperienceView]) -> list[Facts]:
    """Return the experiences for the Actor, those of the most similar situations first."""
    return [
        {
            "title": shown(one.title),
            "distance": one.distance,
            "advantage": round(one.advantage, 2),
            "genres": genre_facts(one.genres[:TOLD_CATEGORIES]),
        }
        for one in experiences
    ]


def candidate_titles(shortlist: Sequence[Candidate]) -> list[str]:
    """Return a distinct title for each candidate: a repeated title gets a number."""
    titles: dict[str, None] = {}
    for title in (shown(one.title) for one in shortlist):
        numbered = (f"{title} ({number})" for number in itertools.count(2))
        titles[title if title not in titles else next(one for one in numbered if one not in titles)] = None
    return list(titles)


def candidate_facts(shortlist: Sequence[Candidate]) -> list[Facts]:
    """Return the shortlist for the Actor, without ids, because an id means nothing to a model."""
    columns = [name for name in OPTIONAL if any(getattr(one, name) is not None for one in shortlist)]
    # Zeros and what follows from them would only cost tokens.
    if not any(one.known for one in shortlist):
        columns = [name for name in columns if name not in ("known", "to_unknown")]
    if not any(one.ended for one in shortlist):
        columns = [name for name in columns if name != "ended"]
    return [
        {"title": title, "predicted": one.predicted, "distance": one.distance}
        | {name: getattr(one, name) for name in columns}
        # Without a known pair this would be the distance once more.
        | ({"to_unknown": None} if "to_unknown" in columns and not one.known else {})
        | {"genres": genre_facts(one.genres)}
        for title, one in zip(candidate_titles(shortlist), shortlist, strict=True)
    ]


def item_facts(step: Step) -> dict[str, Any]:
    """Return the item just recommended, without the user's reaction."""
    figures = {name: getattr(step, name) for name in FIGURES if getattr(step, name) is not None}
    if not step.known:
        figures.pop("to_unknown", None)
    seen = {"title": shown(step.title), "predicted": step.predicted, "distance": step.distance}
    return seen | figures | {"genres": genre_facts(step.genres)}


def value_facts(values: Sequence[Value]) -> list[Facts]:
    """Return values for the Critic, with what it sees of the item just recommended; a column is known or left out."""
    known = any(one.risk is not None for one in values)
    return [
        {"distance": one.distance}
        | ({"risk": one.risk} if known else {})
        | {"genres": genre_facts(one.genres[:TOLD_CATEGORIES]), "target": round(one.target, 2)}
        for one in values
    ]
