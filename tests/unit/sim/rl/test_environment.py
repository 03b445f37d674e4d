"""Gymnasium environment: its contract, its observations, and its limits."""

import copy
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.policies import POLICIES, run_visit
from sim.policies.base import Knowledge, visit_rng
from sim.rl.environment import ENVIRONMENT, Observer, RecommendEnv
from sim.world import World
from sim.world.data import ModelName
from sim.world.factor_model import FactorModel
from tests import processes
from tests.unit.sim.policies.test_policies import Forbidden, allowing_known, reachable


@pytest.fixture(scope="module")
def world() -> World:
    return World.build("tiny", load_ratings("tiny", 0))


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("worlds") / "tiny"
    world.save(path)
    return path


def with_tables(world: World, **changes: Any) -> World:
    """Return the world with both tables changed and the same logs model."""
    models: dict[ModelName, Any] = dict(world.data.models)
    tables: dict[ModelName, Any] = {name: replace(models[name], **changes) for name in ("train", "test")}
    return World(replace(world.data, models=models | tables))


def patient(world: World) -> World:
    """Return the world with users who like every item and accept similar items."""
    bias = np.full(len(world.catalogue), 9, dtype=np.float32)
    return with_tables(world, tau=-1.0, item_bias=bias)


def test_gymnasium_finds_nothing_to_correct_or_to_warn_of(folder: Path) -> None:
    env = gymnasium.make(ENVIRONMENT, world=folder, split="dev", max_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    assert isinstance(env.unwrapped, RecommendEnv)


def test_a_world_given_as_such_is_shared_by_the_specifications_of_its_environment(world: World) -> None:
    env = gymnasium.make(ENVIRONMENT, world=world, split="dev")
    assert env.spec is not None and env.spec.kwargs["world"] is world
    again = gymnasium.make(env.spec).unwrapped
    assert isinstance(again, RecommendEnv) and again.world is world
    gymnasium.make_vec(ENVIRONMENT, num_envs=2, vectorization_mode="sync", world=world).reset(seed=0)


def test_it_is_registered_by_its_import_alone(folder: Path) -> None:
    code = (
        f"import gymnasium; env = gymnasium.make('sim.rl.environment:{ENVIRONMENT}', world={str(folder)!r}); "
        "env.reset()"
    )
    processes.run([sys.executable, "-c", code], check=True)


def test_stable_baselines3_takes_it_and_its_masks(folder: Path) -> None:
    # Not a development dependency, because it installs torch, which is larger than all others together.
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker", reason="the extra `rl` is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3.check_env(RecommendEnv(folder))
    contrib = pytest.importorskip("sb3_contrib", reason="the extra `rl` is not installed")
    env = gymnasium.make(ENVIRONMENT, world=folder)
    contrib.MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, device="cpu").learn(128)


@pytest.mark.parametrize("name", ["random", "popular", "greedy"])
def test_an_episode_is_the_visit_that_a_study_plays(world: World, name: str) -> None:
    env = RecommendEnv(world, "dev", max_steps=12)
    for user_id in world.split("dev").users:
        visit = run_visit(name, world, "dev", user_id, max_steps=12)
        policy: Any = POLICIES[name]
        user = world.users[user_id]
        known = world.withheld(user.history)
        choose = policy.begin(Knowledge(world.catalogue, world.logs, user, visit_rng(0, user_id), known=known))
        env.reset(options={"user_id": user_id})
        played: list[int] = []
        total, over = 0.0, False
        while not over:
            played.append(choose(played))
            _, reward, terminated, truncated, info = env.step(np.int64(played[-1]))
            total, over = total + reward, terminated or truncated
        assert [world.catalogue[one].id for one in played] == [step["item_id"] for step in visit["steps"]]
        assert total == pytest.approx(visit["total_reward"])
        assert (terminated, truncated) == (visit["left"], not visit["left"])
        assert info["leave_reason"] == visit["leave_reason"]


def test_leaving_at_the_last_round_is_no_truncation(world: World) -> None:
    env = RecommendEnv(world, max_steps=2)
    env.reset(seed=0)
    env.step(np.int64(3))
    _, reward, terminated, truncated, info = env.step(np.int64(3))
    assert (reward, terminated, truncated, info["leave_reason"]) == (0.0, True, False, "repeat")


