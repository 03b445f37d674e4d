"""Wishes in a person's words, read with the catalogue: categories, titles, years, and what nothing here can judge."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nodes.llm.text.understood import Era, Understood
from nodes.llm.text.wish_grammar import Mention, Years, distances, mentions
from nodes.llm.text.wish_words import STOP_WORDS, likely_categories
from nodes.tools.descriptions import worded
from nodes.tools.open_world import OpenWorld
from nodes.tools.title_finder import NAME_WORD, NamedTitles, TitleFinder
from nodes.tools.wish_text import own_words, pointed
from sim.catalogue import Catalogue, Item

# Most mentions of a text that are read, the latest ones; each may name three items.
MOST_MENTIONS = 30
# Most words to search by, most words of one kind that are named, and most characters of one.
MOST_WORDS, MOST_NAMED, LONGEST_WORD = 12, 24, 80
# Shares of the oldest and the newest items that count as old or recent.
OLD_SHARE, RECENT_SHARE = 0.2, 0.8


async def understand(opened: OpenWorld, text: str) -> Understood:
    """Return what a person's words mean in a catalogue; a later line counts more than an earlier one."""
    readings = opened.kept(Understood)
    text = own_words(pointed(text))
    found: Understood | None = readings.get(text)
    if found is None:
        # In a thread: a long text is compared with many titles.
        found = readings[text] = await asyncio.to_thread(read_with_catalogue, text, opened)
    return found


def read_with_catalogue(text: str, opened: OpenWorld) -> Understood:
    """Return what a text means in a catalogue, outside an event loop."""
    catalogue = opened.world.catalogue
    titles = TitleFinder(catalogue, opened.world.logs.popularity).find(text)
    places = {place: str(number) for number, place in enumerate(titles.places)}
    found = mentions(text, catalogue.genres, places, NAME_WORD.pattern)
    meant = [one for one in found if one.kind != "words"]
    reading = _Reading(catalogue)
    # A text that lists things without end is read up to a bound, as the state has one.
    for one in meant[-MOST_MENTIONS:]:
        reading.add(one, titles)
    least, most = distances(text)
    words = _words([one for one in found if one.kind == "words"], titles.unknown, opened)
    words.unjudged += [text[one.start : one.end] for one in meant[:-MOST_MENTIONS]]
    return reading.understood(least, most, unknown=titles.unknown, words=words)


@dataclass
class _Words:
    """Words of a text that are no category, title, year or known quality."""

    searched: list[str] = field(default_factory=list)
    avoided: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    """Words, wanted or not, that stand in no text of an item."""


def _words(found: Sequence[Mention], unknown: Sequence[str], opened: OpenWorld) -> _Words:
    words = _Words()
    named = {word.casefold() for one in unknown for word in NAME_WORD.findall(one)}
    for one in found:
        parts = NAME_WORD.findall(one.name)
        if one.wanted:
            words.searched += [part for part in parts if len(part) > 2 and part.casefold() not in STOP_WORDS]
        known = worded(opened, one.name).any()
        if known and not one.wanted:
            words.avoided.append(one.name)
        elif not known and not named.issuperset(map(str.casefold, parts)):
            words.unjudged.append(one.name)
    return words


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

    def add(self, one: Mention, titles: NamedTitles) -> None:
        """Add a mention; it replaces what contradicts it."""
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
        self, least: float | None, most: float | None, *, unknown: Sequence[str], words: _Words
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
        # A subject without a category cannot be left out either.
        unwanted = [name for name, wanted in self._missing.items() if not wanted]
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
            words=_distinct(words.searched)[:MOST_WORDS],
            not_words=_distinct(words.avoided)[:MOST_NAMED],
            unjudged=[*self._unjudged, *unwanted, *_named(words.unjudged)],
            missing=[name for name, wanted in self._missing.items() if wanted],
            unknown=_named(unknown),
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


def _distinct(words: Sequence[str]) -> list[str]:
    return list({one.casefold(): one for one in reversed([word[:LONGEST_WORD] for word in words])}.values())[::-1]


def _named(words: Sequence[str]) -> list[str]:
    """Return the first words, and how many more there are."""
    found = _distinct(words)
    more = len(found) - MOST_NAMED
    return [*found[:MOST_NAMED], f"{more} more"] if more > 0 else found
