"""Titles of films in twenty scripts, by the name of the script."""

from pathlib import Path

_FILE = Path(__file__).with_suffix(".txt")
SCRIPTS = {
    script: [title.strip() for title in titles.split("|")]
    for script, titles in (line.split(": ", 1) for line in _FILE.read_text(encoding="utf-8").splitlines())
}
