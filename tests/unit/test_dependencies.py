"""Bounds of the dependencies, and the versions that the workflow tests."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
REQUIREMENTS = [
    Requirement(one)
    for one in (
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(one for extra in EXTRAS.values() for one in extra),
    )
]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_a_dependency_has_a_lowest_version_and_excludes_a_next_major(requirement: Requirement) -> None:
    assert sorted(one.operator for one in requirement.specifier) == ["<", ">="]


def test_a_dependency_of_several_extras_has_the_same_bounds_in_each() -> None:
    bounds: dict[str, set[str]] = {}
    for one in REQUIREMENTS:
        bounds.setdefault(canonicalize_name(one.name), set()).add(str(one.specifier))
    assert not {name: found for name, found in bounds.items() if len(found) > 1}


def test_the_workflow_runs_the_tests_on_each_python_of_the_classifiers() -> None:
    named = [one.rsplit(" ", 1)[-1] for one in PROJECT["project"]["classifiers"] if "Python :: 3." in one]
    job = WORKFLOW["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == named
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"
    assert "make test test-all" in runs("test")


def test_the_workflow_runs_the_tests_with_the_lowest_versions_on_the_lowest_python() -> None:
    (python,) = (step["with"]["python-version"] for step in WORKFLOW["jobs"]["lowest"]["steps"] if "with" in step)
    assert PROJECT["project"]["requires-python"] == f">={python}"
    assert "make test-lowest" in runs("lowest")


def runs(job: str) -> list[str]:
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]
