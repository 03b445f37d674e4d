"""Scaffold of a new role: a working package with code, prompt and test, written from templates."""

import keyword
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from graph.variants import VARIANTS
from sim.atomic_files import atomic_folder
from sim.entry_points import ENTRY_NAME
from sim.errors import BadInputError

FILES: Mapping[str, str] = {
    "{name}/__init__.py": "role.py.jinja",
    "{name}/prompt.md": "prompt.md.jinja",
    "tests/test_{name}.py": "test_role.py.jinja",
    "pyproject.toml": "pyproject.toml.jinja",
    "langgraph.json": "langgraph.json.jinja",
}


def write_node(name: str, folder: Path) -> list[Path]:
    """Write the files of a new role, all or none, and return their paths.

    Args:
        name: Name of the role, of its function, its variant and its files.
        folder: New folder of the package.

    Raises:
        BadInputError: The name is invalid or taken, or the folder exists.
        OSError: The folder cannot be written.
    """
    check_free(name)
    if folder.exists():
        raise BadInputError(f"{folder} already exists: name another folder with --folder")
    words = name.split("_")
    values = {"name": name, "title": " ".join(words).capitalize(), "camel": "".join(map(str.capitalize, words))}
    templates = Environment(
        loader=PackageLoader("graph.cli", "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # It is no HTML, and the name is checked.
    )
    with atomic_folder(folder) as whole:
        for file, template in FILES.items():
            path = whole / file.format(name=name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(templates.get_template(template).render(values), encoding="utf-8")
    return [folder / file.format(name=name) for file in FILES]


def check_free(name: str) -> None:
    """Check that the name of a role is free.

    Raises:
        BadInputError: The name is invalid or taken.
    """
    if not ENTRY_NAME.fullmatch(name) or keyword.iskeyword(name):
        raise BadInputError(
            f"{name[:80]!r} is no name for a role: use lowercase letters, digits and _, starting with a letter"
        )
    if name in VARIANTS or any(name == node.__name__ for variant in VARIANTS.values() for node in variant.nodes):
        raise BadInputError(f"a role or variant {name!r} already exists: choose another name")
    if find_spec(name) is not None:
        raise BadInputError(f"a module {name!r} already exists, and the role would hide it: choose another name")
