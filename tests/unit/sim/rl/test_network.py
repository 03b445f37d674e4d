"""Policy networks: choice of items and storage; the packages of the extra `rl` are not needed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.policies.base import Knowledge, visit_rng
from sim.policies.rollout import play
from sim.rl.environment import Observer, RecommendEnv
from sim.rl.network import LAYERS, POLICY_MANIFEST, Layer, NetworkPolicy, Training, read_training
from sim.world import World
from sim.world.data import ModelName
from sim.world.factor_model import FactorModel
from tests.unit.sim.policies.test_policies import Forbidden, patient, reachable

NAMES = ("weights_0", "biases_0", "weights_1", "biases_1")
TRAINING = Training(algorithm="a2c", seed=3, settings={}, versions={}, training_steps=300, training_visits=40)


@pytest.fixture(scope="module")
def world() -> World:
    return World.build("tiny", load_ratings("tiny", 0))


def drawn(world: World, seed: int = 0) -> NetworkPolicy:
    """Return a policy with a random network."""
    rng = np.random.default_rng(seed)
    (features,) = Observer(world.catalogue, world.logs).space.shape
    widths = (features, 8, len(world.catalogue))
    layers = tuple(
        Layer(rng.normal(size=(out, into)).astype(np.float32), rng.normal(size=out).astype(np.float32))
        for into, out in zip(widths, widths[1:], strict=False)
    )
    return NetworkPolicy(layers, "tanh", TRAINING)


def by_rating(world: World) -> NetworkPolicy:
    """Return a policy that recommends item 7 if the first item was rated above 3, else item 9."""
    (features,) = Observer(world.catalogue, world.logs).space.shape
    weights = np.zeros((len(world.catalogue), features), dtype=np.float32)
    biases = np.zeros(len(world.catalogue), dtype=np.float32)
    # The last four features are the user's ratings of the last four items, latest first.
    weights[7, features - 4], biases[9] = 1, 3
    return NetworkPolicy((Layer(weights, biases),), "relu", TRAINING)


def knowledge_of(world: World) -> Knowledge:
    user = world.users[world.split("dev").users[0]]
    return Knowledge(world.catalogue, world.logs, user, visit_rng(0, user.id))


def test_a_network_of_two_layers_scores_as_worked_out_by_hand() -> None:
    first = Layer(np.array([[1, 0], [0, -1]], dtype=np.float32), np.array([0, 1], dtype=np.float32))
    last = Layer(np.array([[2, 1], [0, 3]], dtype=np.float32), np.array([0.5, 0], dtype=np.float32))
    observation = np.array([-1, 3], dtype=np.float32)
    # The first layer gives -1 and -2: relu cuts them to 0, tanh compresses them.
    assert NetworkPolicy((first, last), "relu", TRAINING).scores(observation) == pytest.approx([0.5, 0])
    a, b = np.tanh([-1, -2])
    assert NetworkPolicy((first, last), "tanh", TRAINING).scores(observation) == pytest.approx([2 * a + b + 0.5, 3 * b])


@pytest.mark.parametrize(("given", "chosen"), [(4.5, 7), (2.5, 9)])
def test_it_chooses_by_what_the_user_gave_in_this_visit(world: World, given: float, chosen: int) -> None:
    knowledge = knowledge_of(world)
    choose = by_rating(world).begin(knowledge)
    assert choose([]) == 9
    knowledge.ratings.append(given)
    assert choose([3]) == chosen


def test_a_visit_shows_it_the_ratings_and_repeats_nothing(world: World) -> None:
    kind = patient(world, allow_known=True)
    user = kind.split("dev").users[0]
    visit = play(by_rating(kind), kind, "dev", user, max_steps=60)
    played = [world.catalogue.position(step["item_id"]) for step in visit["steps"]]
    # Item 9 first, because there is no rating yet; then 7, because of the 5 stars; then the others, with equal scores.
    assert played[:4] == [9, 7, 0, 1]
    assert len(set(played)) == 60


def test_a_visit_shows_it_what_the_environment_would(world: World) -> None:
    policy, env = drawn(world), RecommendEnv(world, "dev", max_steps=12)
    for user_id in world.split("dev").users:
        observation, info = env.reset(options={"user_id": user_id})
        played, over = [], False
        while not over:
            allowed = np.where(info["action_mask"], policy.scores(observation), -np.inf)
            observation, _, terminated, truncated, info = env.step(np.argmax(allowed))
            played.append(info["item_id"])
            over = terminated or truncated
        visit = play(policy, world, "dev", user_id, max_steps=12)
        assert [step["item_id"] for step in visit["steps"]] == played


def test_it_reads_no_table(world: World) -> None:
    models: dict[ModelName, Any] = dict(world.data.models)
    forbidden: dict[ModelName, Any] = {"train": Forbidden(), "test": Forbidden()}
    blind = World(replace(world.data, models=models | forbidden))
    knowledge = knowledge_of(blind)
    choose = drawn(blind).begin(knowledge)
    recommended: list[int] = []
    for _ in range(30):
        recommended.append(choose(recommended))
        knowledge.ratings.append(3.0)
    assert len(set(recommended)) == 30
    everything = reachable((knowledge, choose))
    assert not any(isinstance(found, Forbidden) for found in everything)
    assert [found for found in everything if isinstance(found, FactorModel)] == [models["logs"]]


def test_what_is_saved_comes_back_and_has_the_same_bytes_again(world: World, tmp_path: Path) -> None:
    policy = drawn(world)
    policy.save(tmp_path / "one")
    policy.save(tmp_path / "two")
    again = NetworkPolicy.load(tmp_path / "one")
    assert (
        (again.activation, again.training) == (policy.activation, TRAINING) == ("tanh", read_training(tmp_path / "two"))
    )
    for layer, former in zip(again.layers, policy.layers, strict=True):
        assert (layer.weights == former.weights).all() and (layer.biases == former.biases).all()
    for name in (POLICY_MANIFEST, LAYERS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"one", "two"}


def test_a_policy_for_another_world_is_refused(world: World) -> None:
    policy = drawn(world)
    narrow = replace(
        policy, layers=(policy.layers[0], Layer(policy.layers[1].weights[1:], policy.layers[1].biases[1:]))
    )
    with pytest.raises(BadInputError, match="another world"):
        narrow.begin(knowledge_of(world))


def rewrite(folder: Path, **arrays: Any) -> None:
    """Replace arrays of a saved policy, and update the checksum."""
    import hashlib

    np.savez(folder / LAYERS, allow_pickle=True, **arrays)
    manifest = json.loads((folder / POLICY_MANIFEST).read_text())
    manifest["checksum"] = hashlib.sha256((folder / LAYERS).read_bytes()).hexdigest()
    (folder / POLICY_MANIFEST).write_text(json.dumps(manifest))


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


def a(*shape: int) -> Any:
    return np.zeros(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / POLICY_MANIFEST).unlink(), "No such file"),
        (lambda folder: (folder / LAYERS).unlink(), "No such file"),
        (lambda folder: (folder / POLICY_MANIFEST).write_text("{"), "JSON"),
        (lambda folder: (folder / POLICY_MANIFEST).write_text('{"format": "else"}'), "format: "),
        (lambda folder: (folder / LAYERS).write_bytes(b"PK"), "checksum"),
        (lambda folder: rewrite(folder, weights_0=a(8, 9)), "no archive of the layers"),
        (lambda folder: rewrite(folder, **dict.fromkeys(NAMES, np.array([Hostile()]))), "no archive of the layers"),
        (lambda folder: rewrite(folder, **dict.fromkeys(NAMES, a(2, 2) * np.nan)), "wrong type or values"),
        (lambda folder: rewrite(folder, **dict.fromkeys(NAMES, np.zeros(3))), "wrong type or values"),
        (lambda folder: rewrite(folder, **dict.fromkeys(NAMES, a(3))), "do not fit"),
        (lambda folder: rewrite(folder, **dict.fromkeys(NAMES, a())), "do not fit"),
        (
            lambda folder: rewrite(folder, weights_0=a(8, 9), biases_0=a(8), weights_1=a(5, 7), biases_1=a(5)),
            "do not fit",
        ),
    ],
)
def test_a_spoilt_policy_is_refused_and_runs_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn(world).save(tmp_path / "policy")
    spoil(tmp_path / "policy")
    with pytest.raises(BadInputError, match=why) as refused:
        NetworkPolicy.load(tmp_path / "policy")
    assert "--fresh" in str(refused.value) and not Path("touched").exists()
