"""Tutorial of docs/extend.md, run block by block in a folder of its own; variants that fail to load."""

import json
import os
import re
import runpy
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import chromadb
import httpx
import pytest

from tests import commands, processes
from tests.commands import Run, refused
from tests.servers import developing

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


# Program that runs commands one after another. Plug-ins are found when a process starts, so it is not the test's own.
COMMANDS = """
import json, os, sys
from pathlib import Path
from graph.variant_files import unload_variants
from tests.commands import billp

home, lines = Path(os.environ["BILLP_HOME"]), json.loads(sys.argv[1])
done = []
for arguments, given in lines:
    done.append(billp(home, *arguments, **given))
    unload_variants()
print(json.dumps([[one.args, one.returncode, one.stdout, one.stderr] for one in done]))
"""


class Block(NamedTuple):
    language: str
    file: str
    """Name of the file with this content; empty if the block is not a file."""
    text: str


def blocks() -> list[Block]:
    return [Block(*found) for found in BLOCK.findall((ROOT / "docs" / "extend.md").read_text(encoding="utf-8"))]


def install(folder: Path) -> None:
    """Write the metadata of a package that `pip install -e` would write: name, version and entry points."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    shutil.rmtree(told, ignore_errors=True)
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (told / "entry_points.txt").write_text("\n".join(groups))


def run(folder: Path, home: Path, *command: str, **given: str) -> Run:
    environment = os.environ | {"BILLP_HOME": str(home), "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"} | given
    return processes.run(command, cwd=folder, env=environment)


def billp(folder: Path, home: Path, *arguments: str) -> Run:
    return run(folder, home, sys.executable, "-m", "graph.cli", *arguments)


def billp_in_turn(folder: Path, home: Path, *lines: tuple[Sequence[str], dict[str, str]]) -> list[Run]:
    """Run commands in one process, which imports everything once.

    Args:
        folder: Folder with the plug-ins.
        home: Home folder; its parent is the working directory.
        lines: Arguments and further environment variables of each command.
    """
    done = run(folder, home, sys.executable, "-c", COMMANDS, json.dumps(lines))
    assert done.returncode == 0, done.stdout + done.stderr
    return [Run(*one) for one in json.loads(done.stdout)]


def run_lines(folder: Path, home: Path, text: str) -> list[Run]:
    """Run the shell commands of a block of the tutorial: its tests, and then `billp`."""
    done, lines = [], []
    for line in text.splitlines():
        words, given = line.split(), {}
        while re.match(r"[A-Z_]+=", words[0]):
            name, _, given[name] = words.pop(0).partition("=")
        name, *arguments = words
        if name == "billp":
            lines.append((arguments, given))
        else:
            assert name == "pytest" and not lines
            command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
            done.append(run(folder, home, *command, **given))
    return done + billp_in_turn(folder, home, *lines)


def write_jokes(folder: Path) -> None:
    """Write the data that the commands of the tutorial read."""
    (folder / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        runpy.run_path(str(folder / "test_jokes.py"))["write"](folder / "data")
    del sys.modules["jokes"]


def identity_of(memory: Path) -> Any:
    """Return the name of the embedding that a memory was made with."""
    client = chromadb.PersistentClient(memory)
    try:
        return (client.get_collection("billp", embedding_function=None).metadata or {})["embedding"]
    finally:
        client.close()  # type: ignore[attr-defined]


def test_the_tutorial_works_block_by_block(home: Path, tmp_path: Path) -> None:
    folder = tmp_path
    said: list[str] = []
    for block in blocks():
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            if block.file == "pyproject.toml":
                install(folder)
            if block.file == "test_jokes.py":
                write_jokes(folder)
        elif block.language == "sh":
            for done in run_lines(folder, home, block.text):
                assert done.returncode == 0, done.stdout + done.stderr
                said.append(done.stdout)
        else:
            pytest.fail(f"a block of {block.language} that nobody runs")

    episode, study, listed, shown, tests, built, more, stocked, lettered = said
    # Nine of each role, twelve of the user, seven of the source, seven of the embedding, five of the model.
    assert re.search(r"^49 passed", tests, re.MULTILINE), tests
    assert "jokes" in built
    assert re.search(r"^ bored +\d", more, re.MULTILINE)
    assert "Recommend animals." in stocked
    assert re.search(r"\d rounds", lettered) and identity_of(folder / "other" / "memory") == "letters/line-mean"
    assert "4 rounds" in episode or "5 rounds" in episode and "Recommend" in episode
    assert re.search(r"^ explorer +\d", study, re.MULTILINE)
    results = json.loads((home / "runs" / "explorer" / "results.json").read_text(encoding="utf-8"))
    row = {one["variant"]: one for one in results["rows"]}["explorer"]
    assert row["calls_per_step"] == pytest.approx(4, abs=0.2)
    assert "explorer" in (home / "runs" / "explorer" / "report.html").read_text(encoding="utf-8")
    assert re.match(r"records \d+ \(explorations \d+\)\n", listed)
    assert "category" in shown and "reward" in shown

    # The explorer recalls its records, and bases its tries on them.
    lines = (home / "runs" / "explorer" / "visits.jsonl").read_text(encoding="utf-8").splitlines()
    train = [one for one in map(json.loads, lines) if one["variant"] == "explorer" and one["split"] == "train"]
    tried = [one["value"] for visit in train for one in visit["records"] if one["value"]["kind"] == "explorations"]
    assert tried and all(one["category"] and 1 <= one["reward"] <= 5 for one in tried)


def test_a_server_plays_the_tutorial_s_variant_and_keeps_what_it_remembers(home: Path, tmp_path: Path) -> None:
    folder = packaged(tmp_path)
    content = {block.file: block.text for block in blocks()}
    (folder / "langgraph.json").write_text(content["langgraph.json"], encoding="utf-8")
    path = f"{folder}{os.pathsep}{ROOT}"
    with (
        developing(folder, home, PYTHONPATH=path) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        asked = {"assistant_id": "explorer", "input": {"world": "tiny", "max_steps": 6}}
        thread = client.post("/threads", json={}).json()["thread_id"]
        given = asked | {"context": {"explorer_prompt": "Say one."}}
        output = client.post(f"/threads/{thread}/runs/wait", json=given).json()
        state = client.get(f"/threads/{thread}/state").json()["values"]
        assert "Say one." in state["exchange"]["explorer"]["prompt"] and {*state["tried"]} <= {*"0123456"}
        assert output["steps"] and all(step["outcomes"]["explorer"] == "ok" for step in output["steps"][1:])
        kinds = [one[0] for one in client.post("/store/namespaces", json={}).json()["namespaces"]]
        assert {"experiences", "explorations", "lessons", "values"} <= {*kinds}
        (assistant,) = client.post("/assistants/search", json={"graph_id": "explorer"}).json()
        drawn = client.get(f"/assistants/{assistant['assistant_id']}/graph").json()
        edges = {(edge["source"], edge["target"]) for edge in drawn["edges"]}
        assert {("planner", "explorer"), ("explored", "reflector")} <= edges
        schemas = client.get(f"/assistants/{assistant['assistant_id']}/schemas").json()
        # A request that names a file gets no graph, and the file is not run.
        (folder / "evil.py").write_text("from pathlib import Path\nPath(__file__).with_suffix('.run').touch()\n")
        for evil in ("./evil.py:variant", f"{folder}/evil.py:variant"):
            refused = client.post("/runs/wait", json={"assistant_id": evil, "input": {"world": "tiny"}})
            made = client.post("/assistants", json={"graph_id": evil, "context": {"variant": evil}})
            assert 400 <= refused.status_code < 500 and 400 <= made.status_code < 500
        assert not (folder / "evil.run").exists()
        prompt = schemas["context_schema"]["properties"]["explorer_prompt"]
        assert prompt["langgraph_nodes"] == ["explorer"] and prompt["langgraph_type"] == "prompt"


def test_settings_of_its_own_are_checked_and_kept(home: Path, tmp_path: Path) -> None:
    folder = packaged(tmp_path)
    study = ["study", "--world", "tiny", "--variants", "explorer", "--train", "2", "--test", "2", "--processes", "1"]
    small = [*study, "--max-steps", "4", "--out", "x"]
    own = ["--set", "explorations_k=3"]
    negative, unknown, done, other = billp_in_turn(
        folder,
        home,
        ([*small, "--set", "explorations_k=-1"], {}),
        ([*small, "--set", "exploration_k=1"], {}),
        ([*small, *own, "--set", "explorer_prompt=Say one."], {}),
        (["episode", "--world", "tiny", *own], {}),
    )
    assert "greater than or equal to 0" in refused(negative) and "explorations_k" in refused(unknown)
    assert done.returncode == 0, done.stderr
    context = json.loads((home / "runs" / "x" / "results.json").read_text(encoding="utf-8"))["settings"]["context"]
    assert (context["explorations_k"], context["explorer_prompt"]) == (3, "Say one.")
    # Other variants do not have this setting.
    assert "there is no setting 'explorations_k'" in refused(other)


def packaged(tmp_path: Path) -> Path:
    """Folder with the tutorial's package installed in it."""
    folder = tmp_path / "installed"
    folder.mkdir()
    content = {block.file: block.text for block in reversed(blocks())}
    for file in ("explorer.py", "pyproject.toml"):
        (folder / file).write_text(content[file], encoding="utf-8")
    install(folder)
    return folder


