"""Provenance of a study: commit and changes of the checkout, versions of packages."""

import os
from importlib.metadata import version
from pathlib import Path

import pytest

from graph.study import provenance
from graph.study.provenance import environment_of, installed_packages
from tests.processes import run


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the project with one commit."""
    module = tmp_path / "graph" / "study" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.write_text("code\n")
    (tmp_path / "notes.md").write_text("notes\n")
    monkeypatch.setattr(provenance, "__file__", str(module))
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "First")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return run(["git", "-C", str(folder), *arguments], env=plain, check=True).stdout.strip()


def test_the_commit_is_that_of_the_checkout_and_changes_are_those_of_the_code(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    # As within a hook of Git, which names its own repository.
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))
    found = environment_of("billp study")
    assert (found.command, found.commit, found.changed) == ("billp study", commit, False)
    (checkout / "notes.md").write_text("more notes\n")
    assert environment_of(None).changed is False
    new = checkout / "graph" / "new.py"
    new.write_text("a new module\n")
    assert environment_of(None).changed is True
    new.unlink()
    (checkout / "graph" / "study" / "provenance.py").write_text("other code\n")
    assert environment_of(None).changed is True


def test_an_installed_package_has_no_commit_even_within_another_checkout(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout / "lib" / "graph" / "study" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert (environment_of(None).commit, environment_of(None).changed) == (None, None)


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert (environment_of(None).commit, environment_of(None).changed) == (None, None)


def test_packages_are_the_dependencies_and_no_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    found = installed_packages()
    assert {name: found[name] for name in ("chromadb", "langgraph", "numpy", "scipy")} == {
        name: version(name) for name in ("chromadb", "langgraph", "numpy", "scipy")
    }
    assert not {"mypy", "pytest", "ruff", "mkdocs"} & set(found)
    named = ['rl-lib<2,>=1; extra == "rl"', 'tool>=1; python_version < "4" and extra == "dev"', "Plain.lib[x]~=2"]
    monkeypatch.setattr(provenance, "requires", lambda project: named)
    monkeypatch.setattr(provenance, "version", lambda name: f"version of {name}")
    assert installed_packages() == {name: f"version of {name}" for name in ("Plain.lib", "rl-lib")}
