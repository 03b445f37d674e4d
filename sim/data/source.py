"""Data source interface: the reader of a data set, and the files that it reads.

Each file in `sources/` defines one source as its `SOURCE` and needs no other registration. Other packages add sources
through the entry points `billp.sources`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sim.data.categories import MOST_CATEGORIES
from sim.data.ratings import Ratings


def _silent(name: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class SourceFiles:
    """Locations of a source's data. They come from the person who builds a world, never from a request.

    Attributes:
        path: Folder with the files of a data set, under their published names.
        ratings: File of ratings.
        items: File of items.
        columns: Names of a table's columns, by content.
        scale: Scale of the ratings: `1-10`, `thumbs` or `plays`; 0.5 to 5 if empty.
        drop_zeros: Whether a rating of 0 means that there is none.
        categories: Categories of the items instead of their genres: `decades`, `clusters` or a column.
        most: Number of the most frequent categories to keep of a column.
        progress: Called with the name of the file being read, the amount read and the total amount.
    """

    path: Path | None = None
    ratings: Path | None = None
    items: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    scale: str = ""
    drop_zeros: bool = False
    categories: str = ""
    most: int = MOST_CATEGORIES
    progress: Callable[[str, int, int], None] = _silent


@dataclass(frozen=True)
class Source:
    """Reader of one data set.

    Attributes:
        name: Name in `billp world build --from`.
        read: Reads the ratings from the given files, with a seed.
        takes: Names of the fields of `SourceFiles` that the source accepts.
        ready: Returns whether the source can be read without any option.
    """

    name: str
    read: Callable[[SourceFiles, int], Ratings]
    takes: tuple[str, ...]
    ready: Callable[[], bool] = lambda: False
