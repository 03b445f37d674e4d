"""Screen of a person's visit: the items, the prompt, and what was saved at the end."""

import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from graph.cli.person.answers import read_answer
from nodes.tools.wish_text import joined_parts, titled, told_line
from nodes.users.person import Answer
from sim.errors import BadInputError
from sim.plain_text import one_line

INDENT = 5
# Parts of a question that say how words were taken.
TOLD = ("understood", "searched", "unjudged", "unknown")
ANSWERS = "     1-5 · a comment · s skip · seen · never · q leave > "


class PersonView:
    """Screen of a visit, with the answers given so far.

    Args:
        console: Console to print on and to read from.
        user: Name of the person.
        world: Name of the world; empty for the default world.
        wishes: Wishes that the person brought.
    """

    def __init__(self, console: Console, user: str, world: str, wishes: str) -> None:
        self._console = console
        self._user, self._world, self._wishes = user, world, wishes
        self._known: list[str] | None = None
        self._told: dict[str, list[str]] = {name: [] for name in TOLD}
        self._plan: list[str] = []
        self._unmet: list[str] = []
        self._answers: list[tuple[str, Answer]] = []
        self.stopped = False
        """Whether the person ended the visit by Ctrl-C."""

    def ask(self, question: Mapping[str, Any]) -> Answer:
        """Show an item, and return the answer; ask again after an answer that cannot be read.

        The end of the input and Ctrl-C are answers as well: they leave, so that the visit saves all that was said.
        """
        self._show(question)
        while True:
            try:
                answer = read_answer(self._line())
            except (EOFError, KeyboardInterrupt) as end:
                self.stopped = isinstance(end, KeyboardInterrupt)
                self._console.print()
                answer = Answer(leave=True)
            except BadInputError as error:
                self._print(str(error), INDENT)
                continue
            self._answers.append((question["title"], answer))
            return answer

    def _line(self) -> str:
        """Ask for a line, and return it.

        At a terminal, Ctrl-C is noted and looked at before each read. An exception at any moment would be lost if it
        came just before the read, which then waits for a key, and the handler of `asyncio.run` only cancels the task.

        Raises:
            EOFError: The input has ended.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        prompt = Text(ANSWERS)
        if os.name != "posix" or not sys.stdin.isatty() or threading.current_thread() is not threading.main_thread():
            return self._console.input(prompt)
        with _noted_signals() as (signals, pressed):
            self._console.print(prompt, end="")
            while not pressed:
                # A terminal hands out whole lines, so none waits in the buffer of `sys.stdin`.
                ready = select.select([sys.stdin, signals], [], [])[0]
                if signals in ready:
                    os.read(signals, select.PIPE_BUF)
                elif sys.stdin in ready:
                    return self._console.input()
        raise KeyboardInterrupt

    def _show(self, question: Mapping[str, Any]) -> None:
        for line in question["titles_lines"]:
            self._print(line)
        if new := self._newly_told(question):
            self._print(new)
        for one in question["unmet"]:
            if one not in self._unmet:
                self._print(f"Not met: {one}.")
        self._unmet = question["unmet"]
        title = one_line(titled(question["title"], question["year"]))
        genres = one_line(", ".join(question["genres"]))
        number = Text(f"{question['round']:3}  ", style="bold")
        self._lines(number, Text.assemble((title, "bold"), " ", (f"({genres})", "dim")))
        self._print(question["why"], INDENT)
        if plan := self._new_plan(question["plan"]):
            self._lines(Text(f"{'':{INDENT}}plan   "), Text(one_line(plan)))
        said = question["profile"].splitlines()
        if added := [one for one in said if one not in (self._known or [])]:
            label = "you" if self._known is None else "noted"
            self._lines(Text(f"{'':{INDENT}}{label:5}  "), Text(one_line(" · ".join(added))))
        self._known = said

    def _newly_told(self, question: Mapping[str, Any]) -> str:
        """Return what is new of how the person's words were taken, and what no longer counts."""
        now = {name: list(question[name]) for name in TOLD}
        new = {name: [one for one in now[name] if one not in self._told[name]] for name in TOLD}
        kept = {*now["understood"], *(one.removeprefix("also ") for one in now["understood"])}
        gone = [one for one in self._told["understood"] if one.removeprefix("also ") not in kept]
        self._told = now
        dropped = f"No longer: {', '.join(joined_parts(gone))}." if gone else ""
        return " ".join(filter(None, (told_line(**new), dropped)))

    def _new_plan(self, plan: str) -> str:
        """Return a plan for people, without what it leaves out if that is as in the last round."""
        parts = plan_parts(plan)
        new = [one for one in parts if one not in self._plan or not one.startswith("leave out")]
        self._plan = parts
        return f"{'; '.join(new)}." if new else ""

    def finish(self, length: int) -> None:
        """Show what the visit saved, and how to see it, delete it and come back.

        Args:
            length: Number of rounds of the visit.
        """
        rated = [f"{title} {answer.rating:g}" for title, answer in self._answers if answer.rating is not None]
        words = [self._wishes, *(text for _, answer in self._answers for text in (answer.comment, answer.profile))]
        said = " · ".join(filter(None, words))
        self._print(counted(length, "round") + ".")
        learned = ["ratings: " + ", ".join(rated)] if rated else []
        learned += [f"your words: {said}"] if said else []
        name = shlex.quote(self._user)
        self._print(f"Saved for the next visit of {self._user}: {'; '.join(learned) or 'nothing new'}.")
        for label, command in {
            "Come back:": f"recommend --user {name}{self._of_world()}",
            "See it:": f"memory show profiles --user {name}",
            "Delete it:": f"memory forget --user {name}",
        }.items():
            self._lines(Text(f"{label:10}  "), Text(one_line(f"billp {command}")))

    def _of_world(self) -> str:
        return f" --world {shlex.quote(self._world)}" if self._world else ""

    def _print(self, text: str, indent: int = 0) -> None:
        self._lines(Text(" " * indent), Text(one_line(text)))

    def _lines(self, label: Text, text: Text) -> None:
        """Print a text behind a label; at a terminal, its further lines stand below the first, broken between words."""
        width = max(20, self._console.width - len(label))
        lines = text.wrap(self._console, width) if self._console.is_terminal else [text]
        for number, line in enumerate(lines):
            line.rstrip()
            before = Text(" " * len(label)) if number else label
            self._console.print(before + line, highlight=False, soft_wrap=True)


def plan_parts(plan: str) -> list[str]:
    """Return the parts of a plan, addressed to the person, without those on distances, which people cannot see.

    Examples:
        >>> plan_parts("Recommend what the user likes best; keep a distance of at least 1.50 from the last four items.")
        ['Recommend what you like best']
    """
    parts = [part.strip(" .") for part in plan.replace("the user likes", "you like").split(";")]
    return [part for part in parts if part and "distance" not in part.casefold()]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural if needed.

    Examples:
        >>> counted(1, "round"), counted(2, "round")
        ('1 round', '2 rounds')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextmanager
def _noted_signals() -> Iterator[tuple[int, list[int]]]:
    """Note Ctrl-C instead of raising, while the block runs.

    Yields:
        A file descriptor that can be read from the first signal of any kind on, and a list that grows with each Ctrl-C.
    """
    pressed: list[int] = []
    signals, writer = os.pipe()
    os.set_blocking(writer, False)
    former_writer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    former = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield signals, pressed
    finally:
        signal.signal(signal.SIGINT, former)
        signal.set_wakeup_fd(former_writer)
        os.close(signals)
        os.close(writer)
