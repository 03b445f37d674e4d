"""Title matching: a text that is a title of the catalogue, as written, normalised or misspelt.

Titles and texts become keys: folded words that keep the differences between two titles. A key is looked up as written
first, then with numbers and articles in one spelling. Numbers and years must always agree.
"""

import html
import re
import threading
import unicodedata
import weakref
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal, NamedTuple

from rapidfuzz import fuzz, process

from sim.catalogue import Catalogue

WordKind = Literal["exact", "normalized", "fuzzy"]
WordPositions = tuple[int, ...]

# Most characters of a text that are read: longer replies ramble, and every step below is linear in this number.
LONGEST_TEXT = 8_000
_LONGEST_FUZZY = 120
# 88 accepts one wrong letter in nine. Over 3,600 other real titles, a lower cutoff added only wrong matches: at 85
# "POSTAL 2" matched "Portal 2", at 82 "Portal" matched "POSTAL".
_FUZZY_CUTOFF = 88.0
_SHORTEST_FUZZY = 5

# Code points up to here have marks; those above are private, or choose the form of a sign.
_LAST_MARK = 0x1E95F


def _mark_ranges() -> str:
    """Return the combining marks of all scripts as ranges of a regular expression."""
    marks = [code for code in range(_LAST_MARK) if unicodedata.category(chr(code))[0] == "M"]
    ends = [code for code, following in zip(marks, [*marks[1:], 0], strict=True) if following != code + 1]
    starts = [marks[0], *(following for code, following in pairwise(marks) if following != code + 1)]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