def broken_packages(tmp_path: Path, group: str, *entries: tuple[str, str]) -> Path:
    """Return a folder with installed packages of one module and one entry point each, by their numbers.

    Args:
        tmp_path: Folder to create it in.
        group: Group of the entry points.
        entries: Name of the entry point and content of the module of each package.
    """
    folder = tmp_path / "packages"
    folder.mkdir()
    for number, (name, content) in enumerate(entries):
        (folder / f"module{number}.py").write_text(content)
        (folder / "pyproject.toml").write_text(
            f'[project]\nname = "package-{number}"\nversion = "1"\n'
            f'[project.entry-points."{group}"]\n{name} = "module{number}:it"\n'
        )
        install(folder)
    return folder


def left_out(run: Run, kind: str, *entries: tuple[str, str], told: tuple[str, ...]) -> None:
    """Check that a line of standard error names each part that was left out, its package and the reason."""
    lines = sorted(run.stderr.splitlines())
    wanted = [
        f"{kind} {name} of the package package-{number} is left out: " for number, (name, _) in enumerate(entries)
    ]
    for start, reason in zip(wanted, told, strict=True):
        (line,) = [one for one in lines if start in one]
        assert reason in line
        lines.remove(line)
    assert not lines


def test_sources_that_cannot_be_loaded_are_named_and_left_out(home: Path, tmp_path: Path) -> None:
    entries = (("broken", "raise RuntimeError('no\\nlicence')"), ("number", "it = 1"), ("tiny", "it = 1"))
    told = ("no licence", "it is not a Source", "there is another source of that name")
    done = billp(broken_packages(tmp_path, "billp.sources", *entries), home, "world", "list")
    assert done.returncode == 0 and "sources: amazon, csv, movielens, steam, tiny " in done.stdout
    left_out(done, "source", *entries, told=told)


