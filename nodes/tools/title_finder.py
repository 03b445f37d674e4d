"""Titles of the catalogue in a sentence: after words such as "like", in quotation marks, or misspelt."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import OSA

from nodes.llm.text.wish_words import PLAIN_WORDS, category_words, quality_words
from nodes.tools.titles import WORD_PATTERN, Titles, normalize, titles_of
from sim.arrays import Positions
from sim.catalogue import Catalogue

# Items of one name, such as "Star Wars", that it stands for at most.
NAMED = 3
# A series counts if it has more ratings than the item that has its very name, by this factor.
SERIES = 3
# Most words of a title, most characters of a name to compare for typing errors, and its least length.
_TITLE_WORDS, _SHORTEST_TYPO = 10, 5
# Titles that are everyday words are names only after such words or in quotation marks.
_LIKE = re.compile(
    r"(?<!\w)(?:(?P<not_like>unlike)|(?:something |anything |films |movies )?"
    r"(?:like|similar to|such as|along the lines of|in the (?:style|vein|spirit) of|remind(?:s)? me of|as good as|"
    r"(?:lov|lik|enjoy|ador|hat|dislik)ed|fans? of|than)|"
    r"(?P<itself>watch|see|seen|play|read|recommend|want|show(?: me)?))\s+",
    re.IGNORECASE,
)
_JOINED = re.compile(r"\s*(?:,\s*(?:and|or)\s|,|and|or|&)\s*", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“«„]([^\"“”»\n]{1,120})[\"”»“]|(?<!\w)['‘]([^'’\n]{2,120})['’](?!\w)")
_NAMES = re.compile(
    r"(?<![\w.])[A-Z0-9][\w'’:&.-]*(?:[ ,]+(?:(?:of|the|and|a|in|to|&|for|on|from)\s+)*[A-Z0-9][\w'’:&.-]*)+"
)
NAME_WORD = re.compile(rf"{WORD_PATTERN}(?:['’]{WORD_PATTERN})?")
_STOP = re.compile(r"[;!?\n]|\.(?=\s|$)")
_PART = re.compile(r"[.;!?\n,]")


@dataclass
class NamedTitles:
    """Titles that stand in a text: their places, with the items and whether the item itself is meant."""

    places: list[tuple[int, int]] = field(default_factory=list)
    items: list[tuple[int, ...]] = field(default_factory=list)
    itself: list[bool] = field(default_factory=list)
    disliked: list[bool] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Names that the catalogue lacks."""


