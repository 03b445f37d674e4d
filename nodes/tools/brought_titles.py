"""Titles that a request brings: the items they were taken for, and near ones for those not found."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rapidfuzz import fuzz, process, utils

from nodes.tools.open_world import OpenWorld
from sim.catalogue import Item

# Near titles named for one that is not found, titles for which they are looked up, and characters of it.
NEAR_TITLES, MOST_LOOKED_UP, MOST_COMPARED = 3, 5, 80


@dataclass(frozen=True)
class BroughtTitles:
    """Titles that a request brought."""

    items: list[Item]
    """Items of the titles that the catalogue has."""
    not_found: dict[str, list[str]] = field(default_factory=dict)
    """The first titles that it lacks, each with the nearest that it has."""

    @property
    def lines(self) -> list[str]:
        """A line with the titles that were taken, and one for each that was not found."""
        taken = ", ".join(dict.fromkeys(item.title for item in self.items))
        missing = [f"Not found: {title} (nearest: {', '.join(near)})" for title, near in self.not_found.items()]
        return [f"Liked: {taken}"] * bool(taken) + missing


def known_titles(opened: OpenWorld, titles: Sequence[str]) -> list[Item]:
    """Return the items named by a list of titles, without the titles that the catalogue lacks."""
    return [match.item for title in titles if (match := opened.fresh.named(title))]


def brought_titles(opened: OpenWorld, titles: Sequence[str]) -> BroughtTitles:
    """Return the items that titles name, and the nearest titles for those that name none.

    It takes some 10 ms for each title not found; call it in a thread.
    """
    matches = {title: opened.fresh.named(title) for title in titles}
    lacking = [title for title, match in matches.items() if match is None][:MOST_LOOKED_UP]
    known = [item.title for item in opened.world.catalogue] if lacking else []
    return BroughtTitles(
        [match.item for match in matches.values() if match],
        {one[:MOST_COMPARED]: _nearest(one, known) for one in lacking},
    )


def _nearest(title: str, known: Sequence[str]) -> list[str]:
    near = process.extract(
        title[:MOST_COMPARED], known, scorer=fuzz.WRatio, processor=utils.default_process, limit=NEAR_TITLES
    )
    return [name for name, *_ in near]
