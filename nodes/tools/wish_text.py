"""What was understood of a person's wishes, in plain words."""

import re
from collections.abc import Sequence

from nodes.llm.text.understood import Era, Understood
from sim.catalogue import Catalogue

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
    if (understood.bounds.since, understood.bounds.until) != (None, None):
        parts.append(era_text(understood.bounds))
    parts += [f"not {era_text(one)}" for one in understood.not_eras]
    parts += [f"no {spelt(groups)}" for groups in understood.avoid]
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
    said = []
    if parts := understood_parts(understood, catalogue):
        said.append(f"Understood: {', '.join(parts)}.")
    unjudged = [*understood.unjudged, *understood.missing]
    # Words that no item has are searched too, by likeness, and named once.
    told = {word for one in (*unjudged, *understood.unknown) for word in re.split(r"[\s-]+", one)}
    if searched := [one for one in understood.words if one not in told]:
        said.append(f"Searched by the words: {', '.join(searched)}.")
    if unjudged:
        said.append(f"This catalogue says nothing about: {', '.join(unjudged)}.")
    if understood.unknown:
        said.append(f"Not in the catalogue: {', '.join(understood.unknown)}.")
    return " ".join(said)
