"""Tuning: on train visits only, in units of the world, and robust against luck."""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from sim.data.sources import load_ratings
from sim.policies import POLICIES
from sim.policies.base import Choose, Knowledge, Policy
from sim.policies.heuristics import DiverseGreedy
from sim.policies.rollout import play
from sim.policies.tuning import DIVERSE_GREEDY, TUNING_USERS, VISITS_A_USER, Axis, Family, Tuned, tune, tune_once, tuned
from sim.world import LogsModel, World
from sim.world.data import ModelName
from tests.unit.sim.policies.test_policies import Forbidden
from tests.waiting import PATIENCE

FAMILIES = {name: policy for name, policy in POLICIES.items() if isinstance(policy, Family)}


@pytest.fixture(scope="module")
def world() -> World:
    return World.build("tiny", load_ratings("tiny", 0))


def test_the_families_are_those_of_the_design() -> None:
    assert list(FAMILIES) == ["diverse_greedy", "genre_greedy", "pop_greedy"]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FAMILIES))
def test_tuning_reads_train_users_and_the_train_table_only(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: dict[ModelName, Any] = dict(world.data.models)
    shielded = World(replace(world.data, models=models | cast(dict[ModelName, Any], {"test": Forbidden()})))
    asked: set[str] = set()
    predictions = shielded.logs.predictions

    def noted(user_id: str) -> Any:
        asked.add(user_id)
        return predictions(user_id)

    monkeypatch.setattr(shielded.logs, "predictions", noted)
    found = tune(FAMILIES[name], shielded)
    train = world.split("train").users[:TUNING_USERS]
    assert asked == set(train)
    # `tuned` tunes in the whole world, once for all tests.
    assert tuned(FAMILIES[name], world) == FAMILIES[name].make(*found.parameters)
    least = len(train) * np.prod([len(axis.values) for axis in FAMILIES[name].axes(world.logs, train)])
    assert found.visits >= least and found.visits % len(train) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FAMILIES))
def test_what_is_tuned_collects_more_than_greedy(world: World, name: str) -> None:
    family = FAMILIES[name]
    users = world.split("train").users

    def total(policy: Policy) -> float:
        return sum(play(policy, world, "train", user)["total_reward"] for user in users)

    axes = family.axes(world.logs, users)
    # The first value of each parameter is that of `greedy`.
    assert total(tuned(family, world)) > 1.5 * total(family.make(*(axis.values[0] for axis in axes)))


def test_the_unit_of_weights_is_that_of_the_world(world: World) -> None:
    logs = world.logs
    users = world.split("train").users

    class Narrow(LogsModel):
        def __init__(self) -> None:
            self.popularity = logs.popularity

        @property
        def vectors(self) -> Any:
            return logs.vectors

        def predictions(self, user_id: str) -> Any:
            return 3 + (logs.predictions(user_id) - 3) / 2

    for name in ("genre_greedy", "pop_greedy"):
        wide, narrow = (FAMILIES[name].axes(one, users) for one in (logs, Narrow()))
        for one, other in zip(wide, narrow, strict=True):
            assert other.values == pytest.approx([weight / 2 for weight in one.values])
            assert other.further == pytest.approx([weight / 2 for weight in one.further])
    pairs = [logs.distance(a, b) for a in range(120) for b in range(a)]
    by_root, by_distance = (FAMILIES[name].axes(logs, users)[0].values[1] for name in ("genre_greedy", "pop_greedy"))
    spread = np.mean([logs.predictions(user).std() for user in users])
    assert by_root == pytest.approx(spread / np.sqrt(np.mean(pairs)), rel=1e-3)
    assert by_distance == pytest.approx(spread / np.mean(pairs), rel=1e-3)


@dataclass(frozen=True)
class Stub:
    """Policy that recommends distant items for `length` steps, then repeats the last one, so that the user leaves."""

    length: int

    def begin(self, knowledge: Knowledge) -> Choose:
        best = DiverseGreedy(1.2).begin(knowledge)
        return lambda recommended: recommended[-1] if len(recommended) >= self.length else best(recommended)


def test_a_lucky_parameter_among_bad_ones_is_not_taken(world: World) -> None:
    rounds = [1, 8, 1, 5, 6, 5]
    users = world.split("train").users[:5]
    alone = Family(lambda place: Stub(rounds[int(place)]), lambda logs, users: (Axis((0.0, 1.0)),))
    assert tune(alone, world, users) == Tuned(parameters=(0.0,), visits=20)
    axis = Axis((0.0, 1.0, 2.0, 3.0, 4.0, 5.0))
    family = Family(lambda place: Stub(rounds[int(place)]), lambda logs, users: (axis,))
    lengths = [np.mean([play(family.make(at), world, "train", user)["length"] for user in users]) for at in (1, 4)]
    assert lengths[0] > lengths[1]
    assert tune(family, world, users).parameters[0] in (4.0, 5.0)


def test_the_grid_goes_on_where_the_best_value_is_its_highest(world: World) -> None:
    rounds = [1, 2, 3, 6, 9, 9, 1, 1]
    users = world.split("train").users[:5]

    def tuned_on(*values: float, further: tuple[float, ...]) -> Tuned:
        axes = (Axis(values, further),)
        return tune(Family(lambda place: Stub(rounds[int(place)]), lambda logs, users: axes), world, users)

    # 0 to 2 rise, so 3, 4 and 5 are tried, and 6, beside which 5 is no longer the best; 7 is not tried.
    assert tuned_on(0.0, 1.0, 2.0, further=(3.0, 4.0, 5.0, 6.0, 7.0)) == Tuned(parameters=(4.0,), visits=70)
    # The grid ends where nothing further is known, and does not go on where the best is inside.
    assert tuned_on(0.0, 1.0, 2.0, further=()) == Tuned(parameters=(2.0,), visits=30)
    assert tuned_on(3.0, 4.0, 5.0, 6.0, 7.0, further=(0.0,)).visits == 50


def test_the_limit_of_visits_is_that_of_the_study(world: World, tmp_path: Path) -> None:
    users = world.split("train").users
    seen = []

    class Watched(Stub):
        def begin(self, knowledge: Knowledge) -> Choose:
            choose = super().begin(knowledge)

            def watched(recommended: Sequence[int]) -> int:
                seen.append(len(recommended))
                return choose(recommended)

            return watched

    family = Family(lambda _: Watched(50), lambda logs, users: (Axis((0.0,)),))
    tune_once(family, world, tmp_path / "found.json", max_steps=3)
    assert max(seen) == 2 and len(seen) <= 3 * VISITS_A_USER * len(users)


def _tune_in(folder: Path, file: Path) -> None:
    tune_once(DIVERSE_GREEDY, World.load(folder), file, max_steps=20)


def test_processes_that_name_one_file_tune_once(world: World, tmp_path: Path) -> None:
    world.save(tmp_path / "tiny")
    file = tmp_path / "diverse_greedy.json"
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=_tune_in, args=(tmp_path / "tiny", file)) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(PATIENCE)
        assert other.exitcode == 0
    written = file.stat().st_mtime_ns
    assert tune_once(DIVERSE_GREEDY, world, file, max_steps=20) == tune(DIVERSE_GREEDY, world, max_steps=20)
    assert file.stat().st_mtime_ns == written
