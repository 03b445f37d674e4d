"""Grammar of wishes in a plan, a lesson or a person's words: categories, titles, years and distances."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from nodes.llm.text.wish_words import (
    DECADES,
    OLD,
    RECENT,
    STOP_WORDS,
    Word,
    category_words,
    mixed_words,
    quality_words,
    spellings,
    words_of,
)

_AVOID = {
    *("avoid", "leave", "without", "no", "not", "never", "skip", "less", "fewer", "drop", "nothing", "none", "nor"),
    *("hate", "hates", "dislike", "tired", "bored", "sick of", "fed up", "enough", "except", "excluding", "exclude"),
    *("don't", "don’t", "dont", "doesn't", "doesn’t", "can't", "can’t", "cannot", "isn't", "isn’t", "stop", "too"),
    *("anything but", "everything but", "all but", "other than", "apart from", "rather than", "instead of", "ban"),
}
_WANT = {
    *("recommend", "mix", "more", "prefer", "show", "add", "include", "but", "want", "like", "likes", "with"),
    *("something", "please", "only", "just", "love", "loves", "loved", "enjoy", "enjoyed", "rather", "instead", "give"),
    *("nothing but", "none but", "looking for", "mood for", "fan of", "maybe", "similar", "liked", "back to"),
}
# Words that say how much, and leave open whether it is wanted if they stand right behind one that does ("no more").
_OPEN = {
    "more",
    "like",
    "likes",
    "want",
    "show",
    "recommend",
    "include",
    "add",
    "give",
    "love",
    "enjoy",
    "only",
    "just",
}
_OPEN |= {"with", "mix", "prefer", "similar", "please", "something", "liked", "loved"}
# "Never leave out" asks for what "leave out" avoids.
_NEGATIONS = {"no", "not", "never", "don't", "don’t", "dont"}
_REFUSALS = {"avoid", "leave", "skip", "drop", "exclude", "ban"}
# A word that turns nothing but the next one.
_NON = "non"
_AGES: dict[str, Literal["old", "recent"]] = {
    **dict.fromkeys(spellings(OLD), "old"),
    **dict.fromkeys(spellings(RECENT), "recent"),
}
# A word of degree, whose part of the sentence ends at the next comma.
_DEGREE = {"too"}
# End of a sentence or part of one.
_END = r"[.;!?](?=\s|$)|\n"
_FILLER = re.compile(r"(?:\s|\b(?:to|a|an|any|the|me|really|ever|see|watch|for|of|out|so|much|that|it's|is)\b)*")
_DISTANCE = re.compile(r"\bat (least|most) (\d+(?:\.\d+)?)\b")
_TOGETHER = re.compile(
    r"[\s-]*|\s*(?:films?|movies?|games?|books?)?\s*(?:for|about|with|on)\s+(?:(?:a|the|my|whole|some)\s+)*"
)
_BOTH = re.compile(r"\s*(?:,|and|&|yet|, and)\s*")
_YEAR = r"(?:1[89]\d\d|20\d\d)"
_DECADE = rf"(?:the\s+)?(?:['’]?(?:(?:1[89]|20)?\d0)['’]?s|(?:{DECADES}))"
_LATER = r"(?:onwards?\b|(?:and|or)\s+(?:later|newer|after|up)\b|\+)"
_ERA = re.compile(
    rf"\b(?:between\s+(?:the\s+year\s+)?(?P<low>{_YEAR})\s+and|(?:from\s+)?(?P<low_2>{_YEAR})\s*(?:-|–|to|until|till))"
    rf"\s*(?P<high>{_YEAR})\b"
    rf"|\b(?P<before>before|older\s+than|earlier\s+than|prior\s+to|pre)[\s-]+(?:the\s+year\s+)?(?P<b>{_YEAR}\b|{_DECADE})"
    rf"|\b(?P<until>until|till|up\s+to|no\s+later\s+than|not\s+after)\s+(?P<u>{_YEAR}\b|{_DECADE})"
    rf"|\b(?P<after>after|(?:newer|later|more\s+recent)\s+than|post)[\s-]+(?:the\s+year\s+)?(?P<a>{_YEAR}\b|{_DECADE})"
    rf"|\b(?:since|from)\s+(?P<s>{_YEAR}\b|{_DECADE})\s*(?:on\b|{_LATER})"
    rf"|(?<![\w.,])(?:from\s+)?(?P<s_3>{_YEAR}|{_DECADE})\s*{_LATER}"
    rf"|(?<![\w.,])(?:from\s+)?(?P<u_2>{_YEAR}|{_DECADE})\s+(?:and|or)\s+(?:earlier|older|before)\b"
    rf"|\b(?P<lately>(?:the\s+)?(?:last|past)\s+(?:\w+\s+)?(?:years?|decades?)\b|this\s+(?:year|decade)\b"
    rf"|(?:at\s+most|less\s+than|no\s+more\s+than|not\s+more\s+than|under)\s+\w+\s+years?\s+old\b)"
    rf"|\b(?P<long_ago>(?:at\s+least|more\s+than|over)\s+\w+\s+years?\s+old\b)"
    rf"|\bsince\s+(?P<s_2>{_YEAR}\b|{_DECADE})"
    rf"|(?P<part>\b(?:early|mid|late)[\s-]+)?(?<!\w)(?P<decade>{_DECADE})(?!\w)"
    rf"|(?<![\w.,])(?P<year>{_YEAR})(?![\w]|[.,]\d)",
    re.IGNORECASE,
)

# Gap inside a name or a compound, such as "Tom Hanks", "coming of age" and "state-of-the-art".
_COMPOUND = re.compile(r"[ \t]+(?:of[ \t]+)?|[-–](?:\w+[-–])*")
# Name of the group of a pattern that holds any word without a meaning here.
_OTHER = "other"

Kind = Literal["categories", "title", "years", "quality", "missing", "words"]


@dataclass(frozen=True)
class Years:
    """Years from `low` to `high`; None for no bound. `age` stands for old or recent items of any catalogue."""

    low: int | None = None
    high: int | None = None
    age: Literal["", "old", "recent"] = ""


@dataclass(frozen=True)
class Mention:
    """Something that a text asks for or wants avoided."""

    kind: Kind
    wanted: bool
    start: int
    end: int
    line: int = 0
    """Number of the line, from 0."""
    categories: tuple[tuple[str, ...], ...] = ()
    """Groups of categories; an item has one of each group."""
    name: str = ""
    """Key of a title, quality, or subject that the catalogue lacks, or the words themselves."""
    years: Years = Years()
    adjective: bool = False


@dataclass(frozen=True)
class Wishes:
    """Wishes of a text by category and distance."""

    want: tuple[str, ...] = ()
    """Categories to recommend, in the order of the text."""
    avoid: tuple[str, ...] = ()
    """Categories to avoid."""
    least: float | None = None
    """Least distance to the last items."""
    most: float | None = None
    """Greatest distance to the last items."""


def read_wishes(text: str, categories: Iterable[str]) -> Wishes:
    """Return the wishes in `text` by category and distance.

    A category counts if its name, its plural or an everyday word for it stands as whole words. It is avoided after a
    word such as "avoid", "leave" or "no", up to the end of the sentence, a semicolon, or a word such as "recommend",
    "mix" or "but". A distance is written "at least 0.70" or "at most 0.70". Of contradicting wishes the last one
    counts.
    """
    verdict: dict[str, bool] = {}
    for one in mentions(text, _named(text, categories)):
        # What is avoided together, such as "romantic comedies", may be wanted apart.
        if one.kind == "categories" and (one.wanted or len(one.categories) == 1):
            for name in (name for group in one.categories for name in group):
                verdict.pop(name, None)
                verdict[name] = one.wanted
    least, most = distances(text)
    return Wishes(
        want=tuple(name for name, wanted in verdict.items() if wanted),
        avoid=tuple(name for name, wanted in verdict.items() if not wanted),
        least=least,
        most=most,
    )


def _named(text: str, categories: Iterable[str]) -> tuple[str, ...]:
    """Return the categories that a text may name, sorted: few texts differ in them, so their words are found once."""
    folded = _folded(text)
    names = tuple(sorted(categories))
    if any(word in folded for word in mixed_words()):
        return names
    return tuple(name for name in names if any(word in folded for word in words_of(name)))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def distances(text: str) -> tuple[float | None, float | None]:
    """Return the least and the greatest distance that a text asks for; of several the last one counts."""
    bounds = {side: float(number) for side, number in _DISTANCE.findall(text.casefold())}
    return bounds.get("least"), bounds.get("most")


def mentions(
    text: str, categories: Iterable[str], titles: Mapping[tuple[int, int], str] | None = None, other: str = ""
) -> list[Mention]:
    """Return what a text mentions, in its order; adjectives and nouns that belong together are one mention.

    Args:
        text: A plan, lesson, wish or comment.
        categories: Categories of the catalogue.
        titles: Keys of the titles that stand in the text, by their place; nothing else is read there.
        other: Regular expression of a word. If given, words without a meaning here are mentions too, apart from those
            that say nothing of an item; neighbours such as "Tom Hanks" are one mention.
    """
    names = tuple(categories)
    titles = titles or {}
    words = category_words(names)
    found: list[Mention] = []
    line = 0
    avoiding, degree, noun_avoided, last_turn, negated, non = False, False, False, -1, -1, False
    for start, end, is_other in _tokens(text, names, titles, other):
        token = " ".join(text[start:end].casefold().split())
        is_title = (start, end) in titles
        twice = token in _REFUSALS and negated >= 0 and _FILLER.fullmatch(text, negated, start)
        negated = end if token in _NEGATIONS else -1
        if not is_title and twice:
            avoiding, last_turn = False, -1
        elif not is_title and token in _AVOID:
            follows = text[end:].lstrip(" ")[:1]
            # "Comedies too" asks for comedies.
            if token not in _DEGREE or follows.isalnum():
                # "Not too long" and "tired of too much war" turn once.
                avoiding, degree, noun_avoided, last_turn = True, token in _DEGREE, False, end
        elif not is_title and token in _WANT:
            still = avoiding and token in _OPEN and last_turn >= 0 and _FILLER.fullmatch(text, last_turn, start)
            last_turn = end if still else -1
            avoiding = bool(still)
        elif not is_title and token == _NON:
            non = True
        elif not is_title and text[start] in ".;!?\n":
            avoiding, last_turn = False, -1
            line += text[start] == "\n"
        elif not is_title and text[start] == ",":
            if degree:
                avoiding = False
        else:
            if is_other:
                one = Mention("words", True, start, end, line, name=text[start:end])
            else:
                one = _mention(text, start, end, token, titles, words, line)
            if avoiding and noun_avoided and one.adjective and _after_comma(text, found):
                # "No war, funny": nouns to avoid are listed with nouns.
                avoiding = False
            noun_avoided = avoiding and (noun_avoided or (one.kind == "categories" and not one.adjective))
            found.append(_turned(one) if avoiding != non else one)
            non = False
    return _joined(text, found)


def _after_comma(text: str, found: Sequence[Mention]) -> bool:
    return bool(found) and text[found[-1].end :].lstrip().startswith(",")


def _turned(one: Mention) -> Mention:
    """Return a mention as something to avoid; "nothing before 1980" asks for the years from 1980."""
    fields = {name: getattr(one, name) for name in one.__dataclass_fields__}
    years = one.years
    if one.kind == "years" and (years.low is None) != (years.high is None):
        opposite = Years(low=years.high + 1) if years.high is not None else Years(high=(years.low or 0) - 1)
        return Mention(**(fields | {"years": opposite}))
    if one.kind == "years" and years.age:
        return Mention(**(fields | {"years": Years(age="recent" if years.age == "old" else "old")}))
    return Mention(**(fields | {"wanted": False}))


def _mention(
    text: str,
    start: int,
    end: int,
    token: str,
    titles: Mapping[tuple[int, int], str],
    words: Mapping[str, Word],
    line: int,
) -> Mention:
    if (start, end) in titles:
        return Mention("title", True, start, end, line, name=titles[start, end])
    if token in words:
        word = words[token]
        kind: Kind = "categories" if word.categories else "missing"
        return Mention(kind, True, start, end, line, word.categories, word.missing, adjective=word.adjective)
    if token in quality_words():
        return Mention("quality", True, start, end, line, name=quality_words()[token], adjective=True)
    years = Years(age=_AGES[token]) if token in _AGES else _years(text[start:end])
    return Mention("years", True, start, end, line, years=years, adjective=True)


def _years(text: str) -> Years:
    """Return the years that an expression such as "before the 80s" means."""
    found = _ERA.fullmatch(text)
    if found is None:
        return Years()
    part = {name: value for name, value in found.groupdict().items() if value}
    if low := part.get("low") or part.get("low_2"):
        low_year, high_year = sorted((int(low), int(part["high"])))
        return Years(low_year, high_year)
    if "lately" in part or "long_ago" in part:
        return Years(age="recent" if "lately" in part else "old")
    for name, value in part.items():
        if name in ("b", "u", "u_2", "a", "s", "s_2", "s_3"):
            first, last = _span(value)
            sides = {"b": (None, first - 1), "u": (None, last), "u_2": (None, last), "a": (last + 1, None)}
            return Years(*sides.get(name, (first, None)))
    if "year" in part:
        return Years(int(part["year"]), int(part["year"]))
    first, last = _span(part["decade"])
    thirds = {"early": (first, first + 3), "mid": (first + 3, first + 6), "late": (first + 6, last)}
    return Years(*thirds.get(part.get("part", "").strip(" -\t\n").casefold(), (first, last)))


def _span(text: str) -> tuple[int, int]:
    """Return the first and the last year of a year or a decade."""
    digits = "".join(sign for sign in text if sign.isdigit())
    if not digits:
        place = DECADES.split("|").index(re.sub(r"^the\s+", "", text.casefold()))
        return 1920 + 10 * place, 1929 + 10 * place
    if len(digits) == 4 and not text.casefold().endswith("s"):
        return int(digits), int(digits)
    first = int(digits) if len(digits) == 4 else (1900 if int(digits) >= 20 else 2000) + int(digits)
    return first, first + 9


def _joined(text: str, found: Sequence[Mention]) -> list[Mention]:
    """Return the mentions, those of categories that an item is to have at once as one: "romantic comedies"."""
    joined: list[Mention] = []
    for one in found:
        last = joined[-1] if joined else None
        if last is not None and _belong(text, last, one):
            groups = tuple(dict.fromkeys((*last.categories, *one.categories)))
            name = " ".join(text[last.start : one.end].split()) if one.kind == "words" else ""
            joined[-1] = Mention(
                one.kind, one.wanted, last.start, one.end, one.line, groups, name, adjective=one.adjective
            )
        else:
            joined.append(one)
    return joined


def _belong(text: str, one: Mention, other: Mention) -> bool:
    same = (one.kind, one.wanted, one.line) == (other.kind, other.wanted, other.line)
    if not same or one.kind not in ("categories", "words"):
        return False
    gap = text[one.end : other.start].casefold()
    if one.kind == "words":
        return bool(_COMPOUND.fullmatch(gap))
    # "Funny, romantic" is one wish, "comedies and dramas" are two.
    return bool(_TOGETHER.fullmatch(gap)) or (one.adjective and other.adjective and bool(_BOTH.fullmatch(gap)))


def _tokens(
    text: str, categories: tuple[str, ...], titles: Mapping[tuple[int, int], str], other: str
) -> Iterator[tuple[int, int, bool]]:
    """Yield the places of words with a meaning, in order; titles and years come before the words inside them.

    With `other`, words without a meaning here are among them, each with True.
    """
    taken = sorted(titles)
    for era in _ERA.finditer(text):
        if not any(start < era.end() and era.start() < end for start, end in taken):
            taken.append((era.start(), era.end()))
    taken.sort()
    position = 0
    folded = _folded(text)
    # Only words that occur: a pattern of all of them takes ten times as long.
    pattern = _pattern(frozenset(word for word in _words(categories) if word in folded), other)
    for start, end in [*taken, (len(text), len(text))]:
        for found in pattern.finditer(text, position, start):
            is_other = found.lastgroup == _OTHER
            if not (is_other and _says_nothing(text, *found.span())):
                yield found.start(), found.end(), is_other
        if start < end:
            yield start, end, False
        position = end


def _says_nothing(text: str, start: int, end: int) -> bool:
    """Return whether a word says nothing of an item: a number, a letter, or a stop word that is no part of another."""
    word = text[start:end]
    short = word.isascii() and (len(word) < 2 or (len(word) == 2 and not word.isupper()))
    if short or word.isdigit():
        return True
    in_compound = re.match(r"-\w", text[end : end + 2]) or re.match(r"\w-", text[max(0, start - 2) : start])
    return not in_compound and word.casefold().replace("’", "'") in STOP_WORDS


def asked_for(text: str) -> str:
    """Return a text without the parts in which it says what to avoid, as `read_wishes` reads them.

    Examples:
        >>> asked_for("Recommend Drama; leave out War, but mix in something new.")
        'Recommend Drama; but mix in something new.'
    """
    kept, start, avoiding = "", 0, False
    # The spelling is kept, because folding may change the length of a text.
    for found in _TURNS.finditer(text):
        if not avoiding:
            kept += text[start : found.start()]
        start, avoiding = found.start(), found[0].lower() in _AVOID
    kept += "" if avoiding else text[start:]
    return " ".join(kept.split()) if re.search(r"\w", kept) else ""


def _whole_words(words: Iterable[str]) -> str:
    # Longest first, so that "Science Fiction" wins over "Fiction".
    ordered = sorted(words, key=lambda word: (-len(word), word))
    return r"(?<!\w)(?:" + "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in ordered) + r")(?!\w)"


_TURNS = re.compile(_whole_words(_AVOID | _WANT) + "|" + _END, re.IGNORECASE)


@lru_cache(maxsize=256)
def _words(categories: tuple[str, ...]) -> tuple[str, ...]:
    """Return all words with a meaning."""
    return tuple(dict.fromkeys((*category_words(categories), *quality_words(), *_AGES, *_AVOID, *_WANT, _NON)))


@lru_cache(maxsize=1024)
def _pattern(words: frozenset[str], other: str) -> re.Pattern[str]:
    others = f"(?P<{_OTHER}>{other})" if other else ""
    parts = (_whole_words(words) if words else "", _END, ",", others)
    return re.compile("|".join(filter(None, parts)), re.IGNORECASE)
