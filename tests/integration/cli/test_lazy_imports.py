"""Commands that only look at files import nothing heavy, so that they answer at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

HEAVY = ("chromadb", "matplotlib", "onnxruntime", "langgraph", "openai", "scipy")
PROGRAM = """
import sys
from graph.cli import main
sys.argv = ["billp", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    code = ended.code
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("command", [["--help"], ["world", "list"], ["study", "--help"], ["memory", "--help"]])
def test_a_command_that_only_looks_imports_nothing_heavy(home: Path, command: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        cwd=ROOT, env=os.environ | {"BILLP_HOME": str(home)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    imported = run.stderr.rpartition("imported: ")[2].split()
    assert "graph" in imported and not {*HEAVY} & {*imported}
