"""Queue of writes: waiting chunks are joined, none is lost, and none overtakes another."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from memory.chroma.errors import StoreError
from memory.chroma.layout import CHUNK, Chunk, Write
from memory.writer import Writer
from tests.waiting import PATIENCE

VECTOR = np.ones((1, 2), dtype=np.float32)


def chunk(*keys: str, kind: str = "lessons", text: str = "{}") -> Chunk:
    return Chunk((kind, "w"), main_rows=[Write((kind, "w", "u"), key, text, ("$",), VECTOR) for key in keys])


class Disk:
    """Disk that logs each write, and blocks it until the test opens the disk."""

    def __init__(self) -> None:
        self.calls: list[Chunk] = []
        self.open = threading.Event()
        self.reached = threading.Event()
        self.fault: Exception | None = None

    def write(self, chunk: Chunk) -> None:
        self.calls.append(chunk)
        self.reached.set()
        assert self.open.wait(PATIENCE)
        if self.fault and len(self.calls) > 1:
            raise self.fault

    def keys(self) -> list[list[str]]:
        return [[write.key for write in call.main_rows] for call in self.calls]


@pytest.fixture
def disk() -> Disk:
    return Disk()


def written(disk: Disk, *waiting: Chunk, cancel: int | None = None) -> list[BaseException | None]:
    """Write a first chunk, queue the others meanwhile, and return the error of each of these, None on success."""
    with ThreadPoolExecutor(1) as worker:
        writer = Writer(worker, disk.write)
        first = writer.submit(chunk("first"))
        assert disk.reached.wait(PATIENCE)
        futures = [writer.submit(one) for one in waiting]
        if cancel is not None:
            assert futures.pop(cancel).cancel()
        disk.open.set()
        first.result(PATIENCE)
        return [future.exception(10) for future in futures]


def test_what_waits_is_written_together_by_collection(disk: Disk) -> None:
    waiting = [chunk("a"), chunk("v", kind="values"), chunk("b"), chunk("w", kind="values"), chunk("c", "d")]
    assert written(disk, *waiting) == [None] * 5
    assert disk.keys() == [["first"], ["a", "b", "c", "d"], ["v", "w"]]


def test_a_call_never_has_more_rows_than_a_chunk_may(disk: Disk) -> None:
    part = CHUNK // 3
    written(disk, *(chunk(*(f"{n}-{m}" for m in range(part))) for n in range(7)))
    assert [len(keys) for keys in disk.keys()] == [1, 3 * part, 3 * part, part] and 3 * part < CHUNK


def test_two_writes_to_one_record_stay_apart_and_in_order(disk: Disk) -> None:
    written(disk, chunk("a", text="1"), chunk("b"), chunk("a", text="2"), chunk("c"))
    assert disk.keys() == [["first"], ["a", "b"], ["a", "c"]]
    assert [call.main_rows[0].text for call in disk.calls[1:]] == ["1", "2"]


def test_a_fault_reaches_everybody_whose_write_it_was(disk: Disk) -> None:
    disk.fault = StoreError("the disk is full")
    assert written(disk, chunk("a"), chunk("b")) == [disk.fault] * 2


def test_a_write_that_was_cancelled_before_its_turn_is_not_written(disk: Disk) -> None:
    assert written(disk, chunk("a"), chunk("b"), chunk("c"), cancel=1) == [None, None]
    assert disk.keys() == [["first"], ["a", "c"]]
