"""Baselines of a study: tuned, trained and oracle policies, and the effort spent on each."""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from graph.study.schedule import visitors
from graph.study.settings import Cell, StudySettings
from sim.atomic_files import write_atomic
from sim.errors import BadInputError
from sim.policies import POLICIES
from sim.policies.base import OraclePolicy, Policy
from sim.policies.leave_risk import LeaveRiskModel
from sim.policies.leave_risk_policy import LeaveRiskLearner, LeaveRiskPolicy, learn_leave_risk_policy
from sim.policies.pair_evidence import RoundOutcome
from sim.policies.pair_features import PairFeatures
from sim.policies.tuning import Family, Tuned, tune_once
from sim.rl.network import NetworkPolicy, read_training
from sim.rl.training import RECIPES, check_extra, train
from sim.world import World

OUTLOOK_ONLY = "outlook_only"
BASELINES = (*POLICIES, OUTLOOK_ONLY, *RECIPES)
# Folder of the trained policies, in the folder of a run.
POLICY_FOLDER = "policies"

StepProgress = Callable[[int, int], None]
"""Function called with the visits or steps of a training that are done, and their total."""


class Effort(BaseModel):
    """Effort spent on a baseline's policies, over all seeds."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tuning_visits: int = 0
    """Train visits used to choose the parameters of a rule."""
    parameters: tuple[float, ...] | None = None
    """Chosen parameters, in the order of the policy's fields."""
    training_steps: int = 0
    """Rounds used for training."""
    training_visits: int = 0
    """Train visits used for training."""


class _SavedLeaveRisk(BaseModel):
    """Train visits of a cell, from which its leave-risk model is fitted again."""

    rounds: list[RoundOutcome]
    visits: int


def check_baseline(name: str) -> None:
    """Check that the libraries of a baseline are installed.

    Raises:
        BadInputError: A library is missing.
    """
    if name in RECIPES:
        check_extra(name)


def policy_of(
    cell: Cell, world: World, settings: StudySettings, folder: Path, progress: StepProgress
) -> Policy | OraclePolicy | LeaveRiskLearner:
    """Return the policy of a cell, or its learner; one saved before the study was interrupted is loaded."""
    if cell.variant in RECIPES:
        return _trained(cell, world, settings, folder, progress)
    if cell.variant == OUTLOOK_ONLY:
        return _leave_risk_learner(cell, world, settings, folder, progress)
    policy = POLICIES[cell.variant]
    if isinstance(policy, Family):
        file = _tuned_file(folder, cell.variant)
        file.parent.mkdir(parents=True, exist_ok=True)
        return policy.make(*tune_once(policy, world, file, max_steps=settings.max_steps).parameters)
    return policy


def has_prior(variant: str) -> bool:
    """Return whether a baseline has a learned model with a prior, so that the control `prior` applies to it."""
    return variant == OUTLOOK_ONLY


def prior_policy(world: World, max_steps: int) -> LeaveRiskPolicy:
    """Return the leave-risk policy that has learned nothing, for visits of at most `max_steps` rounds."""
    return LeaveRiskPolicy(LeaveRiskModel.prior(PairFeatures(world.catalogue, world.logs)), max_steps)


def effort_of(variant: str, settings: StudySettings, folder: Path) -> Effort:
    """Return the effort spent on the policies of a variant's cells; all zero for variants of the agent."""
    cells = [folder / POLICY_FOLDER / str(Cell(variant, seed)) for seed in range(settings.seeds)]
    if variant in RECIPES:
        trained = [read_training(cell) for cell in cells]
        return Effort(
            training_steps=sum(one.training_steps for one in trained),
            training_visits=sum(one.training_visits for one in trained),
        )
    if variant == OUTLOOK_ONLY:
        saved = [_saved(cell.with_suffix(".json")) for cell in cells]
        return Effort(
            training_steps=sum(len(one.rounds) for one in saved), training_visits=sum(one.visits for one in saved)
        )
    file = _tuned_file(folder, variant)
    if not file.exists():
        return Effort()
    tuned = Tuned.model_validate_json(file.read_bytes())
    return Effort(tuning_visits=tuned.visits, parameters=tuned.parameters)


def _trained(cell: Cell, world: World, settings: StudySettings, folder: Path, progress: StepProgress) -> NetworkPolicy:
    saved = folder / POLICY_FOLDER / str(cell)
    if saved.exists():
        return NetworkPolicy.load(saved)
    # Report each hundredth of the training, which is often enough for a viewer.
    every = max(settings.rl_steps // 100, 1)

    def show(done: int) -> None:
        if done % every == 0:
            progress(done, settings.rl_steps)

    policy = train(cell.variant, world, settings.rl_steps, seed=cell.seed, max_steps=settings.max_steps, progress=show)
    policy.save(saved)
    return policy


def _leave_risk_learner(
    cell: Cell, world: World, settings: StudySettings, folder: Path, progress: StepProgress
) -> LeaveRiskLearner:
    """Return the learner of a leave-risk policy, with the rounds of as many train visits as `billp_outlook` has."""
    file = (folder / POLICY_FOLDER / str(cell)).with_suffix(".json")
    if file.exists():
        return LeaveRiskLearner(world, settings.max_steps, rounds=_saved(file).rounds)
    users = visitors(world, "train", settings.train, cell.seed)
    learner = learn_leave_risk_policy(
        world,
        users,
        cohort=settings.cohort,
        explore=settings.context.explore,
        seed=cell.seed,
        max_steps=settings.max_steps,
        progress=lambda done: progress(done, len(users)),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, _SavedLeaveRisk(rounds=learner.rounds, visits=len(users)).model_dump_json())
    return learner


def _saved(file: Path) -> _SavedLeaveRisk:
    try:
        return _SavedLeaveRisk.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise BadInputError(f"{file} is damaged: run the study with `--fresh` to train it again") from error


def _tuned_file(folder: Path, name: str) -> Path:
    return folder / "cells" / "tuned" / f"{name}.json"
