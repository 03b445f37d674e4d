"""Wishes in a person's words, read with the catalogue: categories, titles, years, and what nothing here can judge."""

import asyncio
from collections.abc import Sequence

import numpy as np

from nodes.llm.text.understood import Era, Understood
from nodes.llm.text.wish_grammar import Mention, Years, asked_for, distances, mentions
from nodes.llm.text.wish_words import PLAIN_WORDS, likely_categories
from nodes.tools.open_world import OpenWorld
from nodes.tools.title_finder import NAME_WORD, NamedTitles, TitleFinder
from nodes.tools.wish_text import own_words
from sim.catalogue import Catalogue, Item

# Most mentions of a text that are read, the latest ones; each may name three items.
MOST_MENTIONS = 30
# Most words to search by, and most characters of one.
MOST_WORDS, LONGEST_WORD = 12, 80
# Shares of the oldest and the newest items that count as old or recent.
OLD_SHARE, RECENT_SHARE = 0.2, 0.8


async def understand(opened: OpenWorld, text: str) -> Understood:
    """Return what a person's words mean in a catalogue; a later line counts more than an earlier one."""
    readings = opened.kept(Understood)
    text = own_words(text)
    found: Understood | None = readings.get(text)
    if found is None:
        # In a thread: a long text is compared with many titles.
        found = readings[text] = await asyncio.to_thread(read_with_catalogue, text, opened)
    return found


def read_with_catalogue(text: str, opened: OpenWorld) -> Understood:
    """Return what a text means in a catalogue, outside an event loop."""
    catalogue = opened.world.catalogue
    titles = TitleFinder(catalogue, opened.world.logs.popularity).find(text)
    found = mentions(text, catalogue.genres, {place: str(number) for number, place in enumerate(titles.places)})
    reading = _Reading(catalogue)
    # A text that lists things without end is read up to a bound, as the state has one.
    for one in found[-MOST_MENTIONS:]:
        reading.add(one, titles)
    least, most = distances(text)
    told = {*reading.told, *titles.places}
    return reading.understood(least, most, unknown=titles.unknown, rest=_rest(text, told))


