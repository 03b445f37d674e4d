"""Variants from Python files, named `FILE.py:NAME` on the command line as in a langgraph.json.

Loading a file runs its code. Only the person at the command line names files: nothing that arrives by a request or
stands in a file of a run is loaded.
"""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from graph.variants import VARIANTS, Variant
from sim.errors import BadInputError

# Name of the attribute that is left out of the variant's name.
USUAL = "variant"


class VariantFile(NamedTuple):
    """File from which this process has loaded a variant."""

    path: Path
    attribute: str
    checksum: str
    """Checksum of the file when it was loaded."""

    def __str__(self) -> str:
        return f"{self.path}:{self.attribute}"


_loaded: dict[str, VariantFile] = {}


def load_variants(given: Sequence[str], *, server: str = "") -> tuple[str, ...]:
    """Load the variants given as `FILE.py:NAME`, and return the names of all variants.

    `explorer.py:variant` is called `explorer`, and `explorer.py:bold` is called `explorer_bold`; an `__init__.py` gives
    the name of its folder.

    Args:
        given: Names, and files with their attributes.
        server: URL of the server that runs the visits; empty for this process.

    Raises:
        BadInputError: A file cannot be loaded, has no such variant or a name that is taken, or a server is to run it.
    """
    return tuple(_load(one, server) if ":" in one or one.endswith(".py") else one for one in given)


def loaded_files(variants: Sequence[str]) -> dict[str, VariantFile]:
    """Return the files from which the named variants were loaded, by name."""
    return {name: _loaded[name] for name in variants if name in _loaded}


def unload_variants() -> None:
    """Remove the variants of all files from the registry; `load_variants` runs the files again."""
    while _loaded:
        VARIANTS.remove(_loaded.popitem()[0])


def _load(given: str, server: str) -> str:
    file, _, attribute = given.rpartition(":")
    path = Path(file)
    if not attribute.isidentifier() or path.suffix != ".py":
        raise BadInputError(f"{given[:200]!r} does not name a variant in a file: write FILE.py:NAME")
    if server:
        raise BadInputError(
            f"{given[:200]!r}: a server plays the graphs of its own langgraph.json: name the file there, "
            "install the variant's package here, and give its name"
        )
    if not path.is_file():
        raise BadInputError(f"there is no file {str(path)[:200]!r}: name a file with a variant as FILE.py:NAME")
    stem = path.resolve().parent.name if path.stem == "__init__" else path.stem
    name = stem if attribute == USUAL else f"{stem}_{attribute}"
    module = _module(path.resolve(), stem)
    found = vars(module).get(attribute)
    if found is None:
        there = [known for known, value in vars(module).items() if isinstance(value, Variant)]
        raise BadInputError(f"{path} has no {attribute!r}: its variants are {', '.join(there) or 'none'}")
    try:
        VARIANTS.add(name, found)
    except Exception as error:  # Foreign code may raise anything.
        raise BadInputError(f"{given} cannot be used as a variant: {_one_line(error)}") from error
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    _loaded[name] = VariantFile(path.resolve(), attribute, checksum[:12])
    return name


def _module(path: Path, stem: str) -> ModuleType:
    """Run a file as a module; other files of its folder can be imported by it.

    Raises:
        BadInputError: The code raises an error; the message names the line.
    """
    # A name of its own, so that a file named after an installed module hides nothing.
    name = f"variant_file_{stem}"
    packages = [str(path.parent)] if path.stem == "__init__" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=packages)
    if spec is None or spec.loader is None:
        raise BadInputError(f"{path} cannot be loaded: name a Python file")
    module = importlib.util.module_from_spec(spec)
    # Checkpoints and pydantic look up the classes of a module by its name.
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # Foreign code may raise anything.
        del sys.modules[name]
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(path)]
        line = f"line {lines[-1]}: " if lines else ""
        raise BadInputError(f"{path} cannot be loaded: {line}{type(error).__name__}: {_one_line(error)}") from error
    return module


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
