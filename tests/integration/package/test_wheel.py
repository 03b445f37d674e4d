"""Wheel of the project: its files, and a run in an empty folder outside the checkout."""

import os
import sys
import zipfile
from pathlib import Path

import pytest

from tests import processes
from tests.commands import Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("graph", "memory", "nodes", "sim")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel built by `python -m build` with the installed backend."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    names = [*PACKAGES, "pyproject.toml", "README.md", "LICENSE"]
    files = processes.run(["git", "ls-files", *names], cwd=ROOT, check=True)
    for name in files.stdout.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = processes.run(command, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("billp-*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the unpacked wheel, as pip installs it."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)  # noqa: S202 - made here
    return folder


def test_it_has_the_four_packages_at_the_top_and_all_their_files(installed: Path) -> None:
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {*PACKAGES}
    tracked = processes.run(["git", "ls-files", *PACKAGES], cwd=ROOT, check=True)
    assert {
        path.relative_to(installed).as_posix() for name in PACKAGES for path in (installed / name).rglob("*.*")
    } == {*tracked.stdout.splitlines()}
    assert all((installed / name / "py.typed").exists() for name in PACKAGES)


def run(installed: Path, folder: Path, *command: str) -> Run:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("BILLP_")}
    environment = bare | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    return processes.run([sys.executable, *command], cwd=folder, env=environment)


def test_a_visit_runs_in_an_empty_folder_elsewhere(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "-c", "import graph, nodes; print(graph.__file__, nodes.__file__)")
    assert where.stdout.count(str(installed)) == 2
    done = run(installed, tmp_path, "-m", "graph.cli", "episode", "--world", "tiny", "--user", "1")
    assert done.returncode == 0, done.stderr
    assert "Recommend" in done.stdout and (tmp_path / ".billp" / "memory" / "chroma.sqlite3").exists()
    made = run(installed, tmp_path, "-m", "graph.cli", "new-node", "fairness_guard")
    assert made.returncode == 0 and list(tmp_path.glob("fairness_guard/**/prompt.md")), made.stderr


def test_its_types_are_found(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(
        "from graph.variants import VARIANTS\nfrom memory.store import ChromaStore\nfrom sim.catalogue import Item\n"
        "reveal_type(ChromaStore().sweep_ttl())\nreveal_type(VARIANTS['billp'].remembers)\nItem(id=1)\n"
    )
    bare = run(installed, tmp_path, "-m", "mypy", "--strict", "theirs.py")
    assert 'Revealed type is "int"' in bare.stdout.replace("builtins.", "")
    assert 'Revealed type is "bool"' in bare.stdout.replace("builtins.", "")
    assert "[arg-type]" in bare.stdout and "missing library stubs" not in bare.stdout
