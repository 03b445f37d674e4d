"""The tutorial of docs/extend.md, block by block, in a folder of its own; and variants that cannot be loaded."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    language: str
    file: str
    """Name of the file that it is the content of; empty for none."""
    text: str


def blocks() -> list[Block]:
    return [Block(*found) for found in BLOCK.findall((ROOT / "docs" / "extend.md").read_text(encoding="utf-8"))]


def install(folder: Path) -> None:
    """Leave what `pip install -e` leaves of a package: how it is called, and its entry points."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (told / "entry_points.txt").write_text("\n".join(groups))


def run(folder: Path, home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"BILLP_HOME": str(home), "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def billp(folder: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, home, sys.executable, "-m", "graph.cli", *arguments)


def test_the_tutorial_works_block_by_block(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my-explorer"
    folder.mkdir()
    said: list[str] = []
    for block in blocks():
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            if block.file == "pyproject.toml":
                install(folder)
        elif block.language == "sh":
            for line in block.text.splitlines():
                name, *arguments = line.split()
                assert name == "billp"
                done = billp(folder, home, *arguments)
                assert done.returncode == 0, done.stderr
                said.append(done.stdout)
        else:
            pytest.fail(f"a block of {block.language} that nobody runs")

    episode, study, listed, shown = said
    assert "4 rounds" in episode or "5 rounds" in episode and "Recommend" in episode
    assert re.search(r"^ explorer +\d", study, re.MULTILINE)
    results = json.loads((home / "runs" / "explorer" / "results.json").read_text(encoding="utf-8"))
    row = {one["variant"]: one for one in results["rows"]}["explorer"]
    assert row["calls_per_step"] == pytest.approx(4, abs=0.2)
    assert "explorer" in (home / "runs" / "explorer" / "report.html").read_text(encoding="utf-8")
    assert re.match(r"records \d+ \(explorations \d+\)\n", listed)
    assert "category" in shown and "reward" in shown

    # What it remembers comes back, and what is tried comes from it.
    lines = (home / "runs" / "explorer" / "visits.jsonl").read_text(encoding="utf-8").splitlines()
    train = [one for one in map(json.loads, lines) if one["variant"] == "explorer" and one["split"] == "train"]
    tried = [one["value"] for visit in train for one in visit["records"] if one["value"]["kind"] == "explorations"]
    assert tried and all(one["category"] and 1 <= one["reward"] <= 5 for one in tried)
    contract = run(folder, home, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_explorer.py")
    assert contract.returncode == 0 and "14 passed" in contract.stdout, contract.stdout
    drawn = run(folder, home, sys.executable, "-c", "import explorer; print(explorer.graph.get_graph().draw_mermaid())")
    assert "planner --> explorer;" in drawn.stdout and "explored --> reflector;" in drawn.stdout, drawn.stderr


def test_settings_of_its_own_are_checked_and_kept(home: Path, tmp_path: Path) -> None:
    folder = packaged(tmp_path)
    study = ("study", "--world", "tiny", "--variants", "explorer", "--train", "2", "--test", "2", "--processes", "1")
    for setting, told in (("explorations_k=-1", "greater than or equal to 0"), ("exploration_k=1", "explorations_k")):
        refused = billp(folder, home, *study, "--out", "x", "--set", setting)
        assert refused.returncode == 2 and told in refused.stderr and refused.stderr.count("\n") == 1
    done = billp(folder, home, *study, "--out", "x", "--set", "explorations_k=3", "--set", "explorer_prompt=Say one.")
    assert done.returncode == 0, done.stderr
    context = json.loads((home / "runs" / "x" / "results.json").read_text(encoding="utf-8"))["settings"]["context"]
    assert (context["explorations_k"], context["explorer_prompt"]) == (3, "Say one.")
    # To others it is no setting.
    other = billp(folder, home, "episode", "--world", "tiny", "--set", "explorations_k=3")
    assert other.returncode == 2 and "there is no setting 'explorations_k'" in other.stderr


def packaged(tmp_path: Path) -> Path:
    """Return a folder with the tutorial's package installed in it."""
    folder = tmp_path / "installed"
    folder.mkdir()
    for block in blocks():
        if block.file in ("explorer.py", "pyproject.toml"):
            (folder / block.file).write_text(block.text, encoding="utf-8")
    install(folder)
    return folder


@pytest.mark.parametrize(
    ("entry", "content", "told"),
    [
        ("broken", "raise RuntimeError('no\\nlicence')", "no licence"),
        ("broken", "variant = 1", "'int' object is not callable"),
        ("broken", "def variant(): return 1", "is no Variant"),
        ("billp", "variant = None", "there is another variant of that name"),
        ("Broken-one", "variant = None", "small letters"),
        ("broken", "from graph.variants import Variant\nvariant = Variant(())", "it has no node"),
        (
            "broken",
            "from graph.variants import VARIANTS, Variant\nvariant = Variant(VARIANTS['billp'].step[:1] * 2)",
            "two of its nodes have the same name (planner, planner)",
        ),
    ],
)
def test_a_variant_that_cannot_be_loaded_is_named_in_one_line_and_left_out(
    home: Path, tmp_path: Path, entry: str, content: str, told: str
) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "broken.py").write_text(content)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "their-package"\nversion = "1"\n'
        f'[project.entry-points."billp.variants"]\n{entry} = "broken:variant"\n'
    )
    install(folder)
    code = "from graph.variants import VARIANTS; print(*VARIANTS)"
    done = run(folder, home, sys.executable, "-c", code)
    assert done.returncode == 0 and done.stdout.split()[0] == "billp" and "broken" not in done.stdout.lower()
    assert done.stderr.count("\n") == 1 and told in done.stderr
    assert f"variant {entry} of the package their-package is left out" in done.stderr
    shutil.rmtree(folder)
