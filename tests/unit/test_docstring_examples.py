"""Examples in docstrings, run as they stand."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("graph", "memory", "nodes", "sim")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
SERVER_NEEDED = {"memory.store.ChromaStore"}
"""Examples that ask a Chroma server; tests/contract/test_chroma_store.py runs them."""


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run_as_they_stand(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    runner = doctest.DocTestRunner()
    found = [one for one in doctest.DocTestFinder().find(importlib.import_module(name)) if one.examples]
    assert found, "an example stands where no docstring is"
    for one in found:
        if one.name not in SERVER_NEEDED:
            assert runner.run(one, out=said.append).failed == 0, "".join(said)


def test_the_public_parts_have_examples() -> None:
    parts = {"graph.episode", "memory.recall", "memory.store", "nodes.context", "sim.leave", "sim.world.world"}
    assert parts <= set(MODULES)
