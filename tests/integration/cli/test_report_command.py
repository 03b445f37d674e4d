"""Command `billp report`: the same page as that of the study, and one line for each run that has no page."""

import shutil
from pathlib import Path

import pytest

from tests.commands import billp, refused

STUDY = ("study", "--world", "tiny", "--train", "2", "--test", "2", "--variants", "act_only,random", "--max-steps", "5")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("report") / "home"
    run = billp(home, *STUDY, "--out", "s")
    assert run.returncode == 0, run.stderr
    return home


@pytest.fixture
def home(studied: Path, tmp_path: Path) -> Path:
    """Home with the runs of the study, for one test to change."""
    shutil.copytree(studied / "runs", tmp_path / "home" / "runs")
    return tmp_path / "home"


@pytest.mark.slow
def test_a_page_is_rebuilt_as_the_study_wrote_it(home: Path) -> None:
    folder = home / "runs" / "s"
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    (folder / "report.html").unlink()
    run = billp(home, "report", "s")
    assert (run.returncode, run.stdout) == (0, f"report: {Path('home', 'runs', 's', 'report.html')}\n"), run.stderr
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == files


def test_an_unknown_run_is_named_with_those_there_are(home: Path) -> None:
    assert "there is no run 'other': choose one of s, or run `billp study --out other` first" in refused(
        billp(home, "report", "other")
    )
    shutil.rmtree(home / "runs")
    assert "there is no run 'other': run `billp study --out other` first" in refused(billp(home, "report", "other"))
    assert "'../s'" in refused(billp(home, "report", "../s"))


def test_an_unfinished_run_has_no_page_yet(home: Path) -> None:
    (home / "runs" / "s").rename(home / "runs" / ".s.unfinished")
    (home / "runs" / ".s.unfinished" / "results.json").unlink()
    line = refused(billp(home, "report", "s"))
    assert "the run 's' is unfinished: run its `billp study` command again to finish it" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (
            "results.json",
            '"world"',
            '"wrld"',
            "another version (world: Field required)",
        ),
        ("results.json", "{", "", "results.json is damaged or from another version"),
        ("visits.jsonl", '"reward": ', '"reward": "x', "visits.jsonl, line 1 is damaged or from another version"),
        ("visits.jsonl", '"split": "dev"', '"split": "train"', "visits.jsonl lacks visits of act_only"),
    ],
)
def test_a_damaged_run_is_named_and_its_page_stays(home: Path, file: str, old: str, new: str, words: str) -> None:
    folder = home / "runs" / "s"
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    page = (folder / "report.html").read_bytes()
    line = refused(billp(home, "report", "s"))
    assert words in line and line.endswith("run the study again\n")
    assert (folder / "report.html").read_bytes() == page


def test_texts_of_a_run_are_shown_as_text(home: Path) -> None:
    file = home / "runs" / "s" / "visits.jsonl"
    lines = file.read_text(encoding="utf-8").replace('"plan": "', '"plan": "<script>alert(1)</script>')
    file.write_text(lines, encoding="utf-8")
    assert billp(home, "report", "s").returncode == 0
    page = (home / "runs" / "s" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
