"""Check of recorded runs of the original: files that agree, files that contradict, and files of no known kind."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph.cli.check_recorded import Conformance, check_recorded, report_lines
from sim.errors import BadInputError
from sim.original.runs import MAX_LINE, read_recorded
from tests.shared_data import recorded

RUN, TABLE = "run-1", "table-1"
ITEMS = [
    {"title": "Braid", "id": 3, "genres": ["Casual", "Indie"]},
    {"title": "Doom", "id": 4, "genres": ["Action"]},
    {"title": "Dark Matter", "id": 7, "genres": []},
    {"title": "Dark Matter", "id": 9, "genres": ["Action"]},
    {"title": "Portal", "id": 10, "genres": ["Puzzle"]},
]


def step(item: str, reward: float | None, generated: str = "Something new") -> dict[str, Any]:
    return {"thought": "…", "generated": generated, "grounded": item, "reward": reward, "done": reward is None}


def episode(user: int, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"file": RUN, "matrix": TABLE, "user_id": user, "history": ["Braid"], "steps": list(steps)}


def decision(item: str, window: list[str], reward: float | None, cause: str | None, **more: Any) -> dict[str, Any]:
    common = {"file": RUN, "matrix": TABLE, "user_id": 1, "t": len(window)}
    return common | {"item": item, "window": window, "left": cause is not None, "reward": reward, "cause": cause} | more


EPISODES = [
    episode(1, step("Braid", 4.5, "Braid"), step("Doom", 3.0), step("Braid", None)),
    episode(2, step("Doom", 1.25), step("Portal", None)),
    episode(3, step("Dark Matter", 5.0), step("Doom", 2.0)),
]
DECISIONS = [
    decision("Braid", [], 4.5, None),
    decision("Doom", [], 1.0, None, user_id=9),
    decision("Doom", ["Braid"], 3.0, None),
    decision("Braid", ["Braid", "Doom"], None, "repeat_in_window"),
    decision("Portal", ["Doom"], 4.0, "distance"),
    decision("Portal", ["Doom"], 1.5, "reward_lt_2", user_id=8),
    decision("Portal", ["Doom"], None, "reward_lt_2_implied"),
    decision("Portal", ["Doom"], None, "reward_or_distance"),
]
REWARDS = [(1, "Braid", 4.5), (1, "Doom", 3.0), (2, "Doom", 1.25), (3, "Dark Matter", 5.0), (3, "Doom", 2.0)]
CREDITED = [
    {"run": RUN, "user_id": 1, "t": 0, "state": [], "action": "Braid", "v": 0.0, "v_next": 2.0, "memory": 1},
    {"run": RUN, "user_id": 1, "t": 1, "state": [], "action": "Doom", "v": 2.0, "v_next": 2.0, "memory": 1},
    {"run": RUN, "user_id": 1, "t": 2, "state": [], "action": "Braid", "v": 2.0, "v_next": 1.5, "memory": -1},
]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, text: str | bytes) -> Path:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


@pytest.fixture
def files(write: Callable[..., Path]) -> list[Path]:
    """Return files of all six kinds, under names that do not show the kind."""
    rewards = "user_id,item,reward,matrix\n" + "".join(f"{u},{item},{r},{TABLE}\n" for u, item, r in REWARDS)
    texts = [lines(ITEMS), lines(EPISODES), lines(DECISIONS), rewards, lines(CREDITED)]
    texts.append(json.dumps({"Braid": "Braid", "doom 2016": "Portal"}, indent=0))
    return [write(f"file{number}", text) for number, text in enumerate(texts)]


def check(*paths: Path) -> Conformance:
    return check_recorded(read_recorded(list(paths)))


def contradictions(found: Conformance) -> list[str]:
    return [line for one in found.checks for line in one.contradictions]


def test_each_kind_is_told_by_its_content_and_agrees(files: list[Path]) -> None:
    found = check(*files)
    kinds = ["catalogues", "episodes", "decisions", "rewards", "credited", "grounded"]
    assert [kind for kind, _ in found.files.values()] == kinds
    assert contradictions(found) == [] and found.agrees
    counts = {one.name: (one.agree, one.open) for one in found.checks}
    # Left open: the decision by reward or distance, the leave of user 2, and rewards that no table lists.
    assert counts == {
        "leave decisions": (7, 1),
        "rounds of episodes": (6, 1),
        "rewards": (7, 3),
        "exact titles": (7, 0),
        "signs of credit": (3, 0),
    }


def test_the_metrics_are_those_computed_by_hand(files: list[Path]) -> None:
    (run,) = check(files[1]).runs
    # User 1 stays for 2 steps (7.5), user 2 for one (1.25), user 3 for two without leaving (7).
    assert (run.run, run.visits, run.left_out) == (RUN, 3, 0)
    assert run.length == pytest.approx(5 / 3)
    assert run.length_with_exit == pytest.approx(7 / 3)
    assert run.mean_reward == pytest.approx(15.75 / 5)
    assert run.total_reward == pytest.approx(15.75 / 3)


def test_a_visit_that_cannot_be_counted_is_left_out(write: Callable[..., Path]) -> None:
    odd = [
        episode(4, step("Braid", -1000.0) | {"done": False}, step("Doom", 3.0)),
        episode(5),
        episode(6, step("Braid", None), step("Doom", 3.0)),
    ]
    nothing = episode(7, step("Braid", None, "Stop") | {"grounded": None})
    (run,) = check(write("odd", lines([*EPISODES, *odd]))).runs
    assert (run.visits, run.left_out) == (3, 3)
    assert run.total_reward == pytest.approx(15.75 / 3)
    (run,) = check(write("only", lines(odd))).runs
    assert (run.visits, run.total_reward) == (0, None)
    # A text that names no item is not a decision of a user.
    assert check(write("nothing", lines([nothing]))).agrees


@pytest.mark.parametrize(
    "row",
    [
        decision("Braid", ["Braid"], 4.0, None),
        decision("Braid", ["Doom"], 1.5, None),
        decision("Braid", ["Doom"], 4.0, "repeat_in_window"),
        decision("Braid", ["Braid"], 4.0, "distance"),
        decision("Braid", ["Doom"], 2.0, "reward_lt_2"),
        decision("Braid", [], 1.0, "reward_lt_2"),
        decision("Braid", [], None, "reward_or_distance"),
        decision("Braid", ["Braid"], None, "reward_or_distance"),
        decision("Braid", ["Braid", "Doom", "Portal", "a", "b"], 4.0, "repeat_in_window"),
    ],
)
def test_a_decision_against_the_rule_is_named(write: Callable[..., Path], row: dict[str, Any]) -> None:
    found = check(write("decisions", lines([*DECISIONS, row | {"user_id": 7}])))
    assert not found.agrees
    (line,) = contradictions(found)
    assert f"user 7, round {row['t']}" in line


@pytest.mark.parametrize(
    "bad",
    [
        episode(7, step("Braid", 4.0), step("Braid", 4.0)),
        episode(7, step("Braid", 4.0), step("Doom", 1.9)),
        episode(7, step("Braid", None)),
        episode(7, step("Braid", 4.0), step("Braid", None), step("Doom", 4.0)),
    ],
)
def test_an_episode_against_the_rule_is_named(write: Callable[..., Path], bad: dict[str, Any]) -> None:
    (line,) = contradictions(check(write("episodes", lines([*EPISODES, bad]))))
    assert "user 7" in line


def test_another_reward_or_sign_or_title_is_named(files: list[Path], write: Callable[..., Path]) -> None:
    rewards = write("rewards", f"user_id,item,reward,matrix\n1,Doom,3.0000001,{TABLE}\n")
    assert ["'Doom' has reward 3.0" in line for line in contradictions(check(rewards, files[1]))] == [True]
    twice = write("twice", f"user_id,item,reward,matrix\n1,Doom,3,{TABLE}\n1,Doom,4,{TABLE}\n1,Doom,4,other\n")
    assert len(contradictions(check(twice))) == 1
    sign = write("sign", lines([*CREDITED, CREDITED[0] | {"v_next": -0.5}]))
    assert "0 to -0.5 was stored as 1" in contradictions(check(sign))[0]
    title = write("title", json.dumps({"Braid": "Doom"}))
    assert "'Braid' was grounded to 'Doom'" in contradictions(check(title, files[0]))[0]


def test_a_report_names_the_first_few_and_counts_the_rest(write: Callable[..., Path]) -> None:
    found = check(write("signs", lines([CREDITED[0] | {"memory": -1}] * 8)))
    text = "\n".join(report_lines(found))
    assert text.count("was stored as") == 5 and "and 3 more" in text
    assert "signs of credit: 0 agree, 8 contradict" in text
    assert "rewards: nothing to check" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("hello\n", "six kinds"),
        ("[1, 2]\n", "six kinds"),
        (b"\x80\x81\n", "line 1 is not UTF-8"),
        (lines(ITEMS).encode() + b"\xff\n", "line 6 is not UTF-8"),
        (lines(ITEMS) + "{\n", "line 6"),
        (lines(ITEMS) + "7\n", "line 6"),
        (lines([ITEMS[0] | {"genres": "Action"}]), "genres"),
        (lines([ITEMS[0], ITEMS[0]]), "occurs twice"),
        (lines(DECISIONS).replace("4.5", "NaN"), "line 1: reward"),
        (lines([DECISIONS[0] | {"left": "perhaps"}]), "left"),
        ("user_id,item,reward\n1,Doom,3\n", "column matrix is missing"),
        ("user_id,item,reward,matrix\n1,Doom,much,t\n", "line 2: reward"),
        ("user_id,item,reward,matrix\n1,Doom\n", "line 2: reward"),
        (json.dumps({"a": 1}), "line 1: a"),
        ('{"a": "b"', "line 1"),
        ("[" * 100_000, "six kinds"),
        ('{"steps": "' + "x" * MAX_LINE, "longer than"),
    ],
)
def test_what_is_no_recorded_file_is_refused_in_one_line(
    write: Callable[..., Path], text: str | bytes, said: str
) -> None:
    path = write("odd", text)
    with pytest.raises(BadInputError) as caught:
        read_recorded([path])
    message = str(caught.value)
    assert said in message and str(path) in message and "\n" not in message and len(message) < 600


def test_a_file_given_twice_is_refused(files: list[Path]) -> None:
    with pytest.raises(BadInputError, match="given twice"):
        read_recorded([files[0], files[0]])


def test_titles_that_differ_in_little_ground_to_themselves(write: Callable[..., Path]) -> None:
    titles = ["Field Of Prey", "Field of Prey", "Forever War, ", "Forever War", 'Books" />', "Books", "E", "4", "Stop"]
    titles += ["Rebecca   Daphne", "Rebecca Daphne", "H&uacute;rin", "Húrin", "[the Sequence]", "Doom (2016)", "Doom"]
    rows = [{"title": title, "id": number, "genres": ["Books"]} for number, title in enumerate(titles)]
    found = check(write("titles", lines(rows)))
    assert contradictions(found) == []


NAMES = [
    "catalogue.jsonl",
    "grounding_train.json",
    "leave_train.jsonl",
    "memory_rule_train.jsonl",
    "recorded_train.jsonl",
    "rewards_train.csv",
]


@pytest.mark.shared_data
def test_the_recorded_steam_runs_agree() -> None:
    found = check(*(recorded(name) for name in NAMES))
    assert contradictions(found) == []
    counts = {one.name: (one.agree, one.open) for one in found.checks}
    assert counts["leave decisions"] == (1601, 204)
    assert counts["rewards"] == (1505 + 1593, 0)
    assert counts["signs of credit"] == (363, 0)
    # All titles, and all texts that consist of a title: 146 groundings and 974 steps.
    assert counts["exact titles"] == (6011 + 146 + 974, 0)


@pytest.mark.shared_data
def test_the_metrics_of_the_recorded_steam_runs_are_those_computed_by_hand() -> None:
    with recorded("recorded_train.jsonl").open(encoding="utf-8") as file:
        episodes = [json.loads(line) for line in file]
    with recorded("rewards_train.csv").open(encoding="utf-8", newline="") as file:
        table = {(row["matrix"], row["user_id"], row["item"]): float(row["reward"]) for row in csv.DictReader(file)}
    runs = check(recorded("recorded_train.jsonl")).runs
    assert len(runs) == 3
    for run in runs:
        mine = [one for one in episodes if one["file"] == run.run]
        sums = []
        for one in mine:
            stayed = [row["grounded"] for row in one["steps"] if not row["done"]]
            sums.append((len(stayed), sum(table[one["matrix"], str(one["user_id"]), item] for item in stayed)))
        rounds, rewards = sum(size for size, _ in sums), sum(total for _, total in sums)
        assert (run.visits, run.left_out) == (100, 0) and len(mine) == 100
        assert run.length == pytest.approx(rounds / 100)
        assert run.length_with_exit == pytest.approx(rounds / 100 + 1)
        assert run.mean_reward == pytest.approx(rewards / rounds)
        assert run.total_reward == pytest.approx(rewards / 100)
