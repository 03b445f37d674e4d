"""World that is replaced while a study runs: its visits are not mixed with those of the former world."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graph.study import run_study
from graph.study.settings import StudySettings
from graph.study.workers import run_cells
from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.world import World
from tests.integration.study.run_files import contents
from tests.integration.study.test_study import Heard

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("variant", ["random", "billp"])
def test_a_world_replaced_while_a_study_runs_is_refused_and_the_former_one_resumes_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    settings = StudySettings(world="tiny", variants=(variant,), train=2, test=2, cohort=2, max_steps=3)
    world, former = home / "worlds" / "tiny", home / "former"

    def run(name: str) -> dict[str, bytes]:
        return contents(run_study(settings, name, concurrency=2, processes=1, progress=Heard()))

    def replacing(*given: Any) -> Iterator[Any]:
        world.rename(former)
        World.build("tiny", load_ratings("tiny", 1)).save(world)
        yield from run_cells(*given)

    with monkeypatch.context() as patch, pytest.raises(BadInputError, match="was replaced while the study ran"):
        patch.setattr("graph.study.run.run_cells", replacing)
        run("stopped")
    shutil.rmtree(world)
    former.rename(world)
    assert run("stopped") == run("whole")