# Word of any script. In most, marks are letters: vowels in Hindi and Thai, voiced sounds in Japanese.
WORD_PATTERN = rf"[^\W_]+(?:[{_mark_ranges()}]+[^\W_]*)*"
# Scripts whose marks are accents, which people leave out.
_ACCENTED = ("LATIN ", "GREEK ", "CYRILLIC ")
_SIGNS = str.maketrans(
    # Letters that NFKD does not decompose, and signs without meaning.
    {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
    | {"ı": "i", "İ": "I"}
    | dict.fromkeys("™®©℠\u200b\u200c\u200d\ufeff\ufe0e\ufe0f\u20e3", "")
)
_SIGN_WORDS = re.compile(r"\((?:tm|r|c)\)", re.IGNORECASE)
_APOSTROPHE = re.compile(r"(?<=\w)['’‘ʼ`´](?=\w)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ACRONYM = re.compile(r"\b(?:[^\W\d_]\.){2,}(?:[^\W\d_](?!\w))?")
_WORD = re.compile(WORD_PATTERN)
_YEAR = re.compile(r"[(\[]\s*(?:1[89]|20)\d\d\s*[)\]]\s*$")
_BRACKET_AT_END = re.compile(r"[(\[][^()\[\]]*[)\]]\s*$")
_SERIES_END = re.compile(r":| - | and the |(?<=\w)\s+(?:\d+|[IVX]+)\b")
_AKA = re.compile(r"^a\.?k\.?a\.?\s+", re.IGNORECASE)
_ARTICLE_BEHIND = re.compile(r"^(.+), (the|an|a|les|le|la|los|las|el|il|lo|die|der|das)$", re.IGNORECASE)
_LIST_MARK = re.compile(r"^\s*(?:[-*•]+\s+|\d{1,3}[.)]\s+)")
_PREFIX = re.compile(
    r"^\W*(?:next |final |my )?(?:item|title|recommendation|recommend|answer|action)(?: \d+)?\s*[:=\[]", re.I
)
_SENTENCE_START = re.compile(r"^i (?:would |will |can )?(?:recommend|suggest|propose|choose|pick)\s+", re.I)
_QUOTES_AND_SPACE = re.compile(r"[\s\"“”'‘’`«»*]+")

ARTICLES = frozenset({"the", "a", "an"})
_NUMBERS = {
    name: str(number)
    for names in (
        "i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi",
        "one two three four five six seven eight nine ten eleven twelve",
        "first second third fourth fifth",
    )
    for number, name in enumerate(names.split(), start=1)
}


class Found(NamedTuple):
    """Title named by the words of a text; several positions if items share the title."""

    kind: WordKind
    score: float
    positions: WordPositions


def _clean(text: str) -> str:
    """Remove the signs that never distinguish two titles, but keep case and punctuation."""
    text = _SIGN_WORDS.sub("", html.unescape(text[:LONGEST_TEXT]).translate(_SIGNS))
    text = _APOSTROPHE.sub("", text)
    text = _THOUSANDS.sub("", _without_accents(text).replace("&", " and "))
    return _ACRONYM.sub(lambda letters: letters.group().replace(".", ""), text)


def _without_accents(text: str) -> str:
    """Return a text in one form of its letters (NFKD), without the marks of Latin, Greek and Cyrillic letters."""
    if text.isascii():
        return text
    kept, accented = [], True
    for sign in unicodedata.normalize("NFKD", text):
        if unicodedata.category(sign)[0] != "M":
            accented = not sign.isalpha() or unicodedata.name(sign, "").startswith(_ACCENTED)
        elif accented:
            continue
        kept.append(sign)
    return "".join(kept)


def _fold(word: str) -> str:
    return _without_accents(word.casefold())


def words(text: str) -> list[str]:
    """Return the words of a text, with their case, without the brackets at its end."""
    return _WORD.findall(_clean(_without_brackets(text[:LONGEST_TEXT])[0]))


def normalize(text: str) -> str:
    """Return the folded words of a text: without case, accents, punctuation, ™ signs and HTML entities.

    Only the marks of Latin, Greek and Cyrillic are accents; those of other scripts are letters.
    """
    return " ".join(_fold(word) for word in _WORD.findall(_clean(text)))


def _loosen(key: str) -> str:
    """Remove a leading article, and write Roman and spelt numbers as digits ("star ruler ii" → "star ruler 2")."""
    words = key.split()
    if len(words) > 1 and words[0] in ARTICLES:
        words = words[1:]
    # Keep the first word: "I Am Alive" and "One Finger" start with words, not with numbers.
    return " ".join([*words[:1], *(_NUMBERS.get(word, word) for word in words[1:])])


def _numbers(key: str) -> tuple[float, ...]:
    """Return the numbers of a loosened key; titles with different numbers are different items."""
    # 18 digits suffice for every title, and int() refuses thousands of digits.
    found: list[float] = [int(run[:18]) for run in re.findall(r"\d+", key)]
    if not key.isascii():
        # Chinese numbers are letters.
        found += [unicodedata.numeric(sign) for sign in key if sign.isnumeric() and not sign.isdecimal()]
    return tuple(sorted(found))


def _plain_keys(title: str) -> list[str]:
    """Return the keys of a title as written and with its article moved to the front ("Matrix, The")."""
    moved = _ARTICLE_BEHIND.sub(r"\2 \1", title.strip(" \t\n\"'.,;"))
    keys = [normalize(title), normalize(moved)]
    return [key for key in dict.fromkeys(keys) if key]


def _without_brackets(title: str) -> tuple[str, list[str]]:
    """Split a title into the text before the brackets at its end, and the content of each bracket."""
    head, held = title.strip(), []
    while (bracket := _BRACKET_AT_END.search(head)) and head[: bracket.start()].strip():
        held.append(bracket.group().strip()[1:-1].strip())
        head = head[: bracket.start()].strip()
    return head, held


def _full_keys(text: str) -> list[str]:
    """Return the keys of a whole text, with its article in any place ("Matrix, The (1999)")."""
    keys = _plain_keys(text)
    head, held = _without_brackets(text)
    if held:
        behind = normalize(text.strip()[len(head) :])
        keys += [f"{key} {behind}" for key in _plain_keys(head)]
    return list(dict.fromkeys(keys))


def _undated_keys(text: str) -> list[str]:
    """Return the keys of a text without the year at its end; empty if it has no year."""
    bare, count = _YEAR.subn("", text.strip())
    return _plain_keys(bare) if count else []


def _short_keys(title: str) -> list[str]:
    """Return the keys of a title without its year, and without any bracket."""
    head, held = _without_brackets(title)
    return list(dict.fromkeys([*_undated_keys(title), *(_plain_keys(head) if held else [])]))


def _second_keys(title: str) -> list[str]:
    """Return the keys of the second titles in brackets, as in MovieLens: "Seven (a.k.a. Se7en)", "Hate (Haine, La)"."""
    held = [entry for entry in _without_brackets(title)[1] if not entry.isdecimal()]
    return [key for entry in held for key in _plain_keys(_AKA.sub("", entry)) if len(key) > 3]


def _beginning_keys(title: str) -> list[str]:
    """Return the key of the name before a colon, a dash, "and the" or a number: "Star Wars: Episode IV", "Alien 3"."""
    head = _without_brackets(title)[0]
    part = _SERIES_END.split(head, maxsplit=1)[0]
    return [] if part == head else [_loosen(key) for key in _plain_keys(part)]


def symbols(text: str) -> str:
    """Return the key of a title without letters and digits ("...", "!!!"), without the quotes around it."""
    return _QUOTES_AND_SPACE.sub("", html.unescape(text[:LONGEST_TEXT])).rstrip(",;")


class _Forms:
    """Index of item positions by the forms of their titles."""

    def __init__(self) -> None:
        self.full: dict[str, WordPositions] = {}
        # Shorter forms. Titles with a year are kept apart, because a text with another year must not match them.
        self.short: dict[str, WordPositions] = {}
        self.dated: dict[str, WordPositions] = {}

    def get(self, key: str) -> WordPositions:
        """Return the positions of the items with this key in full or shortened form; () if missing."""
        return self.full.get(key) or self.short.get(key) or self.dated.get(key, ())

    def keys(self) -> list[str]:
        """Return the distinct keys of all forms."""
        return list(dict.fromkeys([*self.full, *self.short, *self.dated]))


class Titles:
    """Index of the titles of a catalogue; it holds positions only, so that it never keeps a catalogue alive.

    Attributes:
        genres: Keys of the catalogue's categories, in all spellings.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._exact: dict[str, WordPositions] = {}
        self._plain, self._loose = _Forms(), _Forms()
        self._symbols: dict[str, WordPositions] = {}
        for position, item in enumerate(catalogue):
            full, short = _full_keys(item.title), _short_keys(item.title)
            dated = bool(_undated_keys(item.title))
            _add(self._exact, [item.title], position)
            _add(self._plain.full, full, position)
            _add(self._plain.dated if dated else self._plain.short, short, position)
            _add(self._loose.full, map(_loosen, full), position)
            loose = map(_loosen, [*short, *_second_keys(item.title)])
            _add(self._loose.dated if dated else self._loose.short, loose, position)
            if not full:
                _add(self._symbols, [symbols(item.title)], position)
        self.genres = frozenset(key for genre in catalogue.genres for key in _genre_keys(genre))
        self._beginnings: dict[str, WordPositions] | None = None
        self._fuzzy = self._loose.keys()

    def whole(self, text: str) -> Found | None:
        """Return the title that equals the whole text, as written or normalised; None if missing."""
        for written in (text, text.strip()):
            if written in self._exact:
                return Found("exact", 1.0, self._exact[written])
        if not _WORD.search(text):
            sign = symbols(text)
            return Found("normalized", 0.99, self._symbols[sign]) if sign and sign in self._symbols else None
        return next((found for variant in _variants(text) if (found := self._normalized(variant))), None)

    def _normalized(self, text: str) -> Found | None:
        full, bare = _full_keys(text), _undated_keys(text)
        # A text with a year never matches a title with another year: those are two films.
        loose_full, loose_bare = list(map(_loosen, full)), list(map(_loosen, bare))
        plain, loose = self._plain, self._loose
        for keys, index, score in (
            (full, plain.full, 0.99),
            (full, plain.short, 0.98),
            (full, plain.dated, 0.98),
            (bare, plain.full, 0.98),
            (bare, plain.short, 0.98),
            (loose_full, loose.full, 0.95),
            (loose_full, loose.short, 0.95),
            (loose_full, loose.dated, 0.95),
            (loose_bare, loose.full, 0.95),
            (loose_bare, loose.short, 0.95),
        ):
            for key in keys:
                if key in index:
                    return Found("normalized", score, index[key])
        return None

    def beginning(self, key: str, catalogue: Catalogue) -> WordPositions:
        """Return the items of a series: those whose title begins with the name before a colon or a number.

        Args:
            key: Normalised name, such as "star wars".
            catalogue: The catalogue of the index.
        """
        if self._beginnings is None:
            # Only people's wishes name series, so most visits need no index of them.
            found: dict[str, WordPositions] = {}
            for position, item in enumerate(catalogue):
                _add(found, _beginning_keys(item.title), position)
            self._beginnings = found
        return self._beginnings.get(_loosen(key), ())

    @property
    def short_names(self) -> list[str]:
        """Keys of all titles, for those who compare names on their own."""
        return self._fuzzy

    def named(self, key: str) -> WordPositions:
        """Return the items with one of the `short_names`."""
        return self._loose.get(key)

    def similar(self, text: str) -> Found | None:
        """Return the title that a text misspells; never a title with other numbers, because that is a sequel."""
        keys = [(key, True) for variant in _variants(text) for key in _full_keys(variant)]
        keys += [(key, False) for variant in _variants(text) for key in _undated_keys(variant)]
        close = [
            (score, choice)
            for key, with_year in dict.fromkeys(keys)
            for choice, score in self._misspelt(_loosen(key))
            if with_year or choice in self._loose.full or choice in self._loose.short
        ]
        if not close:
            return None
        score, key = max(close, key=lambda entry: entry[0])
        return Found("fuzzy", score / 100, self._loose.get(key))

    def _misspelt(self, query: str) -> list[tuple[str, float]]:
        if not _SHORTEST_FUZZY <= len(query) <= _LONGEST_FUZZY:
            return []
        close = process.extract(
            query, self._fuzzy, scorer=fuzz.ratio, processor=None, limit=8, score_cutoff=_FUZZY_CUTOFF
        )
        return [
            (choice, score)
            for choice, score, _ in close
            if _numbers(choice) == _numbers(query) and _is_typo(query, choice)
        ]


def _add(index: dict[str, WordPositions], keys: Iterable[str], position: int) -> None:
    for key in keys:
        positions = index.get(key, ())
        if position not in positions[-1:]:
            index[key] = (*positions, position)


def _genre_keys(genre: str) -> set[str]:
    key = normalize(genre)
    parts = {normalize(part) for part in re.split(r"[/|,]", genre)}
    return {spelt for spelt in (key, f"{key}s", *parts) if len(spelt) > 1}


def _is_typo(text: str, title: str) -> bool:
    """Return whether a text is a typo of a title: each word must be close to its partner."""
    ours, theirs = text.split(), title.split()
    if len(ours) != len(theirs):
        return fuzz.ratio(text.replace(" ", ""), title.replace(" ", "")) >= 94
    if len(ours) == 1 and (text.startswith(title) or title.startswith(text)):
        return False  # "Killer" is not "Killers"
    return all(
        a == b or (fuzz.ratio(a, b) >= _least_ratio(a) and len(a) > 2 and len(b) > 2)
        for a, b in zip(ours, theirs, strict=True)
    )


def _least_ratio(word: str) -> float:
    """Return how much a misspelt word has to equal it: in scripts of syllables one sign more makes another word."""
    return 70 if word.isascii() or unicodedata.name(word[0], "").startswith(_ACCENTED) else 92


def _variants(text: str) -> list[str]:
    """Return a text as written, then without additions of models: list mark, "Item:", categories after the title."""
    stripped = _LIST_MARK.sub("", text[:LONGEST_TEXT]).strip()
    stripped = _SENTENCE_START.sub("", _PREFIX.sub("", stripped).strip(" \t\r\n]*"))
    variants = [text[:LONGEST_TEXT].strip(), stripped]
    unlabelled = _BRACKET_AT_END.sub("", stripped).strip()
    if unlabelled and not _YEAR.search(stripped):
        variants.append(unlabelled)
    return list(dict.fromkeys(variants))


_lock = threading.Lock()
_titles_of_catalogue: dict[int, Titles] = {}


def titles_of(catalogue: Catalogue) -> Titles:
    """Return the title index of a catalogue, built once while the catalogue lives.

    The cache key is the identity of the catalogue, because hashing a catalogue reads all of its items.
    """
    key = id(catalogue)
    with _lock:
        titles = _titles_of_catalogue.get(key)
        if titles is None:
            titles = _titles_of_catalogue[key] = Titles(catalogue)
            weakref.finalize(catalogue, _titles_of_catalogue.pop, key, None)
        return titles
