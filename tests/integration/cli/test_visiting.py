"""Visit of the command line that is stopped and resumed in this process."""

import asyncio
from typing import Any

import pytest

from graph.local_run import LocalVisit, resume_episode, run_episode
from nodes.context import Context
from nodes.state import VisitInput

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
