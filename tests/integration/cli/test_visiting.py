"""Visit of the command line that is stopped and resumed in this process."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from graph.checkpoints import CHECKPOINTS
from graph.local_run import VISIT_FILE, LocalVisit, resume_episode, run_episode
from nodes.context import Context
from nodes.state import VisitInput
from sim.atomic_files import locked_folder
from sim.errors import BadInputError

pytestmark = pytest.mark.usefixtures("home")


def stop_at_second(step: Any) -> None:
    if step.index == 1:
        raise KeyboardInterrupt


async def test_nothing_of_a_stopped_visit_goes_on_and_it_can_be_resumed() -> None:
    begun = LocalVisit(variant="billp", visit=VisitInput(world="tiny", max_steps=8), context=Context(), remember=False)
    with pytest.raises(KeyboardInterrupt):
        await run_episode(begun, stop_at_second)
    # An unfinished write of a checkpoint would keep the file locked for a resume.
    assert asyncio.all_tasks() == {asyncio.current_task()}
    _, resumed = await resume_episode(lambda step: None)
    whole = await run_episode(begun, lambda step: None)
    assert resumed.steps == whole.steps and len(whole.steps) > 2


async def test_what_a_kill_left_of_a_visit_that_had_ended_is_deleted_and_a_visit_that_begins_is_not(home: Path) -> None:
    visits = home / "visits"
    (visits / "ended").mkdir(parents=True)
    (visits / "ended" / CHECKPOINTS).write_bytes(b"")
    (visits / "notes.txt").write_text("of somebody")
    with locked_folder(visits / "begins"):
        with pytest.raises(BadInputError, match="there is no unfinished visit"):
            await resume_episode(lambda step: None)
        assert sorted(one.name for one in visits.iterdir()) == ["begins", "notes.txt"]


async def test_a_visit_takes_another_folder_if_its_own_is_deleted_as_a_leftover(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["taken", "free"])
    monkeypatch.setattr("graph.local_run.uuid4", lambda: next(names))
    begun = LocalVisit(variant="billp", visit=VisitInput(world="tiny", max_steps=8), context=Context(), remember=False)
    with locked_folder(home / "visits" / "taken"), pytest.raises(KeyboardInterrupt):
        await run_episode(begun, stop_at_second)
    assert [file.parent.name for file in (home / "visits").glob(f"*/{VISIT_FILE}")] == ["free"]
