"""`billp new-node`: the written role passes lint, type checks and its own tests unchanged."""

import os
import sys
from pathlib import Path

import httpx
import pytest

from tests.commands import ROOT, billp, refused
from tests.processes import run
from tests.servers import developing


@pytest.mark.slow
def test_what_it_writes_passes_lint_types_and_tests_at_once(tmp_path: Path) -> None:
    made = billp(tmp_path / "home", "new-node", "fairness_guard")
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "fairness_guard"
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {
        "fairness_guard/__init__.py",
        "fairness_guard/prompt.md",
        "tests/test_fairness_guard.py",
        "pyproject.toml",
        "langgraph.json",
    }
    assert all(f"fairness_guard/{file}" in made.stdout for file in files)
    for check in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["pytest", "-q"]):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)}
        done = run([sys.executable, "-m", *check], cwd=folder, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout
    path = f"{folder}{os.pathsep}{ROOT}"
    with (
        developing(folder, tmp_path / "home", PYTHONPATH=path) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        asked = {"assistant_id": "fairness_guard", "input": {"world": "tiny", "max_steps": 3}}
        output = client.post("/runs/wait", json=asked).json()
        assert all(step["outcomes"]["fairness_guard"] == "ok" for step in output["steps"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Guard", "is no name for a role"),
        ("../guard", "is no name for a role"),
        ("class", "is no name for a role"),
        ("critic", "a role or variant 'critic' already exists"),
        ("act_only", "a role or variant 'act_only' already exists"),
        ("json", "a module 'json' already exists"),
    ],
)
def test_a_name_that_would_not_work_is_refused(tmp_path: Path, name: str, told: str) -> None:
    assert told in refused(billp(tmp_path / "home", "new-node", name))
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").write_text("mine")
    assert "already exists" in refused(billp(tmp_path / "home", "new-node", "guard", "--folder", "here"))
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["mine.txt"]
