"""Code of the examples in docstrings."""

import inspect
import textwrap


def indented_code(docstring: str) -> str:
    """Return the first block of code after `::` in a docstring, without its indentation."""
    lines = inspect.cleandoc(docstring).split("::\n\n", 1)[1].splitlines()
    indentation = len(lines[0]) - len(lines[0].lstrip())
    ended = next(place for place, line in enumerate(lines) if line and not line.startswith(" " * indentation))
    return textwrap.dedent("\n".join(lines[:ended])).strip() + "\n"