class TitleFinder:
    """Finder of the titles in a sentence."""

    def __init__(self, catalogue: Catalogue, popularity: Positions) -> None:
        self._catalogue = catalogue
        self._popularity = popularity
        self._titles: Titles = titles_of(catalogue)
        self._vocabulary = category_words(catalogue.genres)

    def find(self, text: str) -> NamedTitles:
        """Return the titles in a text: those after words such as "like", in quotation marks, and names of two words."""
        found = NamedTitles()
        for quoted in _QUOTED.finditer(text):
            place = quoted.span(1) if quoted[1] is not None else quoted.span(2)
            named = self._whole(text[slice(*place)], certain=True)
            if named:
                self._keep(found, text, place, named)
            elif place[1] - place[0] > 2:
                found.unknown.append(text[slice(*place)].strip())
        for marker in _LIKE.finditer(text):
            self._after(found, text, marker)
        for one in _NAMES.finditer(text):
            if not self._is_taken(found, one.span()):
                named_at = self._longest(text, one.start(), one.end(), least=2)
                if named_at:
                    self._keep(found, text, *named_at)
        if not found.places and (named := self._whole(text, certain=False)):
            start = len(text) - len(text.lstrip())
            self._keep(found, text, (start, len(text.rstrip())), named)
        return found

    def _after(self, found: NamedTitles, text: str, marker: re.Match[str]) -> None:
        """Find the titles of a list such as "like Heat, Alien and The Matrix"."""
        start = marker.end()
        while start < len(text):
            if text[start] in "\"“«„'‘":
                return
            end = self._end(text, start)
            if self._is_taken(found, (start, min(end, start + 1))):
                return
            # "Like Alien" names a film, "like aliens" a subject.
            capital = not marker["itself"] and text[start].isupper()
            named_at = self._longest(text, start, end, least=1, capital=capital)
            if named_at is None:
                self._note_unknown(found, text[start:end], bool(marker["itself"]))
                return
            self._keep(found, text, *named_at)
            joined = _JOINED.match(text, named_at[0][1])
            if not joined:
                return
            start = joined.end()

    def _note_unknown(self, found: NamedTitles, words: str, itself: bool) -> None:
        names = NAME_WORD.findall(words)
        # Without a title of it, "like Hitchcock" is worth saying; "like comedies" and "I like it" are no names.
        if names and not itself and names[0][0].isupper() and len(names[0]) > 2:
            name = [one for one in names[:4] if one[0].isupper() or one[0].isdigit()]
            if not {one.casefold() for one in name} & {*self._vocabulary, *quality_words(), *PLAIN_WORDS}:
                found.unknown.append(" ".join(name))

    def _end(self, text: str, start: int) -> int:
        """Return the place up to which a title that starts at `start` may reach."""
        stop = _STOP.search(text, start)
        return stop.start() if stop else len(text)

    def _longest(
        self, text: str, start: int, end: int, least: int, *, capital: bool = False
    ) -> tuple[tuple[int, int], tuple[int, ...]] | None:
        """Return the longest run of words from `start` that is a title, else one that misspells a title.

        Args:
            text: The text.
            start: Place of the first word.
            end: Place up to which a title may reach.
            least: Least number of words.
            capital: Whether everyday words for categories may be a title here, though no names of categories.
        """
        words = list(NAME_WORD.finditer(text, start, end))[:_TITLE_WORDS]
        if not words or text[start : words[0].start()].strip():
            return None
        runs = [(start, one.end()) for one in words][least - 1 :]
        for exact in (True, False):
            for run in reversed(runs):
                certain = capital and exact and self._is_subject(normalize(text[slice(*run)]))
                if named := self._whole(text[slice(*run)], certain=certain, exact=exact):
                    return run, named
        return None

    def _whole(self, text: str, *, certain: bool, exact: bool = False) -> tuple[int, ...]:
        """Return the items that a text names as a whole; () if it names none."""
        name = text.strip(" \t\n'\"’‘,.")
        key = normalize(name)
        if not key or (not certain and (self._is_plain(key))):
            return ()
        known = self._titles.whole(name)
        positions = known.positions if known else ()
        series = self._titles.beginning(key, self._catalogue)
        # "Lord of the Rings" is a film of its own, and far better known as a series.
        if series and self._fame(series) > SERIES * self._fame(positions):
            positions = (*positions, *series)
        if not positions and not exact:
            fuzzy = self._titles.similar(name)
            positions = fuzzy.positions if fuzzy else self._swapped(key)
        return tuple(sorted(positions, key=lambda one: (-self._popularity[one], one))[:NAMED])

    def _fame(self, positions: Sequence[int]) -> int:
        return max((int(self._popularity[one]) for one in positions), default=0)

    def _is_plain(self, key: str) -> bool:
        """Return whether a key holds nothing but everyday words and categories."""
        words = key.split()
        return key in self._vocabulary or all(one in PLAIN_WORDS or one in self._vocabulary for one in words)

    def _is_subject(self, key: str) -> bool:
        """Return whether a key is an everyday word for categories, and no name of one."""
        return key in self._vocabulary and key not in map(normalize, self._catalogue.genres)

    def _swapped(self, key: str) -> tuple[int, ...]:
        """Return the title that differs from a name of one word by two letters in the wrong order, or by one letter."""
        if len(key) < _SHORTEST_TYPO or " " in key or key in quality_words():
            return ()
        close = [one for one in self._titles.short_names if OSA.distance(one, key, score_cutoff=1) == 1]
        return self._titles.named(close[0]) if len(close) == 1 and close[0][0] == key[0] else ()

    def _keep(self, found: NamedTitles, text: str, place: tuple[int, int], positions: tuple[int, ...]) -> None:
        if self._is_taken(found, place):
            return
        before = [one for one in _LIKE.finditer(text, 0, place[0]) if not _PART.search(text, one.end(), place[0])]
        marker = before[-1] if before else None
        word = marker[0].strip().casefold() if marker else ""
        found.places.append(place)
        found.items.append(positions)
        found.itself.append(bool(marker and marker["itself"]))
        found.disliked.append(word in ("hated", "disliked", "unlike"))

    def _is_taken(self, found: NamedTitles, place: tuple[int, int]) -> bool:
        return any(start < place[1] and place[0] < end for start, end in found.places)
