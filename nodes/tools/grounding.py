"""Grounding: from whatever a model wrote to one item of the catalogue.

Three quarters of the titles that GPT-3.5 generated freely were not in the catalogue, and four visits in ten ended
because two different titles fell on the same item. So the words of a text are matched first, an embedding decides
only when they name nothing, and what the visit has already had is passed over.
"""

import html
import re
import threading
import unicodedata
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from sim.catalogue import Catalogue, Item
from sim.errors import BadInputError

Kind = Literal["exact", "normalized", "contained", "fuzzy", "semantic"]
Mode = Literal["fresh", "nearest"]

# Longer replies are rambling; what matters stands at their start, and every step below stays linear in this.
_LONGEST_TEXT = 8_000
_LONGEST_EMBEDDED = 512
_LONGEST_FUZZY = 120
# 88 lets one wrong letter in nine pass. Over 3,600 other real titles, all that a lower bar added was wrong: at 85
# "POSTAL 2" met "Portal 2", at 82 "Portal" met "POSTAL".
_FUZZY_CUTOFF = 88.0
_SHORTEST_FUZZY = 5

_SIGNS = str.maketrans(
    # Letters that NFKD does not take apart, and signs that say nothing.
    {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | dict.fromkeys("™®©℠\u200b\u200c\u200d\ufeff", "")
)
_SIGN_WORDS = re.compile(r"\((?:tm|r|c)\)", re.IGNORECASE)
_APOSTROPHE = re.compile(r"(?<=\w)['’‘ʼ`´](?=\w)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ACRONYM = re.compile(r"\b(?:[^\W\d_]\.){2,}(?:[^\W\d_](?!\w))?")
_WORD = re.compile(r"[^\W_]+")
_YEAR = re.compile(r"[(\[]\s*(?:1[89]|20)\d\d\s*[)\]]\s*$")
_BRACKET_AT_END = re.compile(r"[(\[][^()\[\]]*[)\]]\s*$")
_AKA = re.compile(r"^a\.?k\.?a\.?\s+", re.IGNORECASE)
_ARTICLE_BEHIND = re.compile(r"^(.+), (the|an|a|les|le|la|los|las|el|il|lo|die|der|das)$", re.IGNORECASE)
_LIST_MARK = re.compile(r"^\s*(?:[-*•]+\s+|\d{1,3}[.)]\s+)")
_PREFIX = re.compile(
    r"^\W*(?:next |final |my )?(?:item|title|recommendation|recommend|answer|action)(?: \d+)?\s*[:=\[]", re.I
)
_SENTENCE_START = re.compile(r"^i (?:would |will |can )?(?:recommend|suggest|propose|choose|pick)\s+", re.I)
_LIST_LINE = re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]*\S", re.MULTILINE)
_QUOTES_AND_SPACE = re.compile(r"[\s\"“”'‘’`«»*]+")

_ARTICLES = frozenset({"the", "a", "an"})
_NUMBERS = {
    name: str(number)
    for names in (
        "i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi",
        "one two three four five six seven eight nine ten eleven twelve",
        "first second third fourth fifth",
    )
    for number, name in enumerate(names.split(), start=1)
}
# Nouns for what a catalogue holds: they never make a text a title by themselves.
_NOUNS = frozenset(
    f"{noun}{ending}"
    for noun in "item game movie film book title product show album song series genre category".split()
    for ending in ("", "s")
) | {"categories", "movies"}
_LINKS = frozenset("and or then also plus nor & to with for of in on by from at".split())
_CUES = frozenset(
    "recommend recommending suggest suggesting try choose pick propose play watch read item title answer".split()
)
# Right after one of these even a short or common word with a capital is a title: "I recommend Heat".
_VERBS = frozenset("recommend recommending suggest suggesting choose pick propose".split())
# Words that a sentence has and a list of titles does not.
_PROSE = frozenset(
    "i you we they he she it is are was were be would should could will can because since as so this that these those "
    "user users likes liked enjoyed enjoy enjoys next my your their his her let lets recommend recommending "
    "recommended suggest suggesting try has have had great good based what which who if but not".split()
)
# Words that are titles too, but far more often just words, with a capital or without.
_COMMON = frozenset(
    "home time life world love night day dark light fire water storm dream dreams war wars peace heart mind link space "
    "earth city town park road river house home island forest heat speed power force energy hope fear fate luck gold "
    "king queen hero heroes legend story stories journey escape adventure mystery murder horror comedy drama fantasy "
    "romance music sound silence black white blue green good great best fun free online play player players challenge "
    "hello thanks sure okay here there note reason thought plan step answer because however first next last "
    "monday tuesday wednesday thursday friday saturday sunday english steam netflix amazon".split()
)
_FILLERS = frozenset(
    "some any more another other new few many all various different similar please i would recommend".split()
)
_STOP_TEXTS = frozenset(
    "stop none finish finished end done quit exit nothing null nil na n/a nan undefined unknown skip pass "
    "no_item no_items no_recommendation no_more_items no_more_recommendations stop_recommending end_of_visit "
    "no_title no_suggestion not_applicable finish_recommendation the_end".replace("/", "_").split()
)


@dataclass(frozen=True)
class Match:
    """Say which item a text was grounded to, and how.

    Attributes:
        item: The item to recommend.
        kind: What decided: the words of the text (all but "semantic") or its embedding.
        score: 1 for the title itself; for "fuzzy" the share of equal letters, for "contained" how sure it is that
            the title was meant, for "semantic" the cosine (0 for a text without any sign).
        named: The item whose title the text names, also when it was passed over since the visit has had it; None
            where the words name nothing.
    """

    item: Item
    kind: Kind
    score: float
    named: Item | None = None


class _Found(NamedTuple):
    """A title that the words of a text name; several positions where items share it."""

    kind: Kind
    score: float
    positions: tuple[int, ...]


class _Word(NamedTuple):
    key: str
    capital: bool
    gap: str  # what stands between the word before and this one


class _Span(NamedTuple):
    start: int
    end: int
    key: str


def _clean(text: str) -> str:
    """Remove what never tells two titles apart, but keep case and punctuation."""
    text = _SIGN_WORDS.sub("", html.unescape(text[:_LONGEST_TEXT]).translate(_SIGNS))
    text = _APOSTROPHE.sub("", text)
    decomposed = unicodedata.normalize("NFKD", text)
    text = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    text = _THOUSANDS.sub("", text.replace("&", " and "))
    return _ACRONYM.sub(lambda letters: letters.group().replace(".", ""), text)


def _fold(word: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(sign))


def normalize(text: str) -> str:
    """Return a text as its folded words: without case, accents, punctuation, ™ signs and HTML entities."""
    return " ".join(_fold(word) for word in _WORD.findall(_clean(text)))


def _loosen(key: str) -> str:
    """Drop a leading article and write Roman and spelt numbers as digits ("star ruler ii" → "star ruler 2")."""
    words = key.split()
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    # A first word keeps its letters: "I Am Alive" and "One Finger" begin with words, not with numbers.
    return " ".join([*words[:1], *(_NUMBERS.get(word, word) for word in words[1:])])


def _numbers(key: str) -> tuple[int, ...]:
    """Return the numbers of a loosened key; two titles that differ in them are two items, however alike."""
    # 18 digits are more than any title counts to, and int() refuses thousands of them.
    return tuple(sorted(int(run[:18]) for run in re.findall(r"\d+", key)))


def _plain_keys(title: str) -> list[str]:
    """Return the keys of a title as it is written and with its article moved to the front ("Matrix, The")."""
    moved = _ARTICLE_BEHIND.sub(r"\2 \1", title.strip(" \t\n\"'.,;"))
    keys = [normalize(title), normalize(moved)]
    return [key for key in dict.fromkeys(keys) if key]


def _without_year(title: str) -> str | None:
    bare, count = _YEAR.subn("", title.strip())
    return bare.strip() or None if count else None


def _without_brackets(title: str) -> tuple[str, list[str]]:
    """Split a title into what stands before the brackets at its end, and what each of them holds."""
    head, held = title.strip(), []
    while (bracket := _BRACKET_AT_END.search(head)) and head[: bracket.start()].strip():
        held.append(bracket.group().strip()[1:-1].strip())
        head = head[: bracket.start()].strip()
    return head, held


def _full_keys(text: str) -> list[str]:
    """Return the keys of a whole text, wherever its article stands ("Matrix, The (1999)")."""
    keys = _plain_keys(text)
    head, held = _without_brackets(text)
    if held:
        behind = normalize(text.strip()[len(head) :])
        keys += [f"{key} {behind}" for key in _plain_keys(head)]
    return list(dict.fromkeys(keys))


def _short_keys(title: str) -> list[str]:
    """Return the keys of a title without its year, and without any bracket."""
    bare = _without_year(title)
    keys = _plain_keys(bare) if bare else []
    head, held = _without_brackets(title)
    return list(dict.fromkeys([*keys, *(_plain_keys(head) if held else [])]))


def _second_keys(title: str) -> list[str]:
    """Return the keys of the titles that MovieLens puts in brackets: "Seven (a.k.a. Se7en)", "Hate (Haine, La)"."""
    held = [entry for entry in _without_brackets(title)[1] if not entry.isdecimal()]
    return [key for entry in held for key in _plain_keys(_AKA.sub("", entry)) if len(key) > 3]


def _symbols(text: str) -> str:
    """Return the key of a title without any letter or digit ("...", "!!!"), which quotes may surround."""
    return _QUOTES_AND_SPACE.sub("", html.unescape(text[:_LONGEST_TEXT])).rstrip(",;")


def _words(line: str) -> tuple[list[_Word], str]:
    """Split a cleaned line into words, each with the gap before it, and the gap behind the last."""
    words: list[_Word] = []
    end = 0
    for found in _WORD.finditer(line):
        word = found.group()
        capital = word[0].isupper() or word[0].isdigit()
        words.append(_Word(_fold(word), capital, line[end : found.start()]))
        end = found.end()
    return words, line[end:]


class _Titles:
    """Index the titles of a catalogue; holds positions only, so that it never keeps a catalogue alive."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.exact: dict[str, tuple[int, ...]] = {}
        self.full: dict[str, tuple[int, ...]] = {}
        # Shorter forms, apart by whether the title has a year, which a text with another year must not meet.
        self.short: dict[str, tuple[int, ...]] = {}
        self.bare: dict[str, tuple[int, ...]] = {}
        self.loose_full: dict[str, tuple[int, ...]] = {}
        self.loose_short: dict[str, tuple[int, ...]] = {}
        self.loose_bare: dict[str, tuple[int, ...]] = {}
        self.symbols: dict[str, tuple[int, ...]] = {}
        for position, item in enumerate(catalogue):
            full, short = _full_keys(item.title), _short_keys(item.title)
            dated = _without_year(item.title) is not None
            _add(self.exact, [item.title], position)
            _add(self.full, full, position)
            _add(self.bare if dated else self.short, short, position)
            _add(self.loose_full, map(_loosen, full), position)
            loose = map(_loosen, [*short, *_second_keys(item.title)])
            _add(self.loose_bare if dated else self.loose_short, loose, position)
            if not full:
                _add(self.symbols, [_symbols(item.title)], position)
        self.genres = frozenset(key for genre in catalogue.genres for key in _genre_keys(genre))
        self.fuzzy = tuple(dict.fromkeys([*self.loose_full, *self.loose_short, *self.loose_bare]))
        self.longest = max((len(key.split()) for key in (*self.full, *self.short, *self.bare)), default=0)

    def whole(self, text: str) -> _Found | None:
        """Return the title that a text is, as written or normalised."""
        for written in (text, text.strip()):
            if written in self.exact:
                return _Found("exact", 1.0, self.exact[written])
        if not _WORD.search(text):
            sign = _symbols(text)
            return _Found("normalized", 0.99, self.symbols[sign]) if sign and sign in self.symbols else None
        for variant in _variants(text):
            found = self._normalized(variant)
            if found:
                return found
        return None

    def _normalized(self, text: str) -> _Found | None:
        full = _full_keys(text)
        bare_text = _without_year(text)
        bare = _plain_keys(bare_text) if bare_text else []
        # A text that gives a year never meets a title with another one: those are two films.
        loose_full, loose_bare = list(map(_loosen, full)), list(map(_loosen, bare))
        for keys, index, score in (
            (full, self.full, 0.99),
            (full, self.short, 0.98),
            (full, self.bare, 0.98),
            (bare, self.full, 0.98),
            (bare, self.short, 0.98),
            (loose_full, self.loose_full, 0.95),
            (loose_full, self.loose_short, 0.95),
            (loose_full, self.loose_bare, 0.95),
            (loose_bare, self.loose_full, 0.95),
            (loose_bare, self.loose_short, 0.95),
        ):
            for key in keys:
                if key in index:
                    return _Found("normalized", score, index[key])
        return None

    def contained(self, text: str) -> list[_Found]:
        """Return the titles that stand in a longer text: those a recommending word introduces, then by place."""
        found: list[tuple[bool, _Found]] = []
        for line in _clean(text).splitlines():
            words, tail = _words(line)
            gaps = [*(word.gap for word in words), tail]
            spans = self.spans(words, gaps)
            prose = _is_prose(words, spans)
            for span in spans:
                share = len(span.key) / max(1, len(" ".join(word.key for word in words)))
                score = 0.9 if prose else min(0.9, share)
                cued = any(word.key in _CUES for word in words[max(0, span.start - 4) : span.start])
                found.append((not cued, _Found("contained", score, self.titled(span.key))))
        return [entry for _, entry in sorted(found, key=lambda entry: entry[0])]

    def titled(self, key: str) -> tuple[int, ...]:
        """Return the positions of the items with this key, as they are or without brackets; () if there is none."""
        return self.full.get(key) or self.short.get(key) or self.bare.get(key, ())

    def spans(self, words: list[_Word], gaps: list[str]) -> list[_Span]:
        """Return the titles in a line that do not overlap, longer ones first chosen, in the order of the line."""
        spans = []
        for start in range(len(words)):
            key = ""
            for end in range(start + 1, min(len(words), start + self.longest) + 1):
                key = f"{key} {words[end - 1].key}" if key else words[end - 1].key
                if self.titled(key) and self._is_named(words, gaps, _Span(start, end, key)):
                    spans.append(_Span(start, end, key))
        taken = [False] * len(words)
        chosen = []
        for span in sorted(spans, key=lambda span: (-len(span.key), span.start)):
            if not any(taken[span.start : span.end]):
                taken[span.start : span.end] = [True] * (span.end - span.start)
                chosen.append(span)
        return sorted(chosen)

    def _is_named(self, words: list[_Word], gaps: list[str], span: _Span) -> bool:
        """Tell whether words that spell a title were meant as one; "I love home cooking" names no game "Home"."""
        left, right = gaps[span.start], gaps[span.end]
        if re.search(r"[\"“«*\[`]\s*$", left) and re.match(r"\s*[.,!?]?[\"”»*\]`]", right):
            return True
        follower = words[span.end].key if span.end < len(words) else ""
        if not right.strip() and (follower.isdigit() or _is_numeral(follower)):
            return False  # "Crusader Kings III" is not "Crusader Kings"
        if _YEAR.match(right.strip() + follower + ")") and not (span.key in self.full or span.key in self.short):
            return False  # another year than that of the title: another film
        inside = words[span.start : span.end]
        leader = words[span.start - 1] if span.start and not left.strip() else None
        if leader and leader.capital and inside[0].capital and leader.key not in _PROSE | _CUES | _ARTICLES | _LINKS:
            return False  # "Defense Grid 2" is not "Grid 2"
        content = [word for word in inside if word.key not in _ARTICLES | _LINKS | _PROSE | _NOUNS | self.genres]
        introduced = leader is not None and leader.key in _VERBS
        if introduced and len(inside) > 2 and inside[0].capital and inside[-1].capital:
            return True  # "I recommend To Have and Have Not": all of its words are small
        if not content or len(span.key) < (2 if introduced else 4) or span.key in self.genres:
            return False
        capital = content[0].capital and inside[-1].capital
        if self.fills_segment(words, gaps, span):
            return (capital and span.key not in _COMMON) or len(content) > 1
        if len(inside) - (inside[0].key in _ARTICLES) == 1:
            # One word is a name only between words that are none; a sentence may begin with any word in capitals.
            goes_on = span.end < len(words) and not right.strip() and words[span.end].capital
            alone = leader is not None and not content[0].key.isdigit() and not goes_on
            sure = content[0].key not in _COMMON or introduced
            return capital and alone and sure and _is_prose(words, [span])
        return capital or (len(content) > 1 and len(span.key) >= 8)

    def fills_segment(self, words: list[_Word], gaps: list[str], span: _Span) -> bool:
        """Tell whether a span is one whole entry of a list, as "Braid" in "Portal 2, Braid and Fez"."""
        edge = re.compile(r"[,;|/•\n:)]")
        behind = words[span.end].key in ("and", "or") if span.end < len(words) else True
        before = words[span.start - 1].key in ("and", "or") if span.start else True
        numbered = span.start == 1 and words[0].key.isdigit()
        opens = before or numbered or bool(edge.search(gaps[span.start]))
        return opens and (behind or bool(edge.search(gaps[span.end])))

    def similar(self, text: str) -> _Found | None:
        """Return the title that a text misspells; never one with other numbers, which is a sequel."""
        queries: list[tuple[str, bool]] = []
        for variant in _variants(text):
            bare = _without_year(variant)
            queries += [(key, True) for key in _full_keys(variant)]
            queries += [(key, False) for key in (_plain_keys(bare) if bare else [])]
        best: tuple[float, str] | None = None
        for key, with_year in dict.fromkeys(queries):
            query = _loosen(key)
            if not _SHORTEST_FUZZY <= len(query) <= _LONGEST_FUZZY:
                continue
            close = process.extract(
                query, self.fuzzy, scorer=fuzz.ratio, processor=None, limit=8, score_cutoff=_FUZZY_CUTOFF
            )
            for choice, score, _ in close:
                fits = with_year or choice in self.loose_full or choice in self.loose_short
                if fits and _numbers(choice) == _numbers(query) and _is_typo(query, choice):
                    if best is None or score > best[0]:
                        best = (score, choice)
        if best is None:
            return None
        score, key = best
        positions = self.loose_full.get(key) or self.loose_short.get(key) or self.loose_bare[key]
        return _Found("fuzzy", score / 100, positions)


def _add(index: dict[str, tuple[int, ...]], keys: Iterable[str], position: int) -> None:
    for key in keys:
        positions = index.get(key, ())
        if position not in positions[-1:]:
            index[key] = (*positions, position)


def _genre_keys(genre: str) -> set[str]:
    key = normalize(genre)
    parts = {normalize(part) for part in re.split(r"[/|,]", genre)}
    return {spelt for spelt in (key, f"{key}s", *parts) if len(spelt) > 1}


def _is_prose(words: list[_Word], spans: list[_Span]) -> bool:
    """Tell a sentence around titles from a longer title, whose small words have capitals ("What Her Dog Knew")."""
    inside = {place for span in spans for place in range(span.start, span.end)}
    return any(
        word.key in _PROSE and (not word.capital or word.key == "i" or place == 0)
        for place, word in enumerate(words)
        if place not in inside
    )


def _is_numeral(word: str) -> bool:
    return len(word) > 1 and word in _NUMBERS and set(word) <= set("ivx") or word in ("v", "x")


def _is_typo(text: str, title: str) -> bool:
    """Tell a slip from another word: word by word, each must be close to its partner."""
    ours, theirs = text.split(), title.split()
    if len(ours) != len(theirs):
        return fuzz.ratio(text.replace(" ", ""), title.replace(" ", "")) >= 94
    if len(ours) == 1 and (text.startswith(title) or title.startswith(text)):
        return False  # "Killer" is not "Killers"
    return all(
        a == b or (fuzz.ratio(a, b) >= 70 and len(a) > 2 and len(b) > 2) for a, b in zip(ours, theirs, strict=True)
    )


def _variants(text: str) -> list[str]:
    """Return a text as written, then without what models put around a title: list mark, "Item:", genres behind."""
    stripped = _LIST_MARK.sub("", text[:_LONGEST_TEXT]).strip()
    stripped = _SENTENCE_START.sub("", _PREFIX.sub("", stripped).strip(" \t\r\n]*"))
    variants = [text[:_LONGEST_TEXT].strip(), stripped]
    unlabelled = _BRACKET_AT_END.sub("", stripped).strip()
    if unlabelled and not _YEAR.search(stripped):
        variants.append(unlabelled)
    return list(dict.fromkeys(variants))


_titles_lock = threading.Lock()
_titles_of_catalogue: dict[int, _Titles] = {}


def _titles(catalogue: Catalogue) -> _Titles:
    """Return the index of a catalogue, built once while the catalogue lives.

    Kept by identity, since hashing a catalogue reads all of its items.
    """
    key = id(catalogue)
    with _titles_lock:
        titles = _titles_of_catalogue.get(key)
        if titles is None:
            titles = _titles_of_catalogue[key] = _Titles(catalogue)
            weakref.finalize(catalogue, _titles_of_catalogue.pop, key, None)
        return titles


class Grounder:
    """Map any text to one item of a catalogue.

    Exact title, normalised title, a title inside prose, a misspelt title, then the nearest embedding. The same text
    and the same `avoid` always give the same item. Safe to share between threads.

    Args:
        catalogue: What can be recommended.
        embeddings: Embeds item labels (once, on first need) and texts that name no title.
        mode: "fresh" passes over items in `avoid`; "nearest" is the original's way, kept to reproduce it: the exact
            title or else the nearest embedding, whatever the visit has had.
        vectors: The label vectors, shape (n_items, dimension), where the world has them already.

    Raises:
        BadInputError: An unknown mode, or vectors of another shape.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        embeddings: Embeddings,
        *,
        mode: Mode = "fresh",
        vectors: NDArray[np.floating] | None = None,
    ) -> None:
        if mode not in ("fresh", "nearest"):
            raise BadInputError(f'the grounding {mode!r} is unknown; use "fresh" or "nearest"')
        if vectors is not None and (vectors.ndim != 2 or len(vectors) != len(catalogue)):
            raise BadInputError(f"label vectors need the shape ({len(catalogue)}, dimension), not {vectors.shape}")
        self._catalogue = catalogue
        self._embeddings = embeddings
        self._mode = mode
        self._positions = {item.id: position for position, item in enumerate(catalogue)}
        self._titles = _titles(catalogue)
        self._lock = threading.Lock()
        self._vectors = None if vectors is None else _unit_rows(vectors)

    def ground(self, text: str, avoid: Iterable[str | Item] = ()) -> Item:
        """Return the item that a text means, or the nearest one that is not in `avoid`.

        Args:
            text: Anything a model may write; empty text and broken Unicode are fine.
            avoid: Items, or their ids, that this visit has had; ids the catalogue does not know count for nothing.

        Returns:
            An item outside `avoid`; the best match where `avoid` holds the whole catalogue or the mode is "nearest".
        """
        return self.match(text, avoid).item

    def match(self, text: str, avoid: Iterable[str | Item] = ()) -> Match:
        """Return the grounded item with what decided and how sure it is; `ground` tells the arguments.

        Only a fault of the embedding itself (an endpoint that does not answer) raises.
        """
        blocked = self._blocked(avoid)
        found = self._found(text)
        for entry in found:
            for position in entry.positions:
                if position not in blocked:
                    item = self._catalogue[position]
                    return Match(item, entry.kind, entry.score, item)
        # Its title is known, so what comes nearest to that item stands in for it; no text needs to be embedded.
        named = found[0].positions[0] if found else None
        position, score = self._nearest(text, named, blocked)
        return Match(self._catalogue[position], "semantic", score, None if named is None else self._catalogue[named])

    def _blocked(self, avoid: Iterable[str | Item]) -> frozenset[int]:
        if self._mode == "nearest":
            return frozenset()
        ids = {entry if isinstance(entry, str) else entry.id for entry in avoid}
        blocked = frozenset(self._positions[item_id] for item_id in ids if item_id in self._positions)
        return blocked if len(blocked) < len(self._catalogue) else frozenset()

    def _found(self, text: str) -> Sequence[_Found]:
        """Return the titles that the words of a text name, best first."""
        whole = self._titles.whole(text)
        if self._mode == "nearest":
            return [whole] if whole and whole.kind == "exact" else []
        if whole:
            return [whole]
        contained = self._titles.contained(text)
        if any(entry.score >= 0.9 for entry in contained):
            return contained
        # A title inside a longer title ("Dawn of War" in "Dawn of War: Soulstrm") yields to the longer one, misspelt.
        similar = self._titles.similar(text)
        return [similar] if similar else contained

    def _nearest(self, text: str, named: int | None, blocked: frozenset[int]) -> tuple[int, float]:
        visible = " ".join(text[:_LONGEST_EMBEDDED].encode("utf-8", "replace").decode("utf-8").split())
        if named is None and not visible:
            return next(position for position in range(len(self._catalogue)) if position not in blocked), 0.0
        rows = self._label_vectors
        if named is None:
            query = _unit_rows(np.asarray([self._embeddings.embed_query(visible)]))[0]
        else:
            query = rows[named]
        # einsum: where processes run side by side, BLAS threads wait for each other (6,011 x 384 beside two busy
        # processes on two cores: 17 ms, einsum 2 ms). Rounded, so that last bits never decide between two machines.
        scores = np.round(np.einsum("ij,j->i", rows, query), 5)
        scores[list(blocked)] = -np.inf
        best = int(np.argmax(scores))
        return best, float(np.clip(scores[best], -1.0, 1.0))

    @property
    def _label_vectors(self) -> NDArray[np.float32]:
        with self._lock:
            if self._vectors is None:
                labels = [item.label.encode("utf-8", "replace").decode("utf-8") for item in self._catalogue]
                self._vectors = _unit_rows(np.asarray(self._embeddings.embed_documents(labels)))
            return self._vectors


