"""Claims of the README, compared with the code and files."""

import re
import sys
from pathlib import Path

import pytest

from graph.episode import graph
from tests.processes import run

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_diagram_is_the_one_that_langgraph_draws() -> None:
    assert [block.strip() for block in blocks("mermaid")] == [graph.get_graph().draw_mermaid().strip()]


def test_the_code_runs_as_it_stands(home: Path) -> None:
    for code in blocks("python"):
        done = run([sys.executable, "-c", code], cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert "rounds; the last plan:" in done.stdout


def test_the_verbs_named_are_those_of_the_makefile() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`| {4})make ([a-z-]+)", text))
    assert {"demo", "test", "dev", "bench"} <= named
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= verbs


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_within_the_project_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)", document.read_text(encoding="utf-8"))
    for link, anchor in links:
        target = document.parent / link if link else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as a code host generates them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
