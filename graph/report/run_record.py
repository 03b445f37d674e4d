"""Provenance of a finished run, as its run.json holds it: world, code, packages, machine, command and dates."""

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from graph.report.schema import Provenance, WorldProvenance
from sim.world.data import WorldFacts, WorldSettings


class WorldRecord(BaseModel):
    """World of a study, and how it was made."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    checksum: str
    """SHA-256 of its manifest, which has the checksums of its files."""
    settings: WorldSettings
    """Settings that it was built with: seed, cut, bound of the users' patience and fits."""
    facts: WorldFacts
    """Source of its ratings, their numbers, and the errors of the fits."""
    users: int
    items: int


class Environment(BaseModel):
    """Command, code and machine that a study ran with."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    command: str | None
    """Command line without credentials; None for a study that a program started."""
    version: str
    """Version of this project."""
    commit: str | None
    """Git commit of the project's checkout; None without a checkout or without Git."""
    changed: bool | None
    """Whether the code of the checkout differed from that commit; None without a commit."""
    packages: dict[str, str]
    """Versions of the installed packages that this project imports."""
    python: str
    """Implementation and version of Python."""
    platform: str
    """Operating system, its version and the kind of processor."""
    cores: int | None
    """Number of processor cores; None if unknown."""


class RunRecord(BaseModel):
    """Content of run.json."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    world: WorldRecord
    settings: dict[str, Any]
    """Settings of the study."""
    started: AwareDatetime
    """Start of the study (UTC), before all resumes."""
    ended: AwareDatetime
    """End of the study (UTC): all visits are made."""
    resumed: int = Field(ge=0)
    """Number of times that the unfinished study was resumed."""
    environments: list[Environment] = Field(min_length=1)
    """Different environments of the start and the resumes, in order; usually one."""


def provenance_of(record: RunRecord) -> Provenance:
    """Return the part of a run's provenance that results.json and the report have too.

    After resumes in other environments, version, commit and command are those of the last one.
    """
    last, world = record.environments[-1], record.world
    return Provenance(
        version=last.version,
        commit=last.commit,
        changed=last.changed,
        command=last.command,
        started=record.started.isoformat(),
        ended=record.ended.isoformat(),
        resumed=record.resumed,
        world=WorldProvenance(
            name=world.name,
            checksum=world.checksum,
            source=world.facts.source,
            seed=world.settings.seed,
            cut=world.settings.cut,
            users=world.users,
            items=world.items,
            ratings=world.facts.ratings,
        ),
    )
