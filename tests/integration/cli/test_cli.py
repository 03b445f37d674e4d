"""Commands of `billp`, run as a user runs them."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.tools.open_world import open_world_now
from tests import processes
from tests.commands import BILLP, ROOT, billp, billp_process, environment_of, refused
from tests.processes import Command, started
from tests.waiting import until


@pytest.mark.parametrize(
    "command",
    [[], ["world"], ["world", "build"], ["world", "show"], ["world", "list"], ["episode"], ["recommend"], ["study"]],
)
def test_every_command_has_help(home: Path, command: list[str]) -> None:
    run = billp(home, *command, "--help")
    assert run.returncode == 0 and "Usage:" in run.stdout


def test_a_visit_is_shown_round_by_round(home: Path) -> None:
    run = billp(home, "episode", "--world", "tiny", "--max-steps", "100")
    assert run.returncode == 0, run.stderr
    for word in (
        "plan",
        "Recommend",
        "reward",
        "value",
        "advantage",
        "distance",
        "The user left: the item was",
        "no LLM",
    ):
        assert word in run.stdout
    assert (home / "memory").is_dir()


def test_a_visit_as_json_is_its_output_and_nothing_else(home: Path) -> None:
    run = billp(home, "episode", "--world", "tiny", "--max-steps", "3", "--json", "--no-memory", "--variant", "react")
    visit = json.loads(run.stdout)
    assert visit["model"] == "rules" and visit["variant"] == "react"
    assert len(visit["steps"]) == visit["length_with_exit"] <= 3
    assert not (home / "memory").exists()
    again = billp(home, "episode", "--world", "tiny", "--max-steps", "3", "--json", "--no-memory", "--variant", "react")
    assert again.stdout == run.stdout


def test_a_visit_recalls_what_the_last_one_of_the_same_user_taught(home: Path) -> None:
    first, second = (billp(home, "episode", "--world", "tiny", "--max-steps", "100", "--json") for _ in range(2))
    plans = [json.loads(run.stdout)["steps"][0]["plan"] for run in (first, second)]
    assert "at least" not in plans[0] and "at least" in plans[1]


def test_a_newcomer_brings_titles(home: Path) -> None:
    from sim.world import World

    title = World.load(home / "worlds" / "tiny").catalogue[0].title
    brought = ("--history", title, "--history", "Midnight Towers of Gold")
    run = billp(home, "episode", "--world", "tiny", "--user", "newcomer", *brought, "--max-steps", "2")
    assert run.returncode == 0, run.stderr
    assert "user newcomer" in run.stdout and f"Liked: {title}\n" in run.stdout
    assert "Not found: Midnight Towers of Gold (nearest: Midnight Tower, " in run.stdout
    liked = billp(home, "recommend", "--world", "tiny", "--user", "ann", "--like", title.upper(), typed="q\n")
    assert f"Liked: {title}\n" in liked.stdout and "Not found" not in liked.stdout


def test_a_person_is_asked_answers_and_is_remembered(home: Path) -> None:
    typed = "4\n?\n9\ns: no crime\n3: more comedy\nq\n"
    run = billp(home, "recommend", "--world", "tiny", "--user", "ann", "--wishes", "romance", typed=typed)
    assert run.returncode == 0, run.stderr
    assert "type a rating from 1 to 5" in run.stdout and "9 is no rating" in run.stdout
    # Each round shows only what is new of the profile.
    assert run.stdout.count("romance") == 2 and "noted  no crime" in run.stdout and "noted  more comedy" in run.stdout
    # What was understood is said once for each new wish.
    assert run.stdout.count("Understood: ") == 3 and "Understood: Romance.\n" in run.stdout
    assert "your words: romance · no crime · more comedy" in run.stdout and "3 rounds." in run.stdout
    later = billp(home, "recommend", "--world", "tiny", "--user", "ann", typed="profile: only drama\n")
    # Each comment stands with its title.
    assert re.search(r"you +romance · no crime \[on [^]]+\] · more comedy \[on [^]]+\]\n", later.stdout)
    assert "noted  only drama" in later.stdout and "1 round." in later.stdout
    assert "distance" not in later.stdout


def test_a_server_that_is_not_there_is_named(home: Path) -> None:
    run = billp(home, "recommend", "--server", "http://127.0.0.1:9")
    assert run.returncode == 1 and run.stderr.count("\n") == 1
    assert "no LangGraph server answers at http://127.0.0.1:9" in run.stderr


def test_world_show_without_a_name_lists_the_worlds(home: Path) -> None:
    shown = billp(home, "world", "show")
    assert shown.returncode == 0 and shown.stdout == billp(home, "world", "list").stdout
    assert "tiny" in shown.stdout


@pytest.mark.slow
def test_worlds_are_built_listed_and_shown(home: Path) -> None:
    assert billp(home, "world", "build", "mine", "--from", "tiny", "--seed", "3").returncode == 0
    listed = json.loads(billp(home, "world", "list", "--json").stdout)
    sources = ["amazon", "csv", "movielens", "steam", "tiny"]
    assert listed == {"built": ["mine", "tiny"], "allow_known": [], "sources": sources}
    shown = json.loads(billp(home, "world", "show", "mine", "--json").stdout)
    assert shown["seed"] == 3 and shown["leave_shares"]["random"]["leaves"] > 0
    text = billp(home, "world", "show", "mine").stdout
    assert "under random" in text and "% similar" in text


def test_a_world_that_users_never_leave_for_dislike_warns(home: Path) -> None:
    shown = json.loads(billp(home, "world", "show", "tiny", "--json").stdout)
    low = [policy for policy, shares in shown["leave_shares"].items() if shares["disliked"] < 0.02]
    assert len(shown["warnings"]) == len(low)
    by_user = billp(home, "world", "build", "strict", "--from", "tiny", "--min-reward-quantile", "0.2", "--json")
    assert json.loads(by_user.stdout)["leave_shares"]["random"]["disliked"] > 0.02


@pytest.mark.slow
def test_any_setting_of_the_roles_can_be_given_to_a_visit_and_a_study(home: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.md"
    prompt.write_text("Plan the next round. ☂\n", encoding="utf-8")
    common = ("--world", "tiny", "--max-steps", "4", "--set", f"planner_prompt=@{prompt}", "--set", "gamma=0.25")
    run = billp(home, "study", *common, "--out", "x", "--variants", "billp", "--train", "1", "--test", "1", "--json")
    assert run.returncode == 0, run.stderr
    context = json.loads(run.stdout)["settings"]["context"]
    assert (context["planner_prompt"], context["gamma"]) == ("Plan the next round. ☂\n", 0.25)
    visits = {}
    for size in ("1", "8"):
        shown = billp(home, "episode", *common, "--no-memory", "--set", f"shortlist_size={size}", "--json")
        assert shown.returncode == 0, shown.stderr
        visits[size] = json.loads(shown.stdout)["usage"]["prompt_tokens"]
    assert visits["1"] < visits["8"]


@pytest.mark.slow
def test_a_study_prints_its_table_and_where_the_results_are(home: Path) -> None:
    run = billp(
        home,
        "study",
        "--world",
        "tiny",
        "--train",
        "2",
        "--test",
        "2",
        "--variants",
        "act_only,random",
        "--max-steps",
        "5",
        "--out",
        "s",
    )
    assert run.returncode == 0, run.stderr
    assert "act_only" in run.stdout and "total reward" in run.stdout
    folder = Path("home", "runs", "s")
    assert run.stdout.endswith(f"results: {folder / 'results.json'}\nreport: {folder / 'report.html'}\n")
    assert all((home / "runs" / "s" / name).is_file() for name in ("visits.jsonl", "report.html"))
    assert "dev visits" in run.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["episode", "--world", "mars"], "there is no world 'mars'"),
        (["episode", "--world", "../../etc"], "is not a valid name of a world"),
        (["episode", "--world", "tiny", "--user", "nobody"], "'nobody' is unknown in world 'tiny'"),
        (["episode", "--world", "tiny", "--variant", "magic"], "there is no variant 'magic'"),
        (["episode", "--world", "tiny", "--model", "http://evil.example"], "model: "),
        (["episode", "--world", "tiny", "--model", "gpt-4"], "name it with its provider: openai:gpt-4"),
        (["recommend", "--world", "tiny", "--model", "openai/gpt-4o"], "name it with its provider: openai:gpt-4o"),
        (["study", "--out", "x", "--set", "actor_model=GPT-4o"], "name it with its provider: openai:gpt-4o"),
        (["episode", "--world", "tiny", "--model", "openai:gpt-4o"], "OPENAI_API_KEY or OPENAI_BASE_URL"),
        (["episode", "--world", "tiny", "--max-steps", "0"], "--max-steps"),
        (["episode", "--world", "tiny", "--seed", "-1"], "--seed"),
        (["episode", "--colour"], "No such option"),
        (["study", "--out", "../x", "--world", "tiny"], "is not a valid name of a run"),
        (["study", "--out", "x", "--world", "tiny", "--variants", "billp,magic"], "there is no variant 'magic'"),
        (["study", "--out", "x", "--world", "tiny", "--variants", ","], "variants: "),
        (["study", "--out", "x", "--world", "tiny", "--test", "0"], "--test"),
        (["study", "--out", "x", "--world", "tiny", "--test", "9999"], "dev users"),
        (["study", "--out", "x", "--world", "tiny", "--seeds", "-1"], "--seeds"),
        (["study", "--out", "x", "--world", "tiny", "--memory", "half"], "memory.0: "),
        (["study", "--out", "x", "--world", "tiny", "--recall", "theirs"], "recall.0: "),
        (["study", "--out", "x", "--world", "tiny", "--visits-per-user", "0"], "--visits-per-user"),
        (["study", "--out", "x", "--world", "tiny", "--set", "learn=off"], "--set learn: a study sets this itself"),
        (["episode", "--set", "gama=0.1"], "--set: there is no setting 'gama': did you mean 'gamma'?"),
        (["episode", "--set", "gamma=2"], "--set gamma: Input should be less than or equal to 1 (got '2')"),
        (["episode", "--set", "gamma"], "--set 'gamma': write NAME=VALUE"),
        (["episode", "--set", "gamma=0", "--set", "gamma=1"], "--set gamma is given twice"),
        (["episode", "--set", "planner_prompt=@nowhere.md"], "nowhere.md: No such file or directory"),
        (["study"], "--out"),
        (["world", "build", "mine", "--from", "nowhere"], "nowhere"),
        (["world", "build", "Bad/Name"], "is not a valid name of a world"),
        (["world", "show", "mars"], "there is no world 'mars'"),
        (["jump"], "No such command"),
    ],
)
def test_bad_usage_gets_one_line_and_leaves_nothing(home: Path, args: list[str], words: str) -> None:
    before = sorted(home.rglob("*"))
    assert words in refused(billp(home, *args))
    assert sorted(home.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["world", "list"], 0),
        (["recommend", "--server", "http://127.0.0.1:9"], 1),
        (["episode", "--world", "mars"], 2),
        (["--help"], 0),
    ],
)
def test_the_program_prints_and_ends_as_in_the_test_process(home: Path, args: list[str], code: int) -> None:
    # The other tests run commands in the process, so this one compares with the program that users start.
    program, here = billp_process(home, *args), billp(home, *args)
    assert program.returncode == here.returncode == code
    # The help names the program by how this process was started.
    shown, expected = (re.sub(r"^Usage: .* \[", "Usage: billp [", one.stdout) for one in (program, here))
    assert (shown, program.stderr) == (expected, here.stderr)


def test_a_user_without_history_is_refused(home: Path) -> None:
    file = home / "worlds" / "tiny" / "users.jsonl"
    users = [json.loads(line) for line in file.read_text().splitlines()]
    rebuilt = home / "worlds" / "tiny"
    from sim.world import World

    world = World.load(rebuilt)
    contents = world.data
    from dataclasses import replace

    stripped = tuple(
        replace(one, history=(), ratings=()) if one.id == users[0]["id"] else one for one in contents.users
    )
    World(replace(contents, users=stripped)).save(rebuilt)
    assert "has no history" in refused(billp(home, "episode", "--world", "tiny", "--user", users[0]["id"]))


def test_a_broken_world_is_named(home: Path) -> None:
    arrays = next((home / "worlds" / "tiny").glob("*.npz"))
    for file in (home / "worlds" / "tiny").iterdir():
        if file.suffix == ".npz" and file.name != "labels.npz":
            arrays = file
    arrays.write_bytes(arrays.read_bytes()[:100])
    assert arrays.name in refused(billp(home, "episode", "--world", "tiny"))


def test_a_store_of_another_embedding_is_refused(home: Path) -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    from memory.store import ChromaStore

    ChromaStore(home / "memory", embeddings=DeterministicFakeEmbedding(size=8)).close()
    assert "embedding" in refused(billp(home, "episode", "--world", "tiny"))


def test_a_folder_in_use_is_refused(home: Path) -> None:
    from memory.embeddings import shared_embeddings
    from memory.store import ChromaStore

    with ChromaStore(home / "memory", embeddings=shared_embeddings()):
        assert "BILLP_CHROMA_URL" in refused(billp(home, "episode", "--world", "tiny"))


def test_an_unwritable_folder_is_named(home: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for command in (
        ["world", "build", "tiny"],
        ["episode", "--world", "tiny"],
        ["study", "--out", "x", "--world", "tiny", "--test", "4"],
    ):
        assert str(blocked) in refused(billp(blocked / "home", *command))
    assert blocked.read_text() == ""


@pytest.mark.slow
def test_debug_shows_where_an_error_came_from(home: Path) -> None:
    # A process of its own: Python prints the traceback as it ends.
    run = billp_process(home, "--debug", "episode", "--world", "mars")
    assert "Traceback" in run.stderr and run.returncode == 1


def test_the_default_world_is_built_on_first_use(tmp_path: Path) -> None:
    home = tmp_path / "fresh"
    run = billp(home, "episode", "--world", "tiny", "--max-steps", "1", "--no-memory")
    assert run.returncode == 0, run.stderr
    assert (home / "worlds" / "tiny").is_dir()
    shutil.rmtree(home)


@pytest.mark.slow
def test_a_study_that_is_ended_leaves_no_process_and_no_run(home: Path) -> None:
    args = ["study", "--world", "tiny", "--train", "400", "--test", "12", "--seeds", "2", "--variants", "billp,react"]
    # A process of its own, since it gets a signal.
    with started(
        [*BILLP, *args, "--out", "ended"],
        env=environment_of(home),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # The study is under way when a cell has opened its memory.
        memories = "runs/.ended.unfinished/memory/*/chroma.sqlite3"
        until(lambda: process.poll() is not None or [*home.glob(memories)])
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 130
        assert errors.splitlines()[-1] == "billp: stopped; run the same command to resume" and "Traceback" not in errors
        assert [one.name for one in (home / "runs").iterdir()] == [".ended.unfinished"]
        until(lambda: group_is_gone(process.pid), "the end of the workers")


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_an_endpoint_that_does_not_answer_is_named_in_one_line(home: Path) -> None:
    dead = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    args = ["--world", "tiny", "--model", "openai:none"]
    run = billp(home, "episode", *args, **dead)
    assert run.returncode == 1 and "OPENAI_BASE_URL" in run.stderr and run.stderr.count("\n") == 1
    run = billp(home, "study", *args, "--variants", "react", "--train", "0", "--test", "1", "--out", "dead", **dead)
    assert run.returncode == 1 and "openai:none failed (Connection failed" in run.stderr
    assert [one.name for one in (home / "runs").iterdir()] == [".dead.unfinished"]


def test_what_is_no_run_is_not_replaced(home: Path) -> None:
    (home / "runs" / "mine").mkdir(parents=True)
    (home / "runs" / "mine" / "notes.txt").write_text("keep me")
    args = ["study", "--world", "tiny", "--variants", "random", "--test", "1", "--out", "mine"]
    assert "exists but is not a run" in refused(billp(home, *args))
    assert (home / "runs" / "mine" / "notes.txt").read_text() == "keep me"


@pytest.mark.parametrize("command", [[], ["world"]])
def test_without_a_command_the_help_is_shown(home: Path, command: list[str]) -> None:
    run = billp(home, *command)
    assert run.returncode == 2 and run.stderr.count("\n") > 5


def test_home_may_be_named_with_a_tilde(home: Path, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "BILLP_HOME": "~/home"}
    run = billp(home, "episode", "--world", "tiny", "--max-steps", "1", **env)
    assert run.returncode == 0, run.stderr
    assert (home / "memory").is_dir() and not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("encoding", "command", "shown"),
    [
        ("latin-1", ("episode", "--world", "tiny", "--max-steps", "1"), "+0.00 -> +"),
        ("cp1252", ("world", "build", "--help"), "id=…"),
        ("ascii", ("world", "build", "--help"), "id=..."),
    ],
)
def test_a_terminal_of_any_encoding_shows_substitutes_for_what_it_lacks(
    home: Path, encoding: str, command: tuple[str, ...], shown: str
) -> None:
    environment = environment_of(home, PYTHONIOENCODING=encoding)
    done = processes.run([*BILLP, *command], env=environment, cwd=home.parent, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown in done.stdout


def test_titles_are_shown_in_ascii_and_json_keeps_them(home: Path) -> None:
    history = ("--user", "\u0141uk\u00e1\u0161 \u65e5", "--history", open_world_now("tiny").world.catalogue[0].title)
    command = [*BILLP, "episode", "--world", "tiny", "--max-steps", "1", "--no-memory", *history]
    environment = environment_of(home, PYTHONIOENCODING="ascii")
    shown, as_json = (processes.run([*command, *more], env=environment, cwd=home.parent) for more in ([], ["--json"]))
    assert "user ?ukas ?: 1 rounds" in shown.stdout, shown.stderr
    assert as_json.stdout.isascii() and json.loads(as_json.stdout)["user_id"] == "\u0141uk\u00e1\u0161 \u65e5"


def test_an_argument_in_another_encoding_than_the_locale_s_is_refused_in_one_line(home: Path) -> None:
    environment = environment_of(home, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = processes.run([*BILLP, "recommend", "--user", "Zo\u00e9"], env=environment, cwd=home.parent)
    assert "the argument Zoe is not in the locale's encoding" in refused(done)


def without_rights(command: Command) -> list[str]:
    """Return a command that may not write where it lacks permission, for root too."""
    if os.geteuid():
        return [*map(str, command)]
    if shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere, and setpriv is not installed")
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", *map(str, command)]


@pytest.fixture
def locked_home(home: Path) -> Iterator[Path]:
    """Home with a memory and a world, in which nothing may be written."""
    assert billp(home, "episode", "--world", "tiny", "--max-steps", "1").returncode == 0
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield home
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("episode", "--world", "tiny", "--max-steps", "1", "--no-memory"), "1 rounds"),
        (("memory", "list"), "records 3 (experiences 1, lessons 1, values 1)"),
    ],
)
def test_a_home_that_may_only_be_read_is_enough_for_what_writes_nothing(
    locked_home: Path, command: tuple[str, ...], shown: str
) -> None:
    environment = environment_of(locked_home)
    done = processes.run(without_rights([*BILLP, *command]), env=environment, cwd=locked_home.parent)
    assert (done.returncode, done.stderr) == (0, "") and shown in done.stdout


def test_a_visit_without_memory_needs_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    visit = billp(home, "episode", "--world", "tiny", "--max-steps", "1", "--no-memory")
    assert visit.returncode == 0 and "1 rounds" in visit.stdout, visit.stderr
    assert "Not a directory" in refused(billp(home, "world", "build", "tiny"))


def test_a_person_who_cannot_answer_is_told_so_in_one_line(home: Path) -> None:
    closed = processes.run(["sh", "-c", 'exec "$@" <&-', "sh", *BILLP, "recommend"], env=environment_of(home))
    assert refused(closed) == (
        "billp: standard input is closed: answer in a terminal, or write the answers into a pipe\n"
    )


def test_a_visit_is_run_with_closed_output(home: Path) -> None:
    command = [*BILLP, "episode", "--world", "tiny", "--max-steps", "1"]
    closed = processes.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], env=environment_of(home))
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", "")
    assert (home / "memory").is_dir()


def test_a_study_says_first_what_it_will_not_teach_and_how_long_it_takes(home: Path) -> None:
    study = ("study", "--world", "tiny", "--test", "1", "--max-steps", "3", "--processes", "1")
    run = billp(home, *study, "--out", "few", "--variants", "billp", "--train", "1", "--cohort", "1")
    assert run.returncode == 0, run.stderr
    warning = "--train 1 is not above --cohort 1: all train visits are of one cohort"
    assert run.stderr.startswith(f"Warning: {warning}")
    assert "This takes less than a minute on a free machine: 2 visits of agents" in run.stderr
    assert warning in json.loads((home / "runs" / "few" / "results.json").read_bytes())["warnings"][0]
    assert run.stdout.startswith("billp collects a total reward of ")
    rules = billp(home, *study, "--out", "rules", "--variants", "random,greedy", "--train", "1")
    assert "Warning" not in rules.stderr and "This takes" not in rules.stderr
    assert "ahead" in rules.stdout and "Memory takes no part" in rules.stdout
