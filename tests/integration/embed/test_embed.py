"""Examples of docs/embed.md, each run as it stands in a folder of its own."""

import ast
import asyncio
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "embed.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [(file, code) for file, code in BLOCK.findall(TEXT)]
SERVED = "RemoteGraph("
"""Part of the example that needs a server; tests/integration/server/test_server.py runs it."""
PROGRAMS = [code for file, code in BLOCKS if not file and SERVED not in code]


def blocks(file: str) -> list[str]:
    return [code for name, code in BLOCKS if name == file]


def promised(code: str) -> list[str]:
    """Return the lines that a block prints, by its comments."""
    return re.findall(r"print\(.*\)  # (.+)$", code, re.MULTILINE)


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", PROGRAMS, ids=[f"program-{number}" for number in range(len(PROGRAMS))])
def test_a_program_prints_what_it_promises(code: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "program.py"
    file.write_text(code, encoding="utf-8")
    runpy.run_path(str(file))
    printed = capsys.readouterr()
    assert promised(code) and printed.out.splitlines() == promised(code)
    assert "Deserializing unregistered type" not in printed.err


def test_the_cells_of_a_notebook_run_one_after_the_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in IPython, `await` stands outside of functions, and all cells share one event loop and one namespace."""
    namespace: dict[str, Any] = {}

    async def run() -> None:
        for number, cell in enumerate(blocks("notebook")):
            code = compile(cell, f"cell {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            waiting = eval(code, namespace)  # noqa: S307
            if waiting is not None:
                await waiting

    asyncio.run(run())
    expected = [line for cell in blocks("notebook") for line in promised(cell)]
    assert len(expected) == 2
    assert capsys.readouterr().out.splitlines()[:2] == expected


def test_a_person_visits_by_the_routes_of_an_application(folder: Path) -> None:
    testing = pytest.importorskip("fastapi.testclient")
    (code,) = blocks("app.py")
    (folder / "app.py").write_text(code, encoding="utf-8")
    app = runpy.run_path(str(folder / "app.py"))["app"]
    ann = {"Authorization": "Bearer token-of-ann"}
    with testing.TestClient(app) as client:
        post = client.post
        assert post("/visit", json={}).status_code == 401
        assert post("/visit", json={}, headers={"Authorization": "Bearer x"}).status_code == 401
        refused = post("/visit", json={"world": "nowhere"}, headers=ann)
        assert refused.status_code == 422 and "nowhere" in refused.json()["detail"]
        first = post("/visit", json={"world": "tiny", "user_id": "bob", "wishes": "romance"}, headers=ann)
        assert first.json()["question"]["round"] == 1
        assert post("/answer", json={"rating": 9}, headers=ann).status_code == 422
        second = post("/answer", json={"rating": 4}, headers=ann)
        assert second.json()["question"]["round"] == 2
        assert post("/answer", json={"leave": True}, headers=ann).json() == {"total_reward": 4.0}
        again = post("/visit", json={"world": "tiny"}, headers=ann)
        assert again.json()["question"]["profile"] == "romance", "the account is known by its own name"
