"""Study stopped just before its last records were written: a resume writes them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from graph.study.runners import LocalRunner
from graph.study.settings import Cell, StudySettings
from graph.study.workers import Work, run_agent
from memory.embeddings import shared_embeddings
from memory.records import Record
from memory.store import ChromaStore
from sim.world.storage import world_checksum

pytestmark = pytest.mark.slow


class Stopped(Exception):
    """Simulated kill."""


def test_what_the_last_visits_taught_is_written_when_it_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StudySettings(
        world="tiny", variants=("billp",), train=2, test=2, visits_per_user=2, recall=("shared",), max_steps=5
    )
    written = 0

    async def counting(self: LocalRunner, records: Sequence[Record], *, private: bool = False) -> None:
        nonlocal written
        written += 1
        if written == stop:
            raise Stopped
        await remember(self, records, private=private)

    remember, stop = LocalRunner.remember, 0
    monkeypatch.setattr(LocalRunner, "remember", counting)

    def memories(folder: Path) -> dict[str, list[Any]]:
        found = {}
        for one in sorted((folder / "memory").iterdir()):
            with ChromaStore(one, embeddings=shared_embeddings()) as store:
                found[one.name] = [(item.place, item.value) for item in store.records()]
        return found

    checksum = world_checksum(home / "worlds" / "tiny")

    def run(folder: Path) -> None:
        asyncio.run(run_agent(Cell("billp", 0), Work(settings, checksum, folder, 2, "", "", None, 0.0, False)))

    run(tmp_path / "whole")
    calls, whole = written, memories(tmp_path / "whole")
    for stop in range(1, calls + 1):
        written = 0
        with pytest.raises(Stopped):
            run(tmp_path / str(stop))
        written = -1_000
        run(tmp_path / str(stop))
        assert memories(tmp_path / str(stop)) == whole, stop
