"""Reinforcement learning: reproducible from a seed, on train users and the train table only."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.policies.heuristics import Random
from sim.policies.rollout import play
from sim.rl.environment import RecommendEnv
from sim.rl.network import NetworkPolicy
from sim.rl.training import RECIPES, check_extra, train
from sim.world import World
from sim.world.data import ModelName
from tests.unit.sim.policies.test_policies import Forbidden

REASON = "the extra `rl` is not installed"


@pytest.fixture(scope="module")
def world() -> World:
    return World.build("tiny", load_ratings("tiny", 0))


def saved(policy: NetworkPolicy, folder: Path) -> list[bytes]:
    policy.save(folder)
    return [file.read_bytes() for file in sorted(folder.iterdir())]


@pytest.mark.parametrize("module", ["torch", "stable_baselines3", "sb3_contrib"])
def test_where_the_extra_is_absent_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadInputError, match=r"'dqn' needs .* CPU build first, .* pip install 'billp\[rl\]'"):
        check_extra("dqn")


def test_what_cannot_be_trained_is_refused(world: World) -> None:
    with pytest.raises(BadInputError, match="choose one of: a2c, dqn, maskable_ppo"):
        train("magic", world, 10)
    with pytest.raises(BadInputError, match="at least 1"):
        train("a2c", world, 0)


@pytest.mark.parametrize("algorithm", list(RECIPES))
def test_a_seed_gives_the_same_policy_again_and_another_seed_another(
    world: World, tmp_path: Path, algorithm: str
) -> None:
    pytest.importorskip("sb3_contrib", reason=REASON)
    heard: list[int] = []
    policy = train(algorithm, world, 400, seed=1, progress=heard.append)
    # Random draws of other code in between have no effect.
    np.random.default_rng().random(3)
    assert saved(policy, tmp_path / "one") == saved(train(algorithm, world, 400, seed=1), tmp_path / "two")
    assert saved(policy, tmp_path / "one") != saved(train(algorithm, world, 400, seed=2), tmp_path / "two")
    assert heard == sorted(heard) and heard[-1] == 400
    training = policy.training
    assert (training.algorithm, training.seed) == (algorithm, 1)
    assert 400 <= training.training_steps <= 500
    # Users leave tiny after 2 to 20 steps.
    assert training.training_steps / 20 < training.training_visits < training.training_steps / 2


@pytest.mark.parametrize("algorithm", list(RECIPES))
def test_only_train_users_and_the_train_table_are_learned_from(world: World, tmp_path: Path, algorithm: str) -> None:
    pytest.importorskip("sb3_contrib", reason=REASON)
    models: dict[ModelName, Any] = dict(world.data.models)
    without_test = World(replace(world.data, models=models | {"test": Forbidden()}))
    policy = train(algorithm, without_test, 200)
    assert saved(policy, tmp_path / "one") == saved(train(algorithm, world, 200), tmp_path / "two")


@pytest.mark.parametrize("algorithm", list(RECIPES))
def test_the_arrays_choose_as_the_trained_network_does(
    world: World, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """Compare with Stable-Baselines3's own policy, including items that the mask excludes."""
    pytest.importorskip("sb3_contrib", reason=REASON)
    import sb3_contrib
    import stable_baselines3

    package, name = {
        "a2c": (stable_baselines3, "A2C"),
        "dqn": (stable_baselines3, "DQN"),
        "maskable_ppo": (sb3_contrib, "MaskablePPO"),
    }[algorithm]
    models: list[Any] = []
    make = getattr(package, name)

    def keep(*args: Any, **kwargs: Any) -> Any:
        models.append(make(*args, **kwargs))
        return models[-1]

    monkeypatch.setattr(package, name, keep)
    policy = train(algorithm, world, 400)
    env = RecommendEnv(world, "dev")
    for user_id in world.split("dev").users:
        observation, _ = env.reset(options={"user_id": user_id})
        for _ in range(3):
            chosen, _ = models[0].predict(observation, deterministic=True)
            assert int(chosen) == int(np.argmax(policy.scores(observation)))
            observation, _, terminated, _, _ = env.step(np.int64(chosen))
            if terminated:
                break


def test_training_pays(world: World) -> None:
    """A check that the trained policy is used, and not inverted; the size of the gain is not measured."""
    pytest.importorskip("sb3_contrib", reason=REASON)

    def mean(policy: Random | NetworkPolicy) -> float:
        users = world.split("train").users
        return sum(play(policy, world, "train", user)["total_reward"] for user in users) / len(users)

    assert mean(train("a2c", world, 10_000)) > 1.5 * mean(Random())
