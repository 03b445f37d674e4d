"""Reinforcement learning baselines: policies trained by Stable-Baselines3 on visits of train users."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from sim.errors import BadInputError
from sim.rl.environment import RecommendEnv
from sim.rl.network import Activation, Layer, NetworkPolicy, Training
from sim.world import World

PACKAGES = ("torch", "stable-baselines3", "sb3-contrib")
_MODULES = ("torch", "stable_baselines3", "sb3_contrib")


@dataclass(frozen=True)
class Recipe:
    """Recipe for training with one algorithm.

    Attributes:
        activation: Activation function between the layers of its networks.
        widths: Widths of the layers between the observation and the scores.
        settings: Settings of the algorithm that differ from the defaults of Stable-Baselines3.
    """

    activation: Activation
    widths: tuple[int, ...]
    settings: Mapping[str, Any]


# Tuned on train users only; see docs/environment.md.
RECIPES: Mapping[str, Recipe] = {
    "a2c": Recipe("tanh", (64, 64), {}),
    "dqn": Recipe("relu", (64, 64), {}),
    "maskable_ppo": Recipe("tanh", (64, 64), {"n_steps": 500, "batch_size": 100, "n_epochs": 4, "learning_rate": 1e-3}),
}


def check_extra(variant: str) -> None:
    """Check that the packages for training are installed.

    Raises:
        BadInputError: A package is missing.
    """
    if any(importlib.util.find_spec(module) is None for module in _MODULES):
        raise BadInputError(
            f"the variant {variant!r} needs PyTorch and Stable-Baselines3: install PyTorch's CPU build first, as its "
            "own instructions say, then run: pip install 'billp[rl]'"
        )


def train(
    algorithm: str,
    world: World,
    steps: int,
    *,
    seed: int = 0,
    max_steps: int = 100,
    progress: Callable[[int], None] = lambda done: None,
) -> NetworkPolicy:
    """Train a policy on visits of train users, on the train table.

    The same seed gives the same policy on the same machine with the same packages.

    Args:
        algorithm: A name in `RECIPES`.
        world: World of the users.
        steps: Number of recommendations to learn from, at least 1; the last rollout is completed.
        seed: Seed of the network, the order of users and exploration. It also seeds the global generators of the
            process.
        max_steps: Limit of a visit.
        progress: Called with the number of steps done.

    Raises:
        BadInputError: The algorithm is unknown, `steps` is below 1, or a package for training is missing.
    """
    if algorithm not in RECIPES:
        raise BadInputError(f"there is no algorithm {algorithm!r}; choose one of: {', '.join(RECIPES)}")
    if steps < 1:
        raise BadInputError(f"there are {steps} steps to learn from; give at least 1")
    check_extra(algorithm)
    import torch

    # With more threads, the order of additions changes, and with it the result.
    torch.set_num_threads(1)
    recipe, visits = RECIPES[algorithm], 0
    model = _model(algorithm, recipe, RecommendEnv(world, "train", max_steps=max_steps), seed)

    def note(local: dict[str, Any], _: dict[str, Any]) -> bool:
        nonlocal visits
        visits += int(np.sum(local["dones"]))
        progress(min(model.num_timesteps, steps))
        return True

    model.learn(steps, callback=note)
    training = Training(
        algorithm=algorithm,
        seed=seed,
        settings={"widths": list(recipe.widths), **recipe.settings},
        versions={package: version(package) for package in PACKAGES},
        training_steps=int(model.num_timesteps),
        training_visits=visits,
    )
    return NetworkPolicy(tuple(_layers(algorithm, model.policy)), recipe.activation, training)


def _model(algorithm: str, recipe: Recipe, env: RecommendEnv, seed: int) -> Any:
    import torch
    from sb3_contrib import MaskablePPO
    from stable_baselines3 import A2C, DQN

    classes = {"a2c": A2C, "dqn": DQN, "maskable_ppo": MaskablePPO}
    activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[recipe.activation]
    shape = {"net_arch": list(recipe.widths), "activation_fn": activation}
    made: Any = classes[algorithm]
    return made("MlpPolicy", env, seed=seed, device="cpu", policy_kwargs=shape, **recipe.settings)


def _layers(algorithm: str, policy: Any) -> Iterator[Layer]:
    """Yield the layers of the network that chooses items; the value network is needed only for training."""
    import torch

    modules = policy.q_net.q_net if algorithm == "dqn" else [*policy.mlp_extractor.policy_net, policy.action_net]
    for module in modules:
        if isinstance(module, torch.nn.Linear):
            yield Layer(module.weight.detach().numpy().copy(), module.bias.detach().numpy().copy())
