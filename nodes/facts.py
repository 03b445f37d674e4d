"""What a role is told: the parts of the facts that the roles share, those that seldom change first."""

from collections.abc import Sequence
from typing import Any

from nodes.llm.prompting import Facts
from nodes.state import Candidate, Profile, Remembered, Step, Told
from nodes.visitor import STATE_TITLES, Visitor


def user_facts(visitor: Visitor) -> Facts:
    """Return the end of the user's history, with the ratings that the logs know."""
    shown = list(zip(visitor.history, visitor.ratings, strict=True))[-STATE_TITLES:]
    history: list[dict[str, Any]] = [
        {"title": item.title, "genres": list(item.genres)} | ({} if rating is None else {"rating": rating})
        for item, rating in shown
    ]
    return {"history": history}


def wish_facts(profile: Profile | None) -> Facts:
    """Return what a person asked for in their own words; nothing where there are no such words."""
    return {"wishes": profile.text.splitlines()} if profile is not None and profile.text else {}


def round_facts(steps: Sequence[Step]) -> list[Facts]:
    """Return rounds as the roles see them; whether and why the user left is not among it."""
    return [
        {"title": step.title, "genres": step.genres, "distance": step.distance, "reward": round(step.reward, 2)}
        for step in steps
    ]


def lesson_facts(lessons: Sequence[Told]) -> list[Facts]:
    """Return lessons as the roles see them."""
    return [lesson.model_dump() for lesson in lessons]


def experience_facts(experiences: Sequence[Remembered]) -> list[Facts]:
    """Return experiences as the Actor sees them."""
    return [one.model_dump() for one in experiences]


def candidate_facts(shortlist: Sequence[Candidate]) -> list[Facts]:
    """Return the shortlist as the Actor sees it; ids mean nothing to a model."""
    return [candidate.model_dump(exclude={"item_id"}) for candidate in shortlist]
