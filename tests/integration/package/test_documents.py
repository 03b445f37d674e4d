"""Commands shown in README and docs: each is run here with few visits, or listed with its other test or a reason."""

import importlib.util
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.main import get_command

from graph.cli import app
from nodes.tools.open_world import embed_labels
from sim.data.sources import load_ratings
from sim.world import World
from tests import processes
from tests.architecture import diagram
from tests.commands import Run, billp
from tests.scripted import by_rules, serving

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"billp", "make", "python", "pip", "langgraph", "docker", "chroma", "curl", "ollama", "vllm", "llama-server"}

NOT_RUN = {
    r"(docker|langgraph build)\b": "there is no Docker engine here; test_deploy.py checks the files",
    r"curl http://127.0.0.1:8123/": "it asks the server of the compose file",
    r"(ollama|vllm|llama-server|billp episode --model ollama:)": "the document says so",
    r"pip install -e \.$": "a virtual environment that a test would change",
    r"chroma vacuum": "what Chroma's own command leaves is told, not recommended",
}
ELSEWHERE = {
    r"billp compare": "cli/test_compare_command.py",
    r"billp recommend": "people/test_recommend.py",
    r"billp study.* --(record|replay)\b": "endpoint/test_recording.py",
    r"billp view": "web/test_web_view.py",
    r"billp study.* --server": "server/test_server_study.py",
    r"billp world build books .*BX-": "cli/test_world_build.py",
    r"billp study.*\b(a2c|dqn|maskable_ppo)\b": "study/test_study_reinforcement.py",
    r"billp memory (list|show|search|export|import|forget)": "cli/test_memory_cli.py",
    r"billp memory import-recorded": "cli/test_memory_cli.py",
    r"billp world (import-original|check-recorded)": "cli/test_cli_original.py",
    r"billp new-node": "cli/test_new_node.py",
    r"make local-model": "endpoint/test_local_model.py",
    r"langgraph dockerfile": "server/test_deploy.py",
    r"chroma run": "memory/test_chroma_server.py",
    r"langgraph dev": "server/test_server.py",
}
FEW = ["--train", "2", "--test", "2", "--cohort", "2", "--seeds", "1", "--max-steps", "4", "--processes", "1"]


class Shown(NamedTuple):
    """Command shown in a document."""

    line: str
    in_text: bool
    """Whether the command is part of a sentence, and so may lack arguments."""


def shown(document: Path) -> list[Shown]:
    """Return the commands of a document, except those of the tutorial, which has its own test."""
    text = document.read_text(encoding="utf-8").replace("\\\n    ", "")
    fences = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    found = [
        Shown(line.removeprefix("$ "), False)
        for language, body in fences.findall(text)
        for line in body.splitlines()
        if language == "text" and line.startswith("$ ")
    ]
    rest = fences.sub("", text)
    found += [Shown(line, False) for line in re.findall(r"^ {4}(\S.*)$", rest, re.MULTILINE)]
    found += [Shown(" ".join(line.split()), True) for line in re.findall(r"`([^`]+)`", rest)]
    plain = [one._replace(line=re.sub(r"\s+#.*|\.venv/bin/", "", one.line).strip()) for one in found]
    return [one for one in dict.fromkeys(plain) if _is_command(one)]


def _is_command(one: Shown) -> bool:
    program = program_of(one.line)
    if program not in PROGRAMS:
        return False
    rest = one.line.partition(program)[2].split()
    # In a sentence, `billp` may be the variant.
    return bool(rest) and (program != "billp" or not one.in_text or rest[0] in commands())


def program_of(line: str) -> str:
    """Return the program of a command line, after any variables; empty if the line only sets variables."""
    return next((word for word in line.split() if not re.match(r"[A-Z_]+=", word)), "")


@cache
def commands() -> dict[str, list[str]]:
    """Return the options of each command of `billp`, including subcommands."""
    found: dict[str, list[str]] = {}

    def look(name: str, command: object) -> None:
        found[name] = [option for one in getattr(command, "params", []) for option in one.opts]
        for below, its in getattr(command, "commands", {}).items():
            look(f"{name} {below}".strip(), its)

    look("", get_command(app))
    return found


