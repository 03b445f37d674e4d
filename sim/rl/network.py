"""Policy network: a learned policy that scores every item from the observation, stored as plain arrays."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sim.arrays import Floats
from sim.atomic_files import atomic_folder
from sim.errors import BadInputError
from sim.leave import WINDOW
from sim.policies.base import Choose, Knowledge
from sim.rl.environment import Observation, Observer

POLICY_MANIFEST, LAYERS = "policy.json", "layers.npz"

Activation = Literal["relu", "tanh"]
_ACTIVATIONS: Mapping[Activation, Callable[[Floats], Floats]] = {
    "relu": lambda values: np.maximum(values, np.float32(0)),
    "tanh": np.tanh,
}


class Training(BaseModel):
    """Record of how a policy was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    algorithm: str
    """Name of the training algorithm."""
    seed: int = Field(ge=0)
    """Seed of the network, the order of users and exploration."""
    settings: dict[str, Any]
    """Settings of the algorithm."""
    versions: dict[str, str]
    """Versions of the packages used for training; other versions may give another network from the same seed."""
    training_steps: int = Field(ge=1)
    """Number of recommendations that it learned from, in whole rollouts."""
    training_visits: int = Field(ge=0)
    """Number of visits of train users that ended during training."""


@dataclass(frozen=True)
class Layer:
    """Layer of a network.

    Attributes:
        weights: Shape (outputs, inputs).
        biases: Shape (outputs,).
    """

    weights: Floats
    biases: Floats


@dataclass(frozen=True)
class NetworkPolicy:
    """Policy that recommends the item with the highest network score among the items new to the visit.

    Attributes:
        layers: Layers of the network, from the observation of `sim.rl.environment` to a score for each item.
        activation: Activation function between the layers.
        training: Record of the training.
    """

    layers: tuple[Layer, ...]
    activation: Activation
    training: Training

    def begin(self, knowledge: Knowledge) -> Choose:
        """Start a visit.

        Raises:
            BadInputError: The policy was trained for another world.
        """
        observer = Observer(knowledge.catalogue, knowledge.logs)
        first_observation, n_items = observer.begin(knowledge.user), len(knowledge.catalogue)
        if (self.layers[0].weights.shape[1], len(self.layers[-1].biases)) != (len(first_observation), n_items):
            raise BadInputError("the policy was trained for another world: its numbers of features or items differ")

        def choose(recommended: Sequence[int]) -> int:
            lately = slice(None, -WINDOW - 1, -1)
            observation = observer.observe(first_observation, recommended[lately], knowledge.ratings[lately])
            return int(np.argmax(np.where(knowledge.fresh(recommended), self.scores(observation), -np.inf)))

        return choose

    def scores(self, observation: Observation) -> Floats:
        """Return the network's score of every item, shape (n_items,)."""
        activate, values = _ACTIVATIONS[self.activation], observation
        for layer in self.layers[:-1]:
            values = activate(layer.weights @ values + layer.biases)
        return self.layers[-1].weights @ values + self.layers[-1].biases

    def save(self, path: Path) -> None:
        """Write the policy into the folder `path`, completely or not at all.

        Raises:
            OSError: The folder cannot be written.
        """
        buffer = io.BytesIO()
        arrays = {
            f"{kind}_{number}": array
            for number, layer in enumerate(self.layers)
            for kind, array in (("weights", layer.weights), ("biases", layer.biases))
        }
        np.savez(buffer, allow_pickle=False, **arrays)
        manifest = _PolicyManifest(
            format="billp-policy",
            version=1,
            activation=self.activation,
            layers=len(self.layers),
            checksum=hashlib.sha256(buffer.getvalue()).hexdigest(),
            training=self.training,
        )
        with atomic_folder(path) as fresh:
            (fresh / LAYERS).write_bytes(buffer.getvalue())
            (fresh / POLICY_MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "NetworkPolicy":
        """Read a policy from the folder `path`; no file in it can run code.

        Raises:
            BadInputError: There is no policy, or its files are damaged or foreign.
        """
        manifest = _read_manifest(path)
        try:
            data = (path / LAYERS).read_bytes()
        except OSError as error:
            raise _unusable(path / LAYERS, str(error.strerror)) from error
        if hashlib.sha256(data).hexdigest() != manifest.checksum:
            raise _unusable(path / LAYERS, f"its checksum is not that of {POLICY_MANIFEST}")
        return cls(_read_layers(path / LAYERS, data, manifest.layers), manifest.activation, manifest.training)


class _PolicyManifest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["billp-policy"]
    version: Literal[1]
    activation: Activation
    layers: int = Field(ge=1, le=100)
    checksum: str
    training: Training


def read_training(path: Path) -> Training:
    """Return the training record of the policy in the folder `path`.

    Raises:
        BadInputError: There is no policy, or its file is damaged or foreign.
    """
    return _read_manifest(path).training


def _read_manifest(path: Path) -> _PolicyManifest:
    try:
        return _PolicyManifest.model_validate_json((path / POLICY_MANIFEST).read_bytes())
    except OSError as error:
        raise _unusable(path / POLICY_MANIFEST, str(error.strerror)) from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise _unusable(path / POLICY_MANIFEST, f"{where}: {fault['msg']}") from error


def _read_layers(file: Path, data: bytes, count: int) -> tuple[Layer, ...]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            layers = tuple(Layer(archive[f"weights_{number}"], archive[f"biases_{number}"]) for number in range(count))
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        raise _unusable(file, "it is no archive of the layers") from error
    arrays = [array for layer in layers for array in (layer.weights, layer.biases)]
    if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in arrays):
        raise _unusable(file, "a layer has the wrong type or values")
    widths = [layer.weights.shape[1:] for layer in layers[1:]] + [layers[-1].biases.shape]
    for layer, width in zip(layers, widths, strict=True):
        if layer.weights.ndim != 2 or not layer.weights.shape[:1] == layer.biases.shape == width:
            raise _unusable(file, "its layers do not fit each other")
    return layers


def _unusable(file: Path, why: str) -> BadInputError:
    return BadInputError(f"{file} cannot be used: {why}; train the policy again (`billp study --fresh`)")
