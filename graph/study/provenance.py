"""Provenance of a study: the world, code, packages and machine that its results hang on."""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from graph.report.run_record import Environment, WorldRecord
from sim.world import World

PROJECT = "billp"
# Folders of the code, in the checkout of the project.
CODE = ("graph", "memory", "nodes", "sim")
# Extras whose packages no study imports.
_TOOLS = ("dev", "docs")
_REQUIREMENT = re.compile(r"""(?P<name>[\w.-]+).*?(?:\bextra\s*==\s*["'](?P<extra>[\w-]+)["'].*)?""")
# Seconds for an answer of Git; on a slow file system the provenance lacks the commit.
_GIT_SECONDS = 10


def now() -> datetime:
    """Return the time in UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def environment_of(command: str | None) -> Environment:
    """Return the environment of this process.

    Args:
        command: Command line without credentials; None if a program started the study.
    """
    commit, changed = _checkout(Path(__file__).resolve().parents[2])
    return Environment(
        command=command,
        version=version(PROJECT),
        commit=commit,
        changed=changed,
        packages=installed_packages(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        cores=os.cpu_count(),
    )


def world_record(world: World, checksum: str) -> WorldRecord:
    """Return the provenance of a world with this checksum."""
    return WorldRecord(
        name=world.name,
        checksum=checksum,
        settings=world.settings,
        facts=world.facts,
        users=len(world.users),
        items=len(world.catalogue),
    )


def installed_packages() -> dict[str, str]:
    """Return the versions of the installed direct dependencies, those of extras for users included, by name."""
    found = {}
    for requirement in requires(PROJECT) or []:
        matched = _REQUIREMENT.fullmatch(requirement)
        if matched is None or matched["extra"] in _TOOLS:
            continue
        try:
            found[matched["name"]] = version(matched["name"])
        except PackageNotFoundError:
            # A package of an extra that is not installed.
            continue
    return dict(sorted(found.items()))


def _checkout(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the project's checkout, and whether its code was changed; None without a checkout or Git."""
    git = shutil.which("git")
    # An installed package may lie within the checkout of another project.
    if git is None or not (root / ".git").exists():
        return None, None
    # Without these variables Git would not look into this folder. A lock would disturb the developer's own commands.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0"}

    def ask(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603 - fixed arguments
            [git, "-C", str(root), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_SECONDS,
        ).stdout.strip()

    try:
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "--", *CODE, "pyproject.toml"))
    except (subprocess.SubprocessError, OSError):
        return None, None
