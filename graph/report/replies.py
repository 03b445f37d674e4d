"""Replies of models that were of no use: how often a role's fallback answered instead."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict


class ReplyCounts(TypedDict):
    """Replies of a role by how they were used."""

    ok: int
    repaired: int
    asked_again: int
    fallback: int


def count_replies(visits: Iterable[Mapping[str, Any]]) -> dict[str, ReplyCounts]:
    """Return the replies of each role in the visits, by role in the order of the first reply.

    Args:
        visits: Visits with `steps`, each with the `outcomes` of its roles, if it has any.
    """
    found: dict[str, Counter[str]] = {}
    for visit in visits:
        for step in visit["steps"]:
            for role, outcome in step.get("outcomes", {}).items():
                found.setdefault(role, Counter())[outcome] += 1
    # An edited state may hold other words; these are no replies of a model.
    return {
        role: ReplyCounts(
            ok=counts["ok"],
            repaired=counts["repaired"],
            asked_again=counts["asked_again"],
            fallback=counts["fallback"],
        )
        for role, counts in found.items()
    }


def useless(replies: Mapping[str, ReplyCounts]) -> tuple[int, int]:
    """Return the number of replies of no use, and that of all replies."""
    return sum(one["fallback"] for one in replies.values()), sum(map(_total, replies.values()))


def useless_by_role(replies: Mapping[str, ReplyCounts]) -> str:
    """Return the replies of no use as text, such as "planner 2 of 20, actor 1 of 20"; empty if all were of use."""
    return ", ".join(
        f"{role} {counts['fallback']} of {_total(counts)}" for role, counts in replies.items() if counts["fallback"]
    )


def warnings(named: Sequence[tuple[str, Mapping[str, ReplyCounts]]]) -> list[str]:
    """Return a sentence for each named row of whose roles one gave mostly replies of no use."""
    found = []
    for name, replies in named:
        mostly = {role: counts for role, counts in replies.items() if counts["fallback"] * 2 > _total(counts)}
        if mostly:
            found.append(
                f"{name}: most replies were of no use ({useless_by_role(mostly)}), so fallbacks were measured."
            )
    return found


def _total(counts: ReplyCounts) -> int:
    return counts["ok"] + counts["repaired"] + counts["asked_again"] + counts["fallback"]