def _unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    rows = np.nan_to_num(np.asarray(vectors, dtype=np.float32), posinf=0.0, neginf=0.0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1.0), dtype=np.float32)


def looks_like_no_item(text: str, catalogue: Catalogue) -> str | None:
    """Say why a text names no single item, in words that fit into "ask again"; None where it may name one.

    A text that is a title of the catalogue is never refused, be it "Stop" or the name of a genre.

    Returns:
        "empty", "no words", "a stop word", "a bare genre", "a kind of item, not a title", "several items", or None.
    """
    titles = _titles(catalogue)
    if titles.whole(text):
        return None
    key = normalize(text)
    if not key:
        return "no words" if _symbols(text) else "empty"
    if key.replace(" ", "_") in _STOP_TEXTS:
        return "a stop word"
    named = titles.contained(text)
    if len({entry.positions for entry in named}) > 1 and _is_list(text, titles):
        return "several items"
    if not named and len(_LIST_LINE.findall(text[:_LONGEST_TEXT])) > 1:
        return "several items"
    return None if named else _kind_of_item(key.split(), titles.genres)


def _is_list(text: str, titles: _Titles) -> bool:
    """Tell a list of titles from prose that mentions a second one ("Portal 2, because the user liked Braid")."""
    rest = 0
    for line in _clean(text).splitlines():
        words, tail = _words(line)
        gaps = [*(word.gap for word in words), tail]
        spans = titles.spans(words, gaps)
        if len(spans) > 1 and not _is_prose(words, spans) and all(titles.fills_segment(words, gaps, s) for s in spans):
            continue
        inside = {place for span in spans for place in range(span.start, span.end)}
        others = [word for place, word in enumerate(words) if place not in inside]
        rest += sum(not (w.key.isdigit() or w.key in _LINKS | _CUES | _NOUNS | _ARTICLES | _FILLERS) for w in others)
    return rest == 0 or len(_LIST_LINE.findall(text[:_LONGEST_TEXT])) > 1


def _kind_of_item(words: list[str], genres: frozenset[str]) -> str | None:
    rest: list[str] = []
    count = place = 0
    longest = max((len(genre.split()) for genre in genres), default=0)
    while place < len(words):
        size = next((n for n in range(longest, 0, -1) if " ".join(words[place : place + n]) in genres), 0)
        count += bool(size)
        rest += [] if size else [words[place]]
        place += max(1, size)
    unknown = [word for word in rest if word not in _NOUNS | _LINKS | _ARTICLES | _FILLERS]
    if not unknown:
        return "a bare genre" if count == 1 else "a kind of item, not a title"
    plural = words[-1] in _NOUNS and words[-1] not in ("show", "series")
    # "Accounting and Indie books": a category the catalogue lacks beside one that it has.
    joined = count > 0 and "and" in words and len(unknown) <= 2
    return "a kind of item, not a title" if plural and (joined or words[-1] in ("item", "items")) else None
