"""Site of the documents and the API reference, built as `make docs` builds it."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import run

pytest.importorskip("mkdocstrings", reason="needs the extra `docs`")

ROOT = Path(__file__).resolve().parents[3]
FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^\s\">]+", re.IGNORECASE)
"""Address that a browser fetches when it shows a page."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = run(command, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    return folder


def listed(nav: Any) -> Iterator[str]:
    """Yield the paths of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from listed(part)


def test_the_site_has_every_document_and_names_what_a_module_offers(site: Path) -> None:
    for document in (ROOT / "docs").glob("*.md"):
        name = "index" if document.name == "README.md" else document.stem
        assert (site / f"{name}.html").exists(), name
    store = (site / "reference" / "memory.store.html").read_text(encoding="utf-8")
    assert 'id="memory.store.ChromaStore"' in store
    assert "Embedding of texts: LangChain's embeddings" in store
    assert not list(site.rglob("*.py")), "code of the site's hooks is published"


def test_links_to_code_lead_to_its_reference_and_never_out_of_the_site(site: Path) -> None:
    architecture = (site / "architecture.html").read_text(encoding="utf-8")
    assert '<a href="reference/memory.store.html">memory/store.py</a>' in architecture
    for page in site.glob("*.html"):
        for link in re.findall(r'href="(?!https?:|#)([^"#]+)', page.read_text(encoding="utf-8")):
            if page.name != "404.html":
                assert (site / link).resolve().is_relative_to(site) and (site / link).exists(), f"{page.name}: {link}"


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert {"architecture.html", "memory.store.html"} <= {page.name for page in pages}
    for page in pages:
        assert not FETCHED.search(page.read_text(encoding="utf-8")), page.name
        # Material fetches Mermaid from a CDN where a page has such a diagram.
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8"), page.name


def test_every_module_that_a_document_imports_has_a_page_of_reference() -> None:
    pages = set(listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    blocks = [
        re.findall(r"^```python.*?^```$", file.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for file in documents
    ]
    code = "\n".join(block for found in blocks for block in found)
    modules = set(re.findall(r"^(?:from|import) ((?:graph|nodes|memory|sim)\b[\w.]*)", code, re.MULTILINE))
    assert {"graph.extend", "memory.store"} <= modules
    missing = {f"reference/{module}.md" for module in modules} - pages
    assert not missing, f"add to `nav` in mkdocs.yml: {sorted(missing)}"
