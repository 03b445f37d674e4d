"""A person's visit at a terminal, with the keys that people press."""

import sys
from pathlib import Path

from tests.commands import BILLP, billp, environment_of
from tests.integration.cli.terminals import CTRL_C, terminal

PRESSES = 400
ASK = """
from rich.console import Console
from graph.cli.person.view import PersonView

question = {
    "titles_lines": [], "unmet": [], "understood": [], "searched": [], "unjudged": [], "unknown": [],
    "title": "Alien", "year": 1979, "genres": ["Horror"],
    "round": 1, "why": "", "plan": "", "profile": "",
}
view = PersonView(Console(), "ann", "tiny", "")
for _ in range(PRESSES):
    view.stopped = False
    assert view.ask(question).leave and view.stopped
print("all counted")
"""


def test_the_first_ctrl_c_ends_the_visit_and_keeps_what_was_said(home: Path) -> None:
    command = [*BILLP, "recommend", "--world", "tiny", "--user", "ann", "--wishes", "romance"]
    with terminal(command, env=environment_of(home), cwd=home.parent) as shown:
        shown.wait_for("Getting ready…")
        assert "  1  " not in shown.screen
        shown.wait_for("q leave >")
        shown.type("no more war\n")
        shown.wait_for("q leave >", times=2)
        shown.type(CTRL_C)
        assert shown.end() == 130
    assert "1 round." in shown.screen and "billp recommend --user ann --world tiny" in shown.screen
    assert "Traceback" not in shown.screen
    saved = billp(home, "memory", "show", "profiles", "--user", "ann").stdout
    assert "romance · no more war [on " in saved


def test_ctrl_c_at_the_first_item_keeps_the_wishes(home: Path) -> None:
    command = [*BILLP, "recommend", "--world", "tiny", "--user", "ann", "--wishes", "romance"]
    with terminal(command, env=environment_of(home), cwd=home.parent) as shown:
        shown.wait_for("q leave >")
        shown.type(CTRL_C)
        assert shown.end() == 130
    assert "0 rounds." in shown.screen and "your words: romance" in shown.screen
    assert "romance" in billp(home, "memory", "show", "profiles", "--user", "ann").stdout


def test_each_ctrl_c_counts_from_the_prompt_on() -> None:
    script = ASK.replace("PRESSES", str(PRESSES))
    with terminal([sys.executable, "-c", script], cwd=Path.cwd()) as shown:
        for press in range(PRESSES):
            shown.wait_for("q leave >", times=press + 1)
            shown.type(CTRL_C)
        shown.wait_for("all counted")
        assert shown.end() == 0
