"""Default prompts of the roles, as Markdown files."""

from functools import cache
from importlib.resources import files


@cache
def default_prompt(role: str) -> str:
    """Return the text of `role`.md in this package."""
    return files(__name__).joinpath(f"{role}.md").read_text(encoding="utf-8").strip()
