"""Facts for the prompts of the roles, with bounds on every text from outside."""

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

# Most tokens of a title or category, of a plan or lesson, and of all wishes. Real titles are nearly always shorter.
TITLE_TOKENS = 32
TEXT_TOKENS = 200
WISHES_TOKENS = 300
# Titles of the history for the roles that need it less: with the rounds they soon make the ten titles of the state.
RECENT_TITLES = 5
# Most categories of an item, and of the catalogue (the largest ones).
ITEM_CATEGORIES = 10
CATEGORIES = 40


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


def recent_facts(visitor: Visitor, steps: Sequence[Step], context: Context) -> Facts:
    """Return the facts about the categories of the last rounds; empty without the category tool."""
    if not context.category_tool:
        return {}
    items = [visitor.open_world.world.catalogue.item(step.item_id) for step in steps]
    return {"recent_categories": category_facts(recent_categories(items, WINDOW))}


def history_facts(visitor: Visitor, count: int = RECENT_TITLES) -> list[Facts]:
    """Return the last `count` titles of the user's history, with the ratings from the logs."""
    known = list(zip(visitor.history, visitor.ratings, strict=True))[-count:]
    return [{"title": shown(item.title), "rating": rating} for item, rating in known]


def history_facts_with_genres(visitor: Visitor) -> list[Facts]:
    """Return the last titles of the user's history with categories, for the roles that decide on categories."""
    items = visitor.history[-STATE_TITLES:]
    return [
        facts | {"genres": genre_facts(item.genres)}
        for facts, item in zip(history_facts(visitor, STATE_TITLES), items, strict=True)
    ]


def wish_facts(profile: Profile | None) -> Facts:
    """Return a person's wishes in their own words: the latest lines that fit; empty without wishes."""
    lines = [as_data(line) for line in profile.text.splitlines() if line.strip()] if profile is not None else []
    tokens = itertools.accumulate(map(count_tokens, reversed(lines)))
    kept = len(list(itertools.takewhile(lambda counted: counted <= WISHES_TOKENS, tokens)))
    return {"wishes": lines[-kept:]} if kept else {}


def plan_fact(plan: str) -> str:
    """Return the plan for a prompt; empty without a plan."""
    return shown(plan, TEXT_TOKENS) if plan else ""


def round_facts(steps: Sequence[Step]) -> list[Facts]:
    """Return the rounds for a prompt, without whether and why the user left."""
    return [{"title": shown(step.title), "distance": step.distance, "reward": round(step.reward, 2)} for step in steps]


def round_facts_with_genres(steps: Sequence[Step]) -> list[Facts]:
    """Return the rounds with categories, for the roles that decide on categories."""
    return [facts | {"genres": genre_facts(step.genres)} for facts, step in zip(round_facts(steps), steps, strict=True)]


def lesson_facts(lessons: Sequence[LessonView]) -> list[Facts]:
    """Return the lessons for a prompt."""
    return [one.model_dump() | {"text": shown(one.text, TEXT_TOKENS)} for one in lessons]


def experience_facts(experiences: Sequence[ExperienceView], *, titles: bool = False) -> list[Facts]:
    """Return the experiences for the Actor, those of the most similar situations first.

    An experience shows the categories of its item. It shows the title only with `titles`: if the Actor chooses among
    candidates, a title teaches less than it costs in tokens.
    """
    return [
        ({"title": shown(one.title)} if titles else {})
        | {"distance": one.distance, "advantage": round(one.advantage, 2), "genres": genre_facts(one.genres)}
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
    """Return the item just recommended, without the user's reaction."""
    seen = {"title": shown(step.title), "predicted": step.predicted, "distance": step.distance}
    return seen | ({} if step.risk is None else {"risk": step.risk})