class _Reading:
    """Reading of the mentions of a text, in their order."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._wanted: dict[tuple[tuple[str, ...], ...], int] = {}
        self._avoided: dict[tuple[tuple[str, ...], ...], int] = {}
        self._titles: dict[tuple[Item, ...], tuple[str, int]] = {}
        self._eras: list[tuple[Era, bool, int]] = []
        self._unjudged: dict[str, bool] = {}
        self._missing: dict[str, bool] = {}
        self._lines: set[int] = set()
        self.told: list[tuple[int, int]] = []

    def add(self, one: Mention, titles: NamedTitles) -> None:
        """Add a mention; it replaces what contradicts it."""
        self.told.append((one.start, one.end))
        if one.kind == "categories":
            self._add_categories(one)
        elif one.kind == "title":
            number = int(one.name)
            items = tuple(self._catalogue[position] for position in titles.items[number])
            kept = "avoid" if not one.wanted or titles.disliked[number] else "like"
            if kept == "like" and titles.itself[number]:
                kept = "itself"
            self._titles.pop(items, None)
            self._titles[items] = (kept, one.line)
        elif one.kind == "years":
            self._add_years(one)
        elif one.kind == "quality":
            self._unjudged.pop(one.name, None)
            self._unjudged[one.name] = one.wanted
        else:
            self._missing.pop(one.name, None)
            self._missing[one.name] = one.wanted

    def _add_categories(self, one: Mention) -> None:
        into, other = (self._wanted, self._avoided) if one.wanted else (self._avoided, self._wanted)
        names = {name for group in one.categories for name in group}
        into.pop(one.categories, None)
        if len(one.categories) == 1 or one.wanted:
            # The other side keeps what this mention does not contradict.
            for groups in list(other):
                if one.wanted and len(groups) > 1:
                    continue
                left = tuple(group for group in groups if not {*group} & names)
                if left != groups:
                    line = other.pop(groups)
                    if left:
                        other[left] = line
        into[one.categories] = one.line

    def _add_years(self, one: Mention) -> None:
        years = _known_years(one.years, self._catalogue)
        if years is None:
            self._unjudged["years"] = True
            return
        if one.wanted:
            self._eras = [kept for kept in self._eras if kept[2] == one.line or not kept[1]]
        self._eras.append((years, one.wanted, one.line))

    def understood(
        self, least: float | None, most: float | None, *, unknown: Sequence[str], rest: Sequence[str]
    ) -> Understood:
        """Return the reading as a whole."""
        wanted_names = {name for groups in self._wanted for group in groups for name in group}
        violent = [
            name
            for quality, wanted in self._unjudged.items()
            if not wanted and quality != "years"
            for name in likely_categories(quality, self._catalogue.genres)
            if name not in wanted_names
        ]
        avoid = [[list(group) for group in groups] for groups in self._avoided]
        avoid += [[[name]] for name in dict.fromkeys(violent) if [[name]] not in avoid]
        latest = max(self._wanted.values(), default=0)
        spans, bounds = _joined_eras([era for era, wanted, _ in self._eras if wanted])
        return Understood(
            want=[[list(group) for group in groups] for groups, line in self._wanted.items() if line == latest],
            before=[[list(group) for group in groups] for groups, line in self._wanted.items() if line < latest],
            avoid=avoid,
            titles=self._of("itself"),
            like=self._of("like"),
            unlike=self._of("avoid"),
            eras=spans,
            bounds=bounds,
            not_eras=[era for era, wanted, _ in self._eras if not wanted],
            least=least,
            most=most,
            words=list(rest),
            unjudged=list(self._unjudged),
            missing=[name for name, wanted in self._missing.items() if wanted],
            unknown=list(dict.fromkeys(one[:LONGEST_WORD] for one in unknown))[:MOST_WORDS],
        )

    def _of(self, kind: str) -> list[str]:
        found = [(items, line) for items, (kept, line) in self._titles.items() if kept == kind]
        # Titles named in a later line, such as a comment, take the place of those before.
        latest = max((line for _, line in found), default=0)
        return [item.id for items, line in found if line == latest or kind == "avoid" for item in items]


def _known_years(years: Years, catalogue: Catalogue) -> Era | None:
    """Return years as bounds; None if the catalogue knows the years of too few items."""
    known = catalogue.years[~np.isnan(catalogue.years)]
    if len(known) < len(catalogue) / 2:
        return None
    if years.age == "old":
        return Era(until=int(np.quantile(known, OLD_SHARE)))
    if years.age == "recent":
        return Era(since=int(np.quantile(known, RECENT_SHARE)))
    return Era(since=years.low, until=years.high)


def _joined_eras(eras: Sequence[Era]) -> tuple[list[Era], Era]:
    """Return the spans of which any one will do, and the bounds that all items have to keep."""
    spans = [one for one in eras if one.since is not None and one.until is not None]
    since = max((one.since for one in eras if one.until is None and one.since is not None), default=None)
    until = min((one.until for one in eras if one.since is None and one.until is not None), default=None)
    return spans, Era(since=since, until=until)


def _rest(text: str, told: set[tuple[int, int]]) -> list[str]:
    """Return the words to search by: wanted, not understood otherwise, and of some meaning."""
    blanked = "".join(
        " " if sign != "\n" and any(start <= place < end for start, end in told) else sign
        for place, sign in enumerate(text)
    )
    wanted = asked_for(blanked)
    # A sentence of commands is searched by no more than its first words.
    found = [
        one
        for one in NAME_WORD.findall(wanted)
        if one.casefold() not in PLAIN_WORDS and len(one) > 2 and not one.isdigit()
    ]
    return list(dict.fromkeys(one[:LONGEST_WORD] for one in found))[:MOST_WORDS]
