"""The files of an index, as hnswlib lays them down in Chroma: whether what they say of one another holds.

Chroma believes them: one size that a kill has torn makes it read past the end, or write a file of many gigabytes
(chroma-core/chroma#7510). An element has a level; it is linked to others in each layer up to that.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HEADER, ROWS, LINKS = "header.bin", "data_level0.bin", "link_lists.bin"
LAYOUT_VERSION = 1
"""Of the layout that is known here; another one is for Chroma to judge."""
WORD = 4
"""Bytes of a number in a list of links: how many there are, in its lower half, and then the elements."""
PAGE = 50_000
"""Elements looked at in one go."""
_LAYOUT = struct.Struct("<i6QiI3QdQ")

Words = NDArray[np.uint32]


class Header(NamedTuple):
    """What a header says, in order."""

    version: int
    start: int
    room: int
    elements: int
    row_size: int
    """Bytes of an element in `ROWS`: its links in layer 0, vector and label."""
    label_offset: int
    vector_offset: int
    top: int
    """Greatest level."""
    entry: int
    """Element at which a search begins, of the greatest level."""
    most: int
    """Links in a layer above 0."""
    most_below: int
    """Links in layer 0."""
    wanted: int
    factor: float
    breadth: int


def holds_together(index: Path) -> bool:
    """Say whether the files of an index can be believed; also where there are none yet.

    Args:
        index: The folder of the index. It may be written by nobody meanwhile.
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
    return _holds_below(index / ROWS, header) and _holds_above(index / LINKS, header)


def _holds_below(file: Path, header: Header) -> bool:
    """Say whether all elements are there, and linked to such in layer 0."""
    width = 1 + header.most_below
    if header.row_size < width * WORD or not _has(file, header.elements * header.row_size):
        return False
    rows = np.memmap(file, np.uint8, "r", shape=(header.elements, header.row_size))
    for start in range(0, header.elements, PAGE):
        lists = np.ascontiguousarray(rows[start : start + PAGE, : width * WORD]).view(np.uint32)
        if _elements(lists, header.most_below, header.elements) is None:
            return False
    return True


def _holds_above(file: Path, header: Header) -> bool:
    """Say whether the lists of each element have its level's size, and link it to such of their layer."""
    width = 1 + header.most
    if not _has(file, header.elements * WORD):
        return False
    words: Words = np.memmap(file, np.uint32, "r", shape=(file.stat().st_size // WORD,))
    levels = np.zeros(header.elements, dtype=np.int64)
    lists: list[tuple[int, int]] = []
    """Layer and place of each."""
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
    for start in range(0, len(lists), PAGE):
        layers, places = np.array(lists[start : start + PAGE]).T
        linked = _elements(words[places[:, None] + np.arange(1 + most)], most, len(levels))
        if linked is None:
            return False
        row, element = linked
        if (levels[element] < layers[row]).any():
            return False
    return True


def _elements(lists: Words, most: int, elements: int) -> tuple[NDArray[np.intp], Words] | None:
    """Return which row links to which element, for all links of lists, (n, 1 + most); None where one cannot be."""
    counts = lists[:, 0] & 0xFFFF
    if (counts > most).any():
        return None
    row, place = np.nonzero(np.arange(most) < counts[:, None])
    linked = lists[row, 1 + place]
    return None if (linked >= elements).any() else (row, linked)


def _has(file: Path, size: int) -> bool:
    return file.exists() and file.stat().st_size >= size
