"""What a role is told: the parts of the facts that the roles share, and how much of a text from outside is shown."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from nodes.context import Context
from nodes.llm.prompting import Facts, as_data
from nodes.llm.text.caching import cached_for_short_texts
from nodes.llm.text.tokens import count_tokens, first_tokens
from nodes.state import Candidate, ExperienceView, LessonView, Profile, Step
from nodes.tools.categories import recent_categories
from nodes.user_view import STATE_TITLES, Visitor
from sim.leave import WINDOW

# Most tokens of a title or category, of a plan or lesson, and of all wishes; real titles hardly ever have so many.
TITLE_TOKENS = 32
TEXT_TOKENS = 200
WISHES_TOKENS = 300
# Titles of the history for those roles that need it less: with the rounds, they soon make the state's ten.
RECENT_TITLES = 5
# Most categories of an item, and of the catalogue, the largest first.
ITEM_CATEGORIES = 10
CATEGORIES = 40


@cached_for_short_texts
def shown(text: str, most: int = TITLE_TOKENS) -> str:
    """Return a text from outside as a prompt shows it: plain, of bounded length, and never empty."""
    return first_tokens(as_data(text), most) or "untitled"


def genre_facts(genres: Iterable[str]) -> list[str]:
    """Return the categories of an item as the roles see them."""
    return [shown(genre) for genre in list(genres)[:ITEM_CATEGORIES]]


def category_facts(categories: Iterable[str]) -> list[str]:
    """Return the categories of a catalogue as the roles see them."""
    return [shown(name) for name in list(categories)[:CATEGORIES]]


def catalogue_facts(visitor: Visitor, context: Context) -> Facts:
    """Return the categories of the catalogue as the roles see them; nothing without the category tool."""
    return {"categories": category_facts(visitor.place.categories)} if context.category_tool else {}


def recent_facts(visitor: Visitor, steps: Sequence[Step], context: Context) -> Facts:
    """Return the categories that the user had lately as the roles see them; nothing without the category tool."""
    if not context.category_tool:
        return {}
    items = [visitor.place.world.catalogue.item(step.item_id) for step in steps]
    return {"recent_categories": category_facts(recent_categories(items, WINDOW))}


def history_facts(visitor: Visitor, count: int = RECENT_TITLES) -> list[Facts]:
    """Return the end of the user's history, with the ratings that the logs know."""
    known = list(zip(visitor.history, visitor.ratings, strict=True))[-count:]
    return [{"title": shown(item.title), "rating": rating} for item, rating in known]


def history_facts_with_genres(visitor: Visitor) -> list[Facts]:
    """Return the end of the user's history as those roles see it that decide on categories."""
    items = visitor.history[-STATE_TITLES:]
    return [
        facts | {"genres": genre_facts(item.genres)}
        for facts, item in zip(history_facts(visitor, STATE_TITLES), items, strict=True)
    ]


def wish_facts(profile: Profile | None) -> Facts:
    """Return what a person asked for in their own words, the latest lines that there is room for; nothing without."""
    lines = [as_data(line) for line in profile.text.splitlines() if line.strip()] if profile is not None else []
    tokens = itertools.accumulate(map(count_tokens, reversed(lines)))
    kept = len(list(itertools.takewhile(lambda counted: counted <= WISHES_TOKENS, tokens)))
    return {"wishes": lines[-kept:]} if kept else {}


def plan_fact(plan: str) -> str:
    """Return the plan as the roles see it; empty where there is none."""
    return shown(plan, TEXT_TOKENS) if plan else ""


def round_facts(steps: Sequence[Step]) -> list[Facts]:
    """Return rounds as the roles see them; whether and why the user left is not among it."""
    return [{"title": shown(step.title), "distance": step.distance, "reward": round(step.reward, 2)} for step in steps]


def round_facts_with_genres(steps: Sequence[Step]) -> list[Facts]:
    """Return rounds as those roles see them that decide on categories."""
    return [facts | {"genres": genre_facts(step.genres)} for facts, step in zip(round_facts(steps), steps, strict=True)]


def lesson_facts(lessons: Sequence[LessonView]) -> list[Facts]:
    """Return lessons as the roles see them."""
    return [one.model_dump() | {"text": shown(one.text, TEXT_TOKENS)} for one in lessons]


def experience_facts(experiences: Sequence[ExperienceView], *, titles: bool = False) -> list[Facts]:
    """Return experiences as the Actor sees them, those of the likest situations first.

    What others were recommended is told by its categories; where items are listed to choose among, its title would
    teach less than it costs.
    """
    return [
        ({"title": shown(one.title)} if titles else {})
        | {"distance": one.distance, "advantage": round(one.advantage, 2), "genres": genre_facts(one.genres)}
        for one in experiences
    ]


def candidate_titles(shortlist: Sequence[Candidate]) -> list[str]:
    """Return the titles by which the Actor tells the candidates apart: a repeated one gets a number."""
    titles: dict[str, None] = {}
    for title in (shown(one.title) for one in shortlist):
        numbered = (f"{title} ({number})" for number in itertools.count(2))
        titles[title if title not in titles else next(one for one in numbered if one not in titles)] = None
    return list(titles)


def candidate_facts(shortlist: Sequence[Candidate]) -> list[Facts]:
    """Return the shortlist as the Actor sees it; ids mean nothing to a model."""
    known = any(one.risk is not None for one in shortlist)
    came_before = any(one.before is not None for one in shortlist)
    return [
        {"title": title, "predicted": one.predicted, "distance": one.distance}
        | ({"risk": one.risk} if known else {})
        | ({"before": one.before} if came_before else {})
        | {"genres": genre_facts(one.genres)}
        for title, one in zip(candidate_titles(shortlist), shortlist, strict=True)
    ]


def item_facts(step: Step) -> dict[str, Any]:
    """Return the item just recommended, before anything is known of how the user took it."""
    seen = {"title": shown(step.title), "predicted": step.predicted, "distance": step.distance}
    return seen | ({} if step.risk is None else {"risk": step.risk})
