"""Consistency check of HNSW files: accepts complete files written by Chroma, rejects torn ones."""

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import cast

import chromadb
import numpy as np
import pytest
from chromadb.api.client import Client
from chromadb.api.collection_configuration import CreateCollectionConfiguration

from memory.chroma.hnsw import HEADER, LINK_LISTS, ROWS, Header, is_consistent

DIMENSION = 8
ELEMENTS = 400
WIDTH = 17
"""Numbers in a list of links above layer 0."""
Change = Callable[[bytearray], object]


def written(folder: Path, elements: int, deleted: int = 0) -> Path:
    """Let Chroma write an index of some elements, with some replaced or deleted, and return its folder."""
    client = cast(Client, chromadb.PersistentClient(folder))
    often: CreateCollectionConfiguration = {"hnsw": {"space": "ip", "batch_size": 5, "sync_threshold": 10}}
    collection = client.create_collection("vectors", configuration=often)
    vectors = np.random.default_rng(0).normal(size=(elements, DIMENSION)).astype(np.float32)
    for start in range(0, elements, 10):
        ids = [str(number) for number in range(start, min(start + 10, elements))]
        collection.upsert(ids=ids, embeddings=vectors[start : start + 10])
        collection.upsert(ids=ids[:3], embeddings=vectors[start : start + 3][::-1])
    if deleted:
        collection.delete(ids=[str(number) for number in range(deleted)])
    client.close()
    (header,) = folder.glob(f"*/{HEADER}")
    return header.parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("whole"), ELEMENTS, deleted=20)


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def header(index: Path) -> Header:
    return Header(*struct.unpack("<i6QiI3QdQ", (index / HEADER).read_bytes()))


def change(file: Path, how: Change) -> None:
    content = bytearray(file.read_bytes())
    how(content)
    file.write_bytes(content)


def put(place: int, number: int, form: str = "<I") -> Change:
    """Return a change that writes a number at an offset, counted from the end if negative."""
    return lambda content: struct.pack_into(form, content, place, number)


def sizes(index: Path) -> list[int]:
    """Return the offsets of the sizes of each element's lists."""
    links, places, at = (index / LINK_LISTS).read_bytes(), [], 0
    while at < len(links):
        places.append(at)
        at += 4 + int(struct.unpack_from("<I", links, at)[0])
    return places


@pytest.mark.parametrize(("elements", "deleted"), [(1, 0), (10, 0), (10, 10), (60, 5), (ELEMENTS, 200)])
def test_what_chroma_has_written_holds(tmp_path: Path, elements: int, deleted: int) -> None:
    index = written(tmp_path, elements, deleted)
    assert is_consistent(index)
    assert deleted or elements < 10 or header(index).elements >= elements


def test_the_index_here_has_what_is_damaged_below(index: Path) -> None:
    assert is_consistent(index) and header(index).top >= 2 and len(sizes(index)) == header(index).elements == ELEMENTS


def test_where_nothing_is_laid_down_yet_nothing_is_torn(tmp_path: Path) -> None:
    assert is_consistent(tmp_path) and is_consistent(tmp_path / "nowhere")


@pytest.mark.parametrize("file", [HEADER, ROWS, LINK_LISTS])
def test_a_file_that_is_cut_is_found_out(index: Path, file: str) -> None:
    content = (index / file).read_bytes()
    for part in (0, 1, len(content) // 2, len(content) - 1):
        (index / file).write_bytes(content[:part])
        assert not is_consistent(index), part
    if file != HEADER:
        (index / file).unlink()
        assert not is_consistent(index)


def test_a_size_that_is_torn_is_found_out_wherever_it_stands(index: Path) -> None:
    places = sizes(index)
    content = (index / LINK_LISTS).read_bytes()
    for place in random.Random(0).sample(places, 40):
        for size in (1, 4 * WIDTH + 4, 4 * WIDTH * (header(index).top + 1), 1_353_687_424, 2**32 - 1):
            change(index / LINK_LISTS, put(place, size))
            assert not is_consistent(index), (place, size)
            (index / LINK_LISTS).write_bytes(content)
    assert is_consistent(index)


def test_a_level_that_shifts_all_that_follows_is_found_out(index: Path) -> None:
    links = (index / LINK_LISTS).read_bytes()
    found = [place for place in sizes(index) if links[place : place + 4] == bytes(4)]
    assert len(found) > 10
    for place in found[:-1:9]:
        change(index / LINK_LISTS, put(place, 4 * WIDTH))
        assert not is_consistent(index), place
        (index / LINK_LISTS).write_bytes(links)


def first_above(index: Path) -> int:
    """Return the offset of the first list of links above layer 0."""
    links = (index / LINK_LISTS).read_bytes()
    return 4 + next(place for place in sizes(index) if links[place : place + 4] != bytes(4))


def first_below(index: Path) -> int:
    return 0


@pytest.mark.parametrize(
    ("file", "where", "most"), [(ROWS, first_below, 32), (LINK_LISTS, first_above, 16)], ids=["below", "above"]
)
def test_a_link_that_leads_nowhere_is_found_out(
    index: Path, file: str, where: Callable[[Path], int], most: int
) -> None:
    place, content = where(index), (index / file).read_bytes()
    for at, number in [(place, most + 1), (place, 65_535), (place + 4, ELEMENTS), (place + 4, 2**32 - 1)]:
        change(index / file, put(at, number))
        assert not is_consistent(index), (at, number)
        (index / file).write_bytes(content)


def test_a_link_to_an_element_that_is_not_in_the_layer_is_found_out(index: Path) -> None:
    links = (index / LINK_LISTS).read_bytes()
    low = next(number for number, place in enumerate(sizes(index)) if links[place : place + 4] == bytes(4))
    change(index / LINK_LISTS, put(first_above(index) + 4, low))
    assert not is_consistent(index)


@pytest.mark.parametrize(
    "how",
    [
        put(20, ELEMENTS + 1),
        put(20, 10**12, "<Q"),
        put(52, 1),
        put(52, 60),
        put(52, -7, "<i"),
        put(56, ELEMENTS),
        put(28, 8, "<Q"),
        put(4, 8, "<Q"),
        put(36, 2**40, "<Q"),
        put(44, 2**40, "<Q"),
        put(44, 0, "<Q"),
        put(60, 8, "<Q"),
        put(68, 8, "<Q"),
        put(76, 2**40, "<Q"),
    ],
    ids=[
        *("one more", "many more", "lower top", "higher top", "no top", "entry", "row size"),
        *("start", "label", "vector", "vector first", "links above", "links below", "links of a new one"),
    ],
)
def test_a_header_of_another_time_is_found_out(index: Path, how: Change) -> None:
    change(index / HEADER, how)
    assert not is_consistent(index)


def test_a_layout_that_is_not_known_is_left_to_chroma(index: Path) -> None:
    change(index / HEADER, put(0, 2))
    (index / LINK_LISTS).unlink()
    assert is_consistent(index)
