"""Control characters of a text, and what they may not reach: terminals and pages."""

import io
import json
import re
from typing import Any

import pytest
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from graph.console import PlainConsole, print_json
from graph.report.html import _environment
from sim.plain_text import field_text, without_controls

# Colour, title of the window, movement of the cursor, an 8-bit code, overrides of direction, bell, and backspaces.
HOSTILE = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b]8;;http://x\x1b\\link",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "a\u202eb\u2066c\u200f",
    "bell\x07\x08\x08",
    "carriage\rreturn",
    "\udcff",
    "\x1bc",
)


def is_plain(text: str) -> bool:
    return not any(sign in text for one in HOSTILE for sign in one if not sign.isprintable())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_loses_its_codes_and_keeps_its_words(text: str) -> None:
    assert is_plain(without_controls(f"One {text} two")) and field_text(f"One {text} two").startswith("One ")
    assert field_text(f"One {text} two").endswith(" two")


def test_lines_tabs_and_joiners_stay() -> None:
    text = "one\ttwo\nमी\u200dं می\u200cخواهم 🇪🇺"
    assert without_controls(text) == text


@pytest.mark.parametrize("colour", [True, False])
def test_no_console_shows_a_code_of_a_text(colour: bool) -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=colour, color_system="standard" if colour else None, width=200)
    for text in HOSTILE[:-2]:
        table = Table("name")
        table.add_row(text)
        table.add_row(Text(text))
        for shown in (text, escape(text), Text(text), table):
            console.print(shown, soft_wrap=True, highlight=False)
        console.print(f"[bold]{escape(text)}[/]", highlight=False)
    written = file.getvalue()
    assert ("\x1b[1m" in written) == colour, "its own styles stay"
    assert is_plain(re.sub("\x1b\\[[01]m|\n", "", written))
    assert "red" in written and "link" in written


def test_json_for_programs_writes_codes_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"title": "".join(HOSTILE)})
    written = capsys.readouterr().out
    assert is_plain(written.rstrip("\n")) and json.loads(written)["title"] == "".join(HOSTILE)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_page_holds_a_code_of_a_text(text: str) -> None:
    values: dict[str, Any] = {"title": f"{text}<b>"}
    page = _environment().from_string('<p title="{{ title }}">{{ title }}</p>').render(values)
    assert is_plain(page) and page.count("&lt;b&gt;") == 2
