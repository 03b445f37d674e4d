"""Commands that only look at files import nothing heavy, so that they answer at once."""

import sys
from pathlib import Path

import pytest

from tests.commands import ROOT, environment_of
from tests.processes import run

HEAVY = ("chromadb", "matplotlib", "onnxruntime", "langgraph", "openai", "scipy")
PROGRAM = """
import sys
from graph.cli import main
sys.argv = ["billp", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    code = ended.code
print("imported:", *sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("command", [["--help"], ["world", "list"], ["study", "--help"], ["memory", "--help"]])
def test_a_command_that_only_looks_imports_nothing_heavy(home: Path, command: list[str]) -> None:
    done = run([sys.executable, "-c", PROGRAM, *command], cwd=ROOT, env=environment_of(home))
    assert done.returncode == 0, done.stderr
    imported = done.stderr.rpartition("imported: ")[2].split()
    assert "graph" in imported and not {*HEAVY} & {*imported}


def test_a_visit_with_rules_imports_no_client_of_an_endpoint_or_a_chroma_server(home: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "recommend", "--world", "tiny"]
    done = run(command, cwd=ROOT, env=environment_of(home), typed="q\n")
    assert done.returncode == 0, done.stderr
    imported = done.stderr.rpartition("imported: ")[2].split()
    unneeded = {"openai", "langchain_openai", "pandas", "matplotlib", "chromadb.api.fastapi"}
    assert "chromadb" in imported and not unneeded & {*imported}
