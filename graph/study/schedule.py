"""Schedule of a study: phases, their batches of visits, users and seeds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from graph.study.memory_controls import CONTROL_SETTINGS, NEVER_LEARN, PRIOR, Control
from graph.study.settings import CURVE, MEMORY, MOST_VISITS, RETURNING, TRAIN, WHOSE, StudySettings
from sim.world import World
from sim.world.data import SplitName


class Batch(NamedTuple):
    """Visits that see the same memory."""

    name: str
    """Prefix of the visits' names, followed by their numbers; batches of one name share one numbering."""
    split: SplitName
    users: Sequence[str]
    start: int
    """Number of the first visit."""
    learns: bool
    """Whether the visits' records are written when all visits of the batch have ended."""
    about: dict[str, Any]
    """Further fields in the lines of its visits."""

    @property
    def numbers(self) -> range:
        """Numbers of its visits."""
        return range(self.start, self.start + len(self.users))


class Phase(NamedTuple):
    """Consecutive batches with one memory."""

    name: str
    """Name of the memory; empty for the memory of the train visits."""
    control: Control | None
    """Control applied to the train visits' records at the start of the phase, and to all that is learned in it.

    None for a memory that is empty at first.
    """
    batches: tuple[Batch, ...]
    changes: Mapping[str, Any] = {}
    """Settings of the roles that differ from the study's."""


def phases(world: World, settings: StudySettings, seed: int, remembers: bool) -> Iterator[Phase]:
    """Yield the phases of a cell: first the train visits, then phases that start with the records of these.

    Args:
        world: World of the users.
        settings: Settings of the study.
        seed: Seed of the cell.
        remembers: Whether the variant writes memories; if not, there are no phases with a changed memory.
    """
    users = visitors(world, settings.test_split, settings.test, 0)
    tested: tuple[Batch, ...] = (Batch(settings.test_split, settings.test_split, users, 0, False, {MEMORY: "full"}),)
    if settings.learn_at_test and remembers:
        tested = tuple(_cohorts(tested[0], settings.cohort))
    yield Phase("", None, (*_training(world, settings, seed, remembers), *tested))
    if not remembers:
        return
    for control in settings.memory[1:]:
        controlled = [one._replace(name=control, about={MEMORY: control}) for one in tested]
        if control in NEVER_LEARN:
            # Nothing is learned from these visits either.
            controlled = [one._replace(learns=False) for one in controlled]
            if control == PRIOR and settings.curve:
                controlled.append(_point(visitors(world, "dev", settings.curve_users, 0), PRIOR, 0, 0))
        yield Phase(control, control, tuple(controlled), CONTROL_SETTINGS.get(control, {}))
    if settings.visits_per_user == 1:
        return
    for recall in settings.recall:
        name = f"returning-{recall}"
        batches = tuple(
            Batch(
                name,
                settings.test_split,
                users,
                visit * len(users),
                recall != "none",
                {MEMORY: "full", RETURNING: recall, "visit": visit + 1},
            )
            for visit in range(settings.visits_per_user)
        )
        yield Phase(name, "full", batches, WHOSE[recall])


def _cohorts(batch: Batch, size: int) -> Iterator[Batch]:
    """Yield a batch split into cohorts, each of which recalls the records of earlier cohorts."""
    for start in range(0, len(batch.users), size):
        yield batch._replace(users=batch.users[start : start + size], start=batch.start + start, learns=True)


def _training(world: World, settings: StudySettings, seed: int, remembers: bool) -> Iterator[Batch]:
    """Yield the train cohorts, with the points of the learning curve between them."""
    train = visitors(world, TRAIN, settings.train, seed)
    every = settings.curve if remembers else 0
    watched = visitors(world, "dev", settings.curve_users, 0) if every else []
    cohorts = list(_cohorts(Batch(TRAIN, TRAIN, train, 0, True, {MEMORY: "full"}), settings.cohort))
    for number, cohort in enumerate(cohorts):
        if every and number % every == 0:
            yield _point(watched, "full", number, cohort.start)
        yield cohort
    if every and len(cohorts) % every == 0:
        yield _point(watched, "full", len(cohorts), len(train))


def _point(watched: Sequence[str], memory: Control, cohorts: int, train_visits: int) -> Batch:
    """Return the visits of a point of the learning curve; those at the prior are named apart, as they learn nothing."""
    name = f"curve-{memory if memory == PRIOR else cohorts}"
    about = {MEMORY: memory, "cohorts": cohorts, CURVE: train_visits}
    return Batch(name, "dev", watched, 0, False, about)


def visitors(world: World, split: SplitName, count: int, seed: int) -> list[str]:
    """Return users to visit in a seeded random order; if `count` exceeds the users, they repeat in a new order."""
    users = world.split(split).users
    rng = np.random.default_rng(seed)
    rounds = -(-count // len(users))
    return [users[position] for _ in range(rounds) for position in rng.permutation(len(users))][:count]


def visit_seed(seed: int, number: int) -> int:
    """Return the seed of a cell's visit; distinct arguments below `MOST_VISITS` give distinct seeds."""
    return seed * MOST_VISITS + number