def test_models_that_cannot_be_loaded_are_named_and_left_out(home: Path, tmp_path: Path) -> None:
    entries = (("broken", "raise RuntimeError('no\\nlicence')"), ("number", "it = 1"))
    told = ("no licence", "it is not a function that returns a chat model")
    folder = broken_packages(tmp_path, "billp.models", *entries)
    done = billp(folder, home, "episode", "--world", "tiny", "--model", "broken:x")
    *lines, last = done.stderr.splitlines(keepends=True)
    assert done.returncode == 2 and "there is no model 'broken:x'" in last
    left_out(Run(done.args, 0, "", "".join(lines)), "model", *entries, told=told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("raise RuntimeError('no\\nlicence')", "cannot be loaded (no licence)"),
        ("it = 1", "cannot be loaded ('int' object is not callable)"),
        ("it = dict", "is not one of LangChain's Embeddings"),
    ],
)
def test_an_embedding_that_cannot_be_loaded_is_an_error(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, told: str
) -> None:
    monkeypatch.syspath_prepend(broken_packages(tmp_path, "billp.embeddings", ("broken", content)))
    monkeypatch.delitem(sys.modules, "module0", raising=False)
    assert told in refused(commands.billp(home, "episode", "--world", "tiny", BILLP_EMBEDDING="broken"))


def test_variants_that_cannot_be_loaded_are_named_in_one_line_each_and_left_out(home: Path, tmp_path: Path) -> None:
    twice = "from graph.variants import VARIANTS, Variant\nit = Variant(VARIANTS['billp'].step[:1] * 2)"
    cases = [
        ("broken_0", "raise RuntimeError('no\\nlicence')", "no licence"),
        ("broken_1", "it = 1", "is not a Variant and does not return one"),
        ("broken_2", "def it(): return 1", "is not a Variant"),
        ("billp", "it = None", "there is another variant of that name"),
        ("Broken_3", "it = None", "lower-case letters"),
        ("broken_4", "from graph.variants import Variant\nit = Variant(())", "it has no nodes"),
        ("broken_5", twice, "two of its nodes have the same name (planner, planner)"),
    ]
    entries = [(name, content) for name, content, _ in cases]
    code = "from graph.variants import VARIANTS; print(*VARIANTS)"
    done = run(broken_packages(tmp_path, "billp.variants", *entries), home, sys.executable, "-c", code)
    assert done.returncode == 0 and done.stdout.split()[0] == "billp" and "broken" not in done.stdout.lower()
    left_out(done, "variant", *entries, told=tuple(told for *_, told in cases))