def excused(line: str) -> str:
    """Return the other test of a command, or the reason why it is not run; empty if it must run here."""
    for pattern, reason in (NOT_RUN | ELSEWHERE).items():
        if re.match(rf"([A-Z_]+=\S+ )*{pattern}", line):
            return reason
    return ""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(by_rules) as endpoint:
        yield endpoint.url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory with small worlds under the names used in the documents."""
    folder = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BILLP_HOME", str(folder / ".billp"))
        for name in ("movielens", "steam", "rules-1", "cut0"):
            world = World.build(name, load_ratings("tiny", 0))
            world.save(folder / ".billp" / "worlds" / name)
            embed_labels(world)
    return folder


@cache
def run(line: str, folder: Path, address: str) -> Run:
    """Run a command of `billp`, with few visits and the small worlds; once, however many documents show it."""
    line = re.sub(r"\b(rules|cut)-N\b", r"\1-1", line.replace("openai:NAME", "openai:some-model"))
    line = re.sub(r"--seed N\b", "--seed 1", line.replace(" NAME", " named"))
    line = re.sub(r"--user \d+", "--user 3", line.replace("--from movielens", "--from tiny"))
    words = shlex.split(line)
    given = [words.pop(0).split("=", 1) for _ in list(words) if "=" in words[0]]
    environment = {name: address if name == "OPENAI_BASE_URL" else value for name, value in given}
    if words[1] == "study":
        words += [*FEW, "--rl-steps", "100"] if "--rl-steps" in words else FEW
    if any(word.startswith("openai:") for word in words):
        environment["OPENAI_BASE_URL"] = address
    if words[1:4] == ["world", "build", "movielens"]:
        words += ["--from", "tiny"]
    return billp(folder / ".billp", *words[1:], **environment)


def bare() -> dict[str, str]:
    """Return the environment without this machine's settings of `billp`."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("BILLP_", "OPENAI_"))}
    return given | {"PYTHONPATH": str(ROOT)}


def check(line: str) -> None:
    """Check that the files and options named by a command exist; raise if one is missing."""
    program, *words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    if program == "make":
        dry = processes.run(["make", "--dry-run", *words], cwd=ROOT)
        assert dry.returncode == 0, dry.stderr
    elif words[:1] == ["-c"]:
        assert processes.run([sys.executable, *words], cwd=ROOT).returncode == 0
    elif program == "python":
        assert words[0] == "-m" and importlib.util.find_spec(words[1]), line
    elif program == "pip":
        (extra,) = re.findall(r"billp\[(\w+)\]", line)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert extra in project["optional-dependencies"]
    elif program == "billp":
        given = " ".join(words) + " "
        name = max((one for one in commands() if given.startswith(f"{one} ")), key=len, default="")
        assert name, f"{line}: there is no such command"
        assert {word for word in words if word.startswith("--")} <= {*commands()[name], "--help"}, line
    else:
        pytest.fail(f"{line}: run it, or say why it is not run")


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_shown_is_one_that_works(document: Path, folder: Path, address: str) -> None:
    for line, in_text in shown(document):
        if excused(line):
            if program_of(line) == "billp":
                check(line)
            continue
        if in_text or program_of(line) != "billp":
            check(line)
            continue
        done = run(line, folder, address)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_the_diagram_of_the_packages_is_drawn_from_the_code() -> None:
    assert f"```mermaid\n{diagram()}\n```" in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["environment.md", "models.md"])
def test_code_runs_as_it_stands(name: str, folder: Path) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    # Code that reads the results of a study with the extra `rl` is run by
    # tests/integration/study/test_study_reinforcement.py.
    runnable = [code for code in blocks if "policies/" not in code]
    assert runnable
    for code in runnable:
        done = processes.run([sys.executable, "-c", code], cwd=folder, env=bare())
        assert done.returncode == 0, done.stderr


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert {*re.findall(r"\]\(([a-z-]+\.md)\)", index)} == {file.name for file in DOCUMENTS[1:]} - {"README.md"}


def test_what_is_run_elsewhere_is_run_there() -> None:
    for file in ELSEWHERE.values():
        assert (ROOT / "tests" / "integration" / file).exists(), file


def test_nothing_is_excused_that_no_document_shows() -> None:
    lines = [one.line for document in DOCUMENTS for one in shown(document)] + ["pip install -e ."]
    for pattern in NOT_RUN | ELSEWHERE:
        assert any(re.match(rf"([A-Z_]+=\S+ )*{pattern}", line) for line in lines), pattern
