"""Consistency check of an HNSW index in the file format that hnswlib writes for Chroma.

Chroma trusts these files: one size torn by a kill makes it read past the end, or write a file of many gigabytes
(chroma-core/chroma#7510). Each element has a level, and has links to other elements in every layer up to that level.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HEADER, ROWS, LINK_LISTS = "header.bin", "data_level0.bin", "link_lists.bin"
LAYOUT_VERSION = 1
"""Version of the file format that is checked. Other versions are left to Chroma."""
WORD = 4
"""Bytes of a number in a list of links: first their count, in the lower half of its number, then the elements."""
ELEMENTS_AT_ONCE = 50_000
"""Elements checked at a time."""
_LAYOUT = struct.Struct("<i6QiI3QdQ")

Words = NDArray[np.uint32]


class Header(NamedTuple):
    """Fields of a header file, in order."""

    version: int
    start: int
    room: int
    elements: int
    row_size: int
    """Bytes of an element in `ROWS`: its links in layer 0, vector and label."""
    label_offset: int
    vector_offset: int
    top: int
    """Highest level."""
    entry: int
    """Start element of a search, at the highest level."""
    most: int
    """Largest number of links in a layer above 0."""
    most_below: int
    """Largest number of links in layer 0."""
    wanted: int
    factor: float
    breadth: int


def holds_together(index: Path) -> bool:
    """Return whether the files of an index are consistent. True if there are no files yet.

    Args:
        index: Folder of the index. No process may write to it meanwhile.
    """
    if not (index / HEADER).exists():
        return True
    read = (index / HEADER).read_bytes()
    if len(read) < _LAYOUT.size:
        return False
    header = Header(*_LAYOUT.unpack_from(read))
    if header.version != LAYOUT_VERSION or header.elements == 0:
        return True
    if header.elements > header.room or header.entry >= header.elements or header.top < 0:
        return False
    return _holds_below(index / ROWS, header) and _holds_above(index / LINK_LISTS, header)


def _holds_below(file: Path, header: Header) -> bool:
    """Return whether all elements are present, with links to existing elements in layer 0."""
    width = 1 + header.most_below
    if header.row_size < width * WORD or not _has(file, header.elements * header.row_size):
        return False
    rows = np.memmap(file, np.uint8, "r", shape=(header.elements, header.row_size))
    for start in range(0, header.elements, ELEMENTS_AT_ONCE):
        lists = np.ascontiguousarray(rows[start : start + ELEMENTS_AT_ONCE, : width * WORD]).view(np.uint32)
        if _elements(lists, header.most_below, header.elements) is None:
            return False
    return True


def _holds_above(file: Path, header: Header) -> bool:
    """Return whether each element's link lists have the size of its level, and link to elements of the same layer."""
    width = 1 + header.most
    if not _has(file, header.elements * WORD):
        return False
    words: Words = np.memmap(file, np.uint32, "r", shape=(file.stat().st_size // WORD,))
    levels = np.zeros(header.elements, dtype=np.int64)
    lists: list[tuple[int, int]] = []
    """Layer and position of each list."""
    sizes, at = words.data, 0
    for element in range(header.elements):
        if at >= len(sizes):
            return False
        level, torn = divmod(sizes[at], width * WORD)
        at += 1
        if torn or level > header.top or at + level * width > len(sizes):
            return False
        levels[element] = level
        lists += [(layer, at + (layer - 1) * width) for layer in range(1, level + 1)]
        at += level * width
    return bool(levels[header.entry] == header.top) and _links_hold(words, lists, levels, header.most)


def _links_hold(words: Words, lists: Sequence[tuple[int, int]], levels: NDArray[np.int64], most: int) -> bool:
    for start in range(0, len(lists), ELEMENTS_AT_ONCE):
        layers, places = np.array(lists[start : start + ELEMENTS_AT_ONCE]).T
        linked = _elements(words[places[:, None] + np.arange(1 + most)], most, len(levels))
        if linked is None:
            return False
        row, element = linked
        if (levels[element] < layers[row]).any():
            return False
    return True


def _elements(lists: Words, most: int, elements: int) -> tuple[NDArray[np.intp], Words] | None:
    """Return row and element of all links in lists, (n, 1 + most). None if a count or an element is out of range."""
    counts = lists[:, 0] & 0xFFFF
    if (counts > most).any():
        return None
    row, place = np.nonzero(np.arange(most) < counts[:, None])
    linked = lists[row, 1 + place]
    return None if (linked >= elements).any() else (row, linked)


def _has(file: Path, size: int) -> bool:
    return file.exists() and file.stat().st_size >= size
