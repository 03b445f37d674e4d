"""Screen of a person's visit."""

import io
from typing import Any

import pytest
from rich.console import Console

from graph.cli.person.view import ANSWERS, PersonView, plan_parts
from nodes.users.person import Answer

LONG = "no sequels and nothing that reminds me of the office, please, I have had enough of it"
QUESTION: dict[str, Any] = {
    "titles_lines": [], "unmet": [], "understood": [], "searched": [], "unjudged": [], "unknown": [],
    "title": "Alien", "year": 1979, "genres": ["Horror", "Sci-Fi"], "round": 1, "why": "it is good", "plan": "",
    "profile": "",
}  # fmt: skip


class Screen:
    """Screen of one visit, with what a question showed and the answer to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, terminal: bool = True) -> None:
        self._monkeypatch = monkeypatch
        self._file = io.StringIO()
        console = Console(file=self._file, width=60, force_terminal=terminal, color_system=None)
        self._view = PersonView(console, "ann", "", "")

    def ask(self, typed: str, **changed: Any) -> tuple[str, Answer]:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(f"{typed}\n"))
        start = len(self._file.getvalue())
        answer = self._view.ask(QUESTION | changed)
        return self._file.getvalue()[start:].replace(ANSWERS, "> "), answer


def test_a_terminal_breaks_lines_between_words_below_their_start(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _ = Screen(monkeypatch).ask(
        "4", profile=LONG, plan="Recommend Drama; leave out War, Crime, Western and Horror"
    )
    assert shown.splitlines() == [
        "  1  Alien (1979) (Horror, Sci-Fi)",
        "     it is good",
        "     plan   Recommend Drama; leave out War, Crime, Western",
        "            and Horror.",
        "     you    no sequels and nothing that reminds me of the",
        "            office, please, I have had enough of it",
        "> ",
    ]
    piped, _ = Screen(monkeypatch, terminal=False).ask("4", profile=LONG)
    assert f"     you    {LONG}\n" in piped


def test_only_what_is_new_of_how_words_were_taken_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    first, _ = screen.ask("s", understood=["Romance", "no War", "no Crime"], unjudged=["length"])
    assert first.startswith("Understood: Romance, no War or Crime. This catalogue says\nnothing about: length.\n")
    same, _ = screen.ask("s", understood=["Romance", "no War", "no Crime"], unjudged=["length"])
    assert same.startswith("  1  Alien")
    more, _ = screen.ask("s", understood=["Comedy", "also Romance", "no War"], unjudged=["length", "Hitchcock"])
    assert more.splitlines()[:2] == [
        "Understood: Comedy, also Romance. This catalogue says",
        "nothing about: Hitchcock. No longer: no Crime.",
    ]
    none, _ = screen.ask("s", understood=["no War", "no Crime", "no Western"])
    other, _ = screen.ask("s")
    assert other.startswith("No longer: no War, Crime or Western.\n") and "no Crime or Western" in none


def test_what_is_not_met_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    said = [
        screen.ask("s", unmet=unmet)[0].count("Not met: ")
        for unmet in (["War: none"], ["War: none"], [], ["War: none"])
    ]
    assert said == [1, 0, 0, 1]


def test_a_plan_speaks_to_the_person_and_repeats_nothing_that_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    plans = (
        "Recommend what the user likes best; leave out War; keep a distance of at least 0.60 from the last four items.",
        "Recommend Drama; leave out War.",
        "Recommend Drama; leave out War, Crime.",
        "Keep a distance of at least 0.60 from the last four items.",
    )
    lines = [[line for line in screen.ask("s", plan=plan)[0].splitlines() if "plan" in line] for plan in plans]
    assert lines == [
        ["     plan   Recommend what you like best; leave out War."],
        ["     plan   Recommend Drama."],
        ["     plan   Recommend Drama; leave out War, Crime."],
        [],
    ]
    assert plan_parts("") == []


def test_an_answer_that_says_nothing_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for typed in ("maybe", "7", "hm", "why"):
        shown, answer = Screen(monkeypatch).ask(f"{typed}\n4: lovely")
        assert (answer.rating, answer.comment) == (4, "lovely")
        assert "\n> " in shown and all(not line or line.startswith((" ", ">")) for line in shown.splitlines()), shown
