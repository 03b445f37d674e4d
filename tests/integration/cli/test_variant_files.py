"""Variants from files: `--variant FILE.py:NAME` and `--variants`, for the person at the command line alone."""

import ast
import asyncio
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

import graph.extend
from graph.episode import build_variant
from graph.local_run import LocalVisit, resume_episode, run_episode
from graph.study import run as study_run
from graph.study import run_study
from graph.study.run import check_variants
from graph.study.settings import StudySettings
from graph.variant_files import load_variants, unload_variants
from graph.variants import VARIANTS, settings_schema
from nodes.context import Context
from nodes.state import VisitInput
from sim.errors import BadInputError
from tests import commands
from tests.commands import Run, refused
from tests.examples import indented_code

ROOT = Path(__file__).resolve().parents[3]
MOOD = indented_code(graph.extend.__doc__ or "")
# A file that tells whether it was run.
TELLING = "from pathlib import Path\nPath(__file__).with_suffix('.run').touch()\n"


@pytest.fixture(autouse=True)
def only_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run a test in a folder of its own."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str = MOOD) -> str:
    """Write a file, and return its variant as the command line names it."""
    path = Path(name)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text, encoding="utf-8")
    return f"./{name}:variant"


def billp(home: Path, *args: str) -> Run:
    """Run a command that knows no file of an earlier one."""
    unload_variants()
    return commands.billp(home, *args)


