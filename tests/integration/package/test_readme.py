"""Claims of the README, compared with the code and files."""

import json
import re
from pathlib import Path

import pytest

from graph.cli.variant_catalogue import VARIANT_LINES
from graph.episode import graph
from graph.variants import VARIANTS
from tests.commands import billp_process

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_diagram_is_the_one_that_langgraph_draws() -> None:
    assert [block.strip() for block in blocks("mermaid")] == [graph.get_graph().draw_mermaid().strip()]


@pytest.mark.slow
def test_the_role_plays_by_the_command_beside_it(home: Path, tmp_path: Path) -> None:
    (code,), text = blocks("python"), (ROOT / "README.md").read_text(encoding="utf-8")
    (file, name) = re.findall(r"`billp episode --variant \./(\w+\.py):(\w+)`", text)[0]
    (tmp_path / file).write_text(code, encoding="utf-8")
    command = ("episode", "--world", "tiny", "--variant", f"./{file}:{name}", "--no-memory", "--json")
    run = billp_process(home, *command)
    assert run.returncode == 0, run.stderr
    steps = json.loads(run.stdout)["steps"]
    assert len(steps) > 3
    assert ["Leave out Crime." in step["plan"] for step in steps] == [step["index"] > 2 for step in steps]
    assert not any("Crime" in step["genres"] for step in steps[3:])
    plain = billp_process(home, "episode", "--world", "tiny", "--no-memory", "--json")
    assert any("Crime" in step["genres"] for step in json.loads(plain.stdout)["steps"][3:])


def test_the_table_of_the_demo_has_rows_of_the_whole_output() -> None:
    """Compare the figures, since the columns of fewer rows are narrower."""
    rows = [line.split() for line in "".join(blocks("text")).splitlines() if line.endswith("%")]
    whole = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert 1 < len(rows) <= 4
    assert all(row in [line.split() for line in whole.splitlines()] for row in rows)


def test_each_variant_has_its_line_of_the_help() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == {
        name: line for lines in VARIANT_LINES.values() for name, line in lines.items() if name in VARIANTS
    }


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