def test_the_limit_truncates_a_user_who_stays(world: World) -> None:
    env = RecommendEnv(patient(world), max_steps=2)
    env.reset(seed=0)
    assert env.step(np.int64(3))[1:4] == (5.0, False, False)
    assert env.step(np.int64(4))[1:4] == (5.0, False, True)


def test_the_seed_of_a_reset_decides_all_that_is_drawn(world: World) -> None:
    env, other = RecommendEnv(world), RecommendEnv(world)

    def users(env: RecommendEnv, seed: int) -> list[str]:
        return [env.reset(seed=seed if number == 0 else None)[1]["user_id"] for number in range(20)]

    assert users(env, 7) == users(other, 7) != users(other, 8)
    assert len({*users(env, 7)}) > 5


def test_only_users_of_the_pool_visit(world: World) -> None:
    pool = world.split("test").users[:2]
    env = RecommendEnv(world, "test", pool)
    assert {env.reset(seed=seed)[1]["user_id"] for seed in range(30)} == {*pool}


def test_the_mask_leaves_out_what_the_history_holds_while_anything_else_is_left(world: World) -> None:
    env = RecommendEnv(patient(world), max_steps=500)
    _, info = env.reset(seed=0)
    known = {*world.withheld(world.users[info["user_id"]].history).tolist()}
    assert set(np.flatnonzero(info["action_mask"] == 0)) == known != set()
    for action in np.flatnonzero(info["action_mask"]):
        info = env.step(action)[-1]
    assert set(np.flatnonzero(info["action_mask"])) == known


def test_the_mask_leaves_out_what_the_visit_had(world: World) -> None:
    env = RecommendEnv(allowing_known(patient(world)), max_steps=500)
    _, info = env.reset(seed=0)
    assert info["action_mask"].all() and info["action_mask"].dtype == np.int8
    env.action_space.seed(0)
    had: list[int] = []
    for _ in range(len(world.catalogue)):
        action = env.action_space.sample(mask=info["action_mask"])
        assert action not in had
        had.append(int(action))
        info = env.step(action)[-1]
        assert (info["action_mask"] == env.action_masks()).all()
    # After all items were recommended, the mask excludes the last four.
    assert set(np.flatnonzero(~env.action_masks())) == {*had[-4:]}


def test_what_was_handed_out_stays_as_it_was(world: World) -> None:
    env = RecommendEnv(allowing_known(patient(world)))
    begun, info = env.reset(seed=0)
    before, mask = begun.copy(), env.action_masks()
    env.step(np.int64(5))
    assert (begun == before).all() and info["action_mask"].all() and mask.all()
    begun[:] = 9
    assert (env.step(np.int64(6))[0] != 9).all()


def test_an_observation_is_taste_and_the_last_four_items_with_their_ratings(world: World) -> None:
    env = RecommendEnv(patient(world), "dev")
    user = world.users[world.split("dev").users[0]]
    begun, _ = env.reset(options={"user_id": user.id})
    vectors, factors = world.logs.vectors, world.logs.vectors.shape[1]
    mean = sum(user.ratings) / len(user.ratings)
    taste = sum(
        (rating - mean) * vectors[world.catalogue.position(item)]
        for item, rating in zip(user.history, user.ratings, strict=True)
    ) / len(user.ratings)
    assert begun[:factors] == pytest.approx(taste, abs=1e-5)
    assert begun[factors] == pytest.approx(mean)
    assert not begun[factors + 1 :].any()
    for action in (10, 11, 12, 13, 14):
        observation = env.step(np.int64(action))[0]
    assert (observation[: factors + 1] == begun[: factors + 1]).all()
    assert (observation[factors + 1 : -4] == vectors[[14, 13, 12, 11]].ravel()).all()
    assert list(observation[-4:]) == [5.0] * 4
    assert observation.dtype == np.float32 and env.observation_space.contains(observation)


