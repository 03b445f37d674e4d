"""Hooks of the site that `make docs` builds: pages of the API reference, links to code, diagrams without a script."""

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REFERENCE = re.compile(r"reference/([\w.]+)\.md")
OUTWARD_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")
FENCE_OF_FILE = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each module that the navigation lists as `reference/MODULE.md`."""
    for module in _modules(config.nav):
        text = f"---\ntitle: {module}\n---\n\n::: {module}\n"
        files.append(File.generated(config, f"reference/{module}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to code at the API reference, name the file of a block of code, and turn diagrams into tables.

    The pages are written for a code host. A linked file without a page of reference is not part of the site, so its
    link becomes its text.
    """

    def link(found: re.Match[str]) -> str:
        text, path = found.groups()
        module = posixpath.normpath(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        target = f"reference/{module}.md"
        return f"[{text}]({target})" if files.get_file_from_path(target) else f"`{text}`"

    markdown = FENCE_OF_FILE.sub(r'```\1 title="\2"', OUTWARD_LINK.sub(link, markdown))
    return MERMAID.sub(lambda found: _table(found[1]), markdown)


def _modules(nav: Any) -> Iterator[str]:
    """Yield the modules whose reference pages a part of the navigation lists."""
    if isinstance(nav, str):
        if found := REFERENCE.fullmatch(nav):
            yield found[1]
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _modules(part)


def _table(diagram: str) -> str:
    """Return the arrows of a Mermaid diagram as a table, one row for each box with arrows."""
    names = dict(re.findall(r'^\s*(\w+)\["([^"]+)"\]$', diagram, re.MULTILINE))
    targets: dict[str, list[str]] = {}
    for start, end in re.findall(r"^\s*(\w+) --> (\w+)$", diagram, re.MULTILINE):
        targets.setdefault(names[start], []).append(f"`{names[end]}`")
    rows = [f"| `{name}` | {', '.join(ends)} |" for name, ends in targets.items()]
    return "\n".join(["| from | arrows to |", "|---|---|", *rows])
