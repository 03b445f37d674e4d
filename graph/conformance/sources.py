"""Contract tests for readers of data sets.

    from graph.conformance import SourceContract

    class TestJokes(SourceContract):
        source = jokes.SOURCE

        def given(self, folder: Path) -> Given:
            (folder / "jokes.jsonl").write_text(…)
            return Given(path=folder)

pytest then runs them on that data set, and on copies with damaged files.
"""

from dataclasses import fields, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from sim.data.source import Source, SourceFiles
from sim.errors import BadInputError
from sim.world import World

GARBAGE = bytes(range(256)) * 40


class SourceContract:
    """Tests of one source; a subclass names it, and gives it a small data set, large enough for a world."""

    source: ClassVar[Source]
    optional: ClassVar[tuple[str, ...]] = ()
    """Names of optional files in `given`."""

    def given(self, folder: Path) -> SourceFiles:
        """Return the location of a small data set, written into `folder` if the source needs files."""
        return SourceFiles()

    def test_it_takes_what_can_be_given(self) -> None:
        """Any other kind of input is refused before it is read."""
        assert {*self.source.takes} <= {one.name for one in fields(SourceFiles)} - {"progress"}

    def test_without_files_it_is_ready_or_says_what_it_needs(self) -> None:
        """A world with the source's name is built on first use if the source needs no input."""
        if self.source.ready():
            assert len(self.source.read(SourceFiles(), 1))
        else:
            self._refused(SourceFiles())

    def test_the_same_files_give_the_same_ratings(self, tmp_path: Path) -> None:
        """A world, and every result with it, is determined by its name and a seed."""
        given = self.given(tmp_path)
        first, again = (self.source.read(given, 1) for _ in range(2))
        assert first.user_ids == again.user_ids and list(first.catalogue) == list(again.catalogue)
        for one, other in (
            (first.users, again.users),
            (first.items, again.items),
            (first.values, again.values),
            (first.timestamps, again.timestamps),
        ):
            assert np.array_equal(one, other)

    def test_items_have_titles_and_genres(self, tmp_path: Path) -> None:
        """Roles refer to items by title, and distinguish them by genre."""
        items = list(self.source.read(self.given(tmp_path), 1).catalogue)
        assert all(item.title.strip() and item.title.isprintable() for item in items)
        assert any(item.genres for item in items)

    def test_a_world_can_be_made_of_them(self, tmp_path: Path) -> None:
        """A world leaves out items with fewer than 10 ratings, and users without ratings."""
        world = World.build("contract", self.source.read(self.given(tmp_path), 1))
        assert world.split("dev").users and world.split("train").users

    def test_a_file_that_is_no_such_file_is_refused_in_one_line(self, tmp_path: Path) -> None:
        """A wrong file gives a clear message instead of a traceback."""
        given = self.given(tmp_path)
        files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name not in self.optional]
        for file in files:
            content = file.read_bytes()
            for other in (GARBAGE, b""):
                file.write_bytes(other)
                self._refused(given)
            file.unlink()
            self._refused(given)
            file.write_bytes(content)
        assert files or self.source.ready()

    def test_progress_goes_up_to_the_end(self, tmp_path: Path) -> None:
        """Large files take minutes to read."""
        reports: dict[str, list[tuple[int, int]]] = {}
        given = self.given(tmp_path)
        noted = replace(given, progress=lambda name, done, total: reports.setdefault(name, []).append((done, total)))
        self.source.read(noted, 1)
        for steps in reports.values():
            assert all(done <= total for done, total in steps) and steps[-1][0] == steps[-1][1]
        assert reports or not any(file.is_file() for file in tmp_path.rglob("*"))

    def _refused(self, given: SourceFiles) -> None:
        with pytest.raises(BadInputError) as caught:
            self.source.read(given, 1)
        assert "\n" not in str(caught.value)
