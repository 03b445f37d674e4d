"""What was understood of a person's wishes, in plain words."""

import re
from collections.abc import Sequence

from nodes.llm.text.understood import Era, Understood
from sim.catalogue import Catalogue

_NO = "no "
# "More like this" in a comment is about the item that the comment is on.
_THIS = re.compile(
    r"\b(?:like|of|similar to) (?:this|that)(?: (?:one|film|movie|game|book))?(?=\s*(?:$|[.,;!?\[]))", re.I
)
_LONGEST_QUOTED = 120
_ABOUT = re.compile(r" \[on [^\[\]\n]*\]$", re.MULTILINE)


def spelt(groups: Sequence[Sequence[str]]) -> str:
    """Return groups of categories in words: one of each group is meant."""
    return " and ".join(" or ".join(group) for group in groups)


def era_text(era: Era) -> str:
    """Return years in words, such as "from 1990 to 1999"."""
    if era.since is not None and era.until is not None:
        return f"from {era.since}" + (f" to {era.until}" if era.until != era.since else "")
    return f"until {era.until}" if era.since is None else f"from {era.since} on"


def named_titles(catalogue: Catalogue, ids: Sequence[str]) -> list[str]:
    """Return the titles of items, with the year where it is known."""
    items = [catalogue.item(one) for one in ids if one in catalogue]
    return [titled(item.title, item.year) for item in items]


def commented(words: str, title: str) -> str:
    """Return a comment with the title that it is about; `own_words` undoes it.

    Examples:
        >>> commented("too loud", "[REC]"), own_words("too loud [on (REC)]")
        ('too loud [on (REC)]', 'too loud')
    """
    about = " ".join(title.split()).translate(str.maketrans("[]", "()"))
    return f"{words} [on {about}]" if about else words


def without_comments(text: str, title: str) -> str:
    """Return a profile's text without the comments on an item."""
    about = commented("", title)
    return "\n".join(line for line in text.splitlines() if not (about and line.endswith(about)))


def own_words(text: str) -> str:
    """Return a profile's text without the titles of comments, which are no wishes for these titles."""
    return _ABOUT.sub("", text)


def pointed(text: str) -> str:
    """Return a profile's text with "this" in a comment as the title that the comment is on.

    Examples:
        >>> pointed("more like this one [on Heat]")
        'more like “Heat” [on Heat]'
    """
    return "\n".join(map(_pointed, text.splitlines()))


def _pointed(line: str) -> str:
    about = _ABOUT.search(line)
    title = (
        about[0].removeprefix(" [on ").removesuffix("]").translate(dict.fromkeys(map(ord, '"“”«»„'))) if about else ""
    )
    if not 0 < len(title) <= _LONGEST_QUOTED:
        return line
    return _THIS.sub(lambda _: f"like “{title}”", line)


def titled(title: str, year: int | None) -> str:
    """Return a title with its year, if that is known and not in the title."""
    return title if year is None or f"({year})" in title else f"{title} ({year})"


def understood_parts(understood: Understood, catalogue: Catalogue) -> list[str]:
    """Return what was understood, each part in a few words."""
    parts = [f"'{one}'" for one in named_titles(catalogue, understood.titles)]
    parts += [f"like '{one}'" for one in named_titles(catalogue, understood.like)]
    parts += [f"not like '{one}'" for one in named_titles(catalogue, understood.unlike)]
    if understood.want:
        parts.append(" or ".join(map(spelt, understood.want)))
    parts += [f"also {spelt(groups)}" for groups in understood.before]
    if understood.eras:
        parts.append(" or ".join(map(era_text, understood.eras)))
    if understood.bounds != Era():
        parts.append(era_text(understood.bounds))
    parts += [f"not {era_text(one)}" for one in understood.not_eras]
    parts += [f"{_NO}{spelt(groups)}" for groups in understood.avoid]
    parts += [f"nothing with '{one}'" for one in understood.not_words]
    if understood.least is not None:
        parts.append(f"at least {understood.least:g} from the last four")
    if understood.most is not None:
        parts.append(f"at most {understood.most:g} from the last four")
    return parts


def understood_line(understood: Understood, catalogue: Catalogue) -> str:
    """Return one line on what was understood, what is searched by its words, and what nothing here can judge.

    Examples:
        >>> from sim.catalogue import Catalogue, Item
        >>> films = Catalogue([Item("1", "Heat", ("Crime",), 1995)])
        >>> understood_line(Understood(like=["1"], avoid=[[["Crime"]]], unjudged=["length"]), films)
        "Understood: like 'Heat (1995)', no Crime. This catalogue says nothing about: length."
    """
    unjudged = [*understood.unjudged, *understood.missing]
    return told_line(understood_parts(understood, catalogue), understood.words, unjudged, understood.unknown)


def told_line(
    understood: Sequence[str], searched: Sequence[str], unjudged: Sequence[str], unknown: Sequence[str]
) -> str:
    """Return the line on the parts of wishes that a person's question lists under these names; empty without any.

    Examples:
        >>> told_line(["Comedy", "no War", "no Crime"], ["Paris"], [], [])
        'Understood: Comedy, no War or Crime. Searched by the words: Paris.'
    """
    said = []
    if understood:
        said.append(f"Understood: {', '.join(joined_parts(understood))}.")
    # Words that no item has are searched too, by likeness, and named once.
    told = {word for one in (*unjudged, *unknown) for word in re.split(r"[\s-]+", one)}
    if words := [one for one in searched if one not in told]:
        said.append(f"Searched by the words: {', '.join(words)}.")
    if unjudged:
        said.append(f"This catalogue says nothing about: {', '.join(unjudged)}.")
    if unknown:
        said.append(f"Not in the catalogue: {', '.join(unknown)}.")
    return " ".join(said)


def joined_parts(parts: Sequence[str]) -> list[str]:
    """Return the parts with all single categories to leave out as one: "no War, Crime or Western"."""
    left_out = [one for one in parts if one.startswith(_NO) and " and " not in one]
    names = [one.removeprefix(_NO) for one in left_out]
    whole = " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    return list(dict.fromkeys(f"{_NO}{whole}" if one in left_out else one for one in parts))