def test_no_observation_reads_a_table(world: World) -> None:
    """As for policies: the observer has no path to a table, and other tables give the same observations."""
    models: dict[ModelName, Any] = dict(world.data.models)
    forbidden: dict[ModelName, Any] = {"train": Forbidden(), "test": Forbidden()}
    blind = World(replace(world.data, models=models | forbidden))
    observer = Observer(blind.catalogue, blind.logs)
    everything = reachable(observer)
    assert not any(isinstance(found, Forbidden) for found in everything)
    assert not any(found is models[table] for found in reachable(RecommendEnv(world).observer) for table in forbidden)
    env, factors = RecommendEnv(world, "test"), world.logs.vectors.shape[1]
    other = RecommendEnv(patient(world), "test")
    for user_id in world.split("test").users:
        begun, info = env.reset(options={"user_id": user_id})
        again, told = other.reset(options={"user_id": user_id})
        assert (begun == again).all() and (begun == observer.begin(blind.users[user_id])).all()
        assert info.keys() == told.keys() == {"user_id", "action_mask"}
        observed = [one.step(np.int64(8))[0] for one in (env, other)]
        # Only the user's rating differs between the worlds.
        differ = set(np.flatnonzero(observed[0] != observed[1]))
        assert differ <= {factors + 1 + 4 * factors}
    assert differ


def test_the_guard_notices_who_may_read_a_table(world: World) -> None:
    env = RecommendEnv(world, "test")
    env.reset(seed=0)
    assert any(isinstance(found, FactorModel) and found is world.data.models["test"] for found in reachable(env))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "evening"}, "there is no split 'evening'"),
        ({"users": []}, "no user to visit"),
        ({"users": ["nobody"]}, "'nobody' is not a user of the split 'train'"),
        ({"max_steps": 0}, "at least 1"),
        ({"render_mode": "human"}, "no render_mode 'human'; choose None or 'ansi'"),
        ({"world": "/nowhere"}, "/nowhere"),
    ],
)
def test_bad_arguments_are_refused(world: World, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        RecommendEnv(**{"world": world} | arguments)


def test_a_step_needs_a_visit_and_an_item(world: World) -> None:
    env = RecommendEnv(patient(world), max_steps=1)
    with pytest.raises(BadInputError, match="reset"):
        env.step(np.int64(0))
    for options, message in [({"user": "1"}, "no option 'user'"), ({"user_id": "nobody"}, "'nobody' is not one of")]:
        with pytest.raises(BadInputError, match=message):
            env.reset(options=options)
    env.reset(seed=0)
    for action in (-1, len(world.catalogue)):
        with pytest.raises(BadInputError, match="positions run from 0"):
            env.step(np.int64(action))
    for odd in (2.5, np.float64(2), "2", None):
        with pytest.raises(BadInputError, match="no whole number"):
            env.step(odd)  # type: ignore[arg-type]
    env.step(np.int64(0))
    with pytest.raises(BadInputError, match="after each visit"):
        env.step(np.int64(1))


def test_a_visit_is_drawn_as_text(world: World) -> None:
    env = gymnasium.make(ENVIRONMENT, world=world, render_mode="ansi")
    _, info = env.reset(seed=0)
    assert env.render() == f"user {info['user_id']}"
    first = world.catalogue[3]
    reward = env.step(np.int64(3))[1]
    env.unwrapped.step(np.int64(3))
    assert str(env.render()).splitlines()[1:] == [
        f"  1  {reward:.2f}  {first.title} ({', '.join(first.genres)})",
        f"  2  {world.split('train').reward(info['user_id'], first.id):.2f}  {first.title} ({', '.join(first.genres)})",
        "left: repeat",
    ]
    assert gymnasium.make(ENVIRONMENT, world=world, render_mode=None).unwrapped.render() is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])  # noqa: S301
def test_a_copy_continues_the_visit_by_itself(world: World, copied: Callable[[Any], Any]) -> None:
    env = gymnasium.make(ENVIRONMENT, world=patient(world), users=world.split("train").users[:5])
    env.reset(seed=0)
    env.step(np.int64(3))
    other = copied(env)
    assert other.unwrapped.world.split("train").users == world.split("train").users

    def go_on(env: Any) -> list[Any]:
        observation, *rest = env.step(np.int64(5))
        # The next users are drawn by the same numbers.
        return [
            observation.tolist(),
            rest[:3],
            rest[3]["action_mask"].tolist(),
            *(env.reset()[1]["user_id"] for _ in "123"),
        ]

    assert go_on(other) == go_on(env)
