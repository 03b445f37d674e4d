"""Readers of data sets: one a file, each of which registers itself as its `SOURCE`.

A new file in `sources/` with a `SOURCE` is a new source; nothing else has to know of it. Packages bring theirs by the
entry points `billp.sources`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sim.data.ratings import Ratings


def _silent(name: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class SourceFiles:
    """Hold what whoever builds a world says about where its data are; a request never says any of it.

    Attributes:
        path: Folder with the files of a data set, under the names they were published with.
        ratings: File of ratings.
        items: File of items.
        columns: Which column of a table holds what.
        progress: Is told the name of the file that is read, how much of it is done, and how much there is.
    """

    path: Path | None = None
    ratings: Path | None = None
    items: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    progress: Callable[[str, int, int], None] = _silent


@dataclass(frozen=True)
class Source:
    """Hold how the ratings of one data set are read.

    Attributes:
        name: What `billp world build --from` calls it.
        read: Reads the ratings from what is given, with a seed.
        takes: Which of `path`, `ratings`, `items` and `columns` it can be given.
        ready: Says whether it can be read with nothing given.
    """

    name: str
    read: Callable[[SourceFiles, int], Ratings]
    takes: tuple[str, ...]
    ready: Callable[[], bool] = lambda: False