@pytest.mark.slow
def test_a_study_plays_a_variant_of_a_file_in_worker_processes(home: Path) -> None:
    given = ("--world", "tiny", "--train", "2", "--test", "2", "--cohort", "2", "--max-steps", "4", "--processes", "2")
    variants = f"act_only,{write('mood.py')}"
    done = billp(home, "study", "--out", "m", *given, "--variants", variants, "--set", "mood_prompt=Say it.", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    rows = {row["variant"]: row for row in results["rows"]}
    assert rows["mood"]["calls_per_step"] > rows["act_only"]["calls_per_step"] + 2
    assert results["settings"]["variants"] == ["act_only", "mood"]
    assert results["settings"]["context"]["mood_prompt"] == "Say it."
    assert (home / "runs" / "m" / "memory" / "mood-0").is_dir()
    lines = (home / "runs" / "m" / "visits.jsonl").read_text(encoding="utf-8").splitlines()
    played = [one for one in map(json.loads, lines) if one["variant"] == "mood"]
    assert all("The user is pleased." in step["plan"] for visit in played for step in visit["steps"][:1])

    server = billp(home, "study", "--out", "s", *given, "--variants", variants, "--server", "http://127.0.0.1:9")
    assert "a server plays the graphs of its own langgraph.json" in refused(server)
    episode = billp(home, "episode", "--world", "tiny", "--variant", "./mood.py:variant", "--max-steps", "1", "--json")
    assert json.loads(episode.stdout)["variant"] == "mood", episode.stderr
    assert "there is no file 'nowhere.py'" in refused(billp(home, "episode", "--variant", "./nowhere.py:variant"))


def test_the_name_follows_the_file_and_the_attribute() -> None:
    write("mood.py", MOOD + "bold = variant\n")
    write("package/__init__.py", MOOD)
    given = [
        "billp",
        "./mood.py:variant",
        "./mood.py:bold",
        "./package/__init__.py:variant",
        f"{Path.cwd()}/mood.py:bold",
    ]
    assert load_variants(given) == ("billp", "mood", "mood_bold", "package", "mood_bold")
    assert {*VARIANTS} >= {"mood", "mood_bold", "package"}


def test_a_file_imports_its_neighbours_and_hides_no_module() -> None:
    write("words.py", 'PLEASED = "glad"\n')
    given = write("json.py", f"import words\n\nassert words.PLEASED\n{MOOD}")
    assert load_variants([given]) == ("json",)
    assert json.loads("[1]") == [1] and sys.modules["json"] is json


@pytest.mark.parametrize(
    ("file", "text", "given", "told"),
    [
        ("a.py", MOOD, "./b.py:variant", "there is no file 'b.py'"),
        ("a.py", MOOD, "./a.py", "write FILE.py:NAME"),
        ("a.py", MOOD, "./a.py:", "write FILE.py:NAME"),
        ("a.txt", MOOD, "./a.txt:variant", "write FILE.py:NAME"),
        ("a.py", MOOD, "./a.py:varian", "a.py has no 'varian': its variants are variant"),
        ("a.py", "x = 1\n", "./a.py:x", "is not a Variant and does not return one"),
        ("a.py", MOOD, "./a.py:mood", "it is a role: put it into a variant"),
        (
            "a.py",
            "1\n\nundefined\n",
            "./a.py:x",
            "a.py cannot be loaded: line 3: NameError: name 'undefined' is not defined",
        ),
        ("a.py", "raise RuntimeError('no\\nlicence')", "./a.py:x", "line 1: RuntimeError: no licence"),
        ("a.py", "raise SystemExit('bye')", "./a.py:x", "SystemExit: bye"),
        ("a.py", "def f(:\n", "./a.py:x", "SyntaxError: invalid syntax"),
        ("a.py", "\0", "./a.py:x", "cannot be loaded: SyntaxError"),
        ("Mood-1.py", MOOD, "./Mood-1.py:variant", "'Mood-1' is invalid: use lower-case letters"),
        ("billp.py", MOOD, "./billp.py:variant", "there is another variant 'billp'"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_of_in_one_line(file: str, text: str, given: str, told: str) -> None:
    write(file, text)
    with pytest.raises(BadInputError) as error:
        load_variants([given])
    assert told in str(error.value) and "\n" not in str(error.value)


def test_two_variants_of_one_name_and_the_name_of_a_baseline_are_refused() -> None:
    one, other = write("mood.py"), write("other/mood.py")
    with pytest.raises(BadInputError, match="named twice"):
        check_variants(load_variants([one, other]))
    with pytest.raises(BadInputError, match="there is a baseline 'greedy' too"):
        check_variants(load_variants([write("greedy.py")]))


@pytest.mark.slow
def test_a_study_is_gone_on_with_by_the_same_file_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def study() -> Path:
        names = load_variants([write("mood.py", Path("kept.py").read_text())])
        settings = StudySettings(world="tiny", variants=names, train=2, test=2, cohort=2, max_steps=3)
        return run_study(settings, "m", concurrency=2, processes=1, progress=lambda *_: None)

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    write("kept.py")
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(study_run, "run_cells", stop)
        study()
    write("kept.py", MOOD + "# edited\n")
    with pytest.raises(BadInputError, match=r"started with other settings \(file of mood: '\w{12}', now '\w{12}'\)"):
        study()
    write("kept.py")
    assert (study() / "results.json").is_file()


async def test_a_visit_that_was_stopped_needs_its_file_again(home: Path) -> None:
    class Stop(Exception):
        pass

    def stop(_: Any) -> None:
        raise Stop

    (name,) = load_variants([write("mood.py")])
    visit = LocalVisit(variant=name, visit=VisitInput(world="tiny", max_steps=2), context=Context(), remember=False)
    with pytest.raises(Stop):
        await run_episode(visit, stop)
    (file,) = (home / "visits").glob("*/visit.json")
    assert "mood.py" not in file.read_text()
    unload_variants()
    with pytest.raises(BadInputError, match=r"no variant 'mood': .* give --variant FILE\.py:NAME"):
        await resume_episode(lambda _: None)
    load_variants(["./mood.py:variant"])
    begun, output = await resume_episode(lambda _: None)
    assert begun.variant == "mood" and len(output.steps) == 2


def test_settings_of_several_variants_reach_a_worker_by_the_names_of_the_variants() -> None:
    two = MOOD + 'other = Role("tone", "Say.", Mood, facts=facts, rules=rules, apply=apply)\n'
    names = load_variants([write("two.py", two + "variant = variant.before('actor', other)\n"), write("mood.py")])
    context = settings_schema(names).model_validate({"tone_prompt": "Speak.", "mood_model": "rules"})
    again = pickle.loads(pickle.dumps(context))  # noqa: S301
    assert again.model_dump() == context.model_dump() and again.model_fields_set == context.model_fields_set


def test_nothing_but_the_command_line_loads_a_file(home: Path) -> None:
    given = write("evil.py", TELLING + MOOD)
    study = StudySettings.model_validate({"world": "tiny", "variants": [given]})
    with pytest.raises(BadInputError, match="there is no variant"):
        run_study(study, "x", concurrency=1, processes=1, progress=lambda *_: None)
    visit = LocalVisit.model_validate({"variant": given, "visit": {"world": "tiny"}, "context": {}})
    with pytest.raises(BadInputError, match="there is no variant"):
        asyncio.run(run_episode(visit, lambda _: None))
    with pytest.raises(KeyError):
        build_variant(given)
    assert given not in VARIANTS and not Path("evil.run").exists()
    # The file does run when the command line loads it, so its mark is no accident.
    load_variants([given])
    assert Path("evil.run").exists()


def test_only_the_commands_and_the_workers_of_a_study_load_files() -> None:
    importers = set()
    for file in (path for floor in ("graph", "nodes", "memory", "sim") for path in (ROOT / floor).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "graph.variant_files":
                if "load_variants" in {alias.name for alias in node.names}:
                    importers.add(file.relative_to(ROOT).as_posix())
    commands = {file for file in importers if file.startswith("graph/cli/")}
    assert commands and importers - commands == {"graph/study/workers.py"}
