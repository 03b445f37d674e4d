"""Words in the texts of a catalogue's items: titles, categories, and descriptions where a source has them."""

from collections.abc import Sequence

import numpy as np

from nodes.tools.open_world import OpenWorld
from nodes.tools.titles import normalize
from sim.arrays import Mask, Positions


class _ByWord(dict[str, list[int]]):
    """Positions of the items whose texts have a word, by folded word."""


class _ByDescription(_ByWord):
    """The same for descriptions alone."""


def described_by(opened: OpenWorld, words: Sequence[str]) -> Positions:
    """Return how many of some words stand in the description of each item, shape (n_items,).

    Case and accents do not count. An embedding of whole descriptions would tell more of their style than of what a
    person asks for, and is slow to make.
    """
    found = np.zeros(len(opened.world.catalogue), dtype=np.intp)
    for word in {normalize(one) for one in words}:
        found[_known(opened, _ByDescription).get(word, [])] += 1
    return found


def worded(opened: OpenWorld, phrase: str) -> Mask:
    """Return the items that have all words of a phrase in title, categories and description, shape (n_items,)."""
    met = np.ones(len(opened.world.catalogue), dtype=np.bool_)
    for word in normalize(phrase).split():
        has_it = np.zeros_like(met)
        has_it[_known(opened, _ByWord).get(word, [])] = True
        met &= has_it
    return met


def _known(opened: OpenWorld, kind: type[_ByWord]) -> _ByWord:
    known: _ByWord | None = opened.cache.get(kind)
    if known is None:
        known = kind()
        for position, item in enumerate(opened.world.catalogue):
            named = "" if kind is _ByDescription else item.label
            for word in {*normalize(f"{named} {item.description or ''}").split()}:
                known.setdefault(word, []).append(position)
        opened.cache[kind] = known
    return known
