"""Words in the descriptions of a catalogue's items, where a source has such texts."""

from collections.abc import Sequence

import numpy as np

from nodes.tools.open_world import OpenWorld
from nodes.tools.titles import normalize
from sim.arrays import Positions


class _Descriptions(dict[str, list[int]]):
    """Positions of the items whose description has a word, by folded word."""


def described_by(opened: OpenWorld, words: Sequence[str]) -> Positions:
    """Return how many of some words stand in the description of each item, shape (n_items,).

    Case and accents do not count. An embedding of whole descriptions would tell more of their style than of what a
    person asks for, and is slow to make.
    """
    catalogue = opened.world.catalogue
    found = np.zeros(len(catalogue), dtype=np.intp)
    for word in {normalize(one) for one in words}:
        found[_positions_by_word(opened).get(word, [])] += 1
    return found


def _positions_by_word(opened: OpenWorld) -> _Descriptions:
    known: _Descriptions | None = opened.cache.get(_Descriptions)
    if known is None:
        known = _Descriptions()
        for position, item in enumerate(opened.world.catalogue):
            for word in {*normalize(item.description or "").split()}:
                known.setdefault(word, []).append(position)
        opened.cache[_Descriptions] = known
    return known
