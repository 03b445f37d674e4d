"""Items and catalogue: the items that a policy can recommend, in a fixed order."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from sim.arrays import Mask
from sim.errors import BadInputError

# Years outside these are no years of an item.
EARLIEST_YEAR, LATEST_YEAR = 1000, 2999


def _id_text(value: object) -> object:
    # Python counts bool as an int, but True is never an id.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, np.integer):
        return str(int(value))
    return value


def _genre_tuple(value: object) -> object:
    # A single string would be read letter by letter, so it is refused.
    if isinstance(value, str | bytes):
        raise ValueError("genres must be a list of names, not one string")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


@dataclass(frozen=True, config=ConfigDict(str_strip_whitespace=False))
class Item:
    """Item that can be recommended.

    Attributes:
        id: Unique id; a number is converted to text.
        title: Title shown to a person; several items may share one.
        genres: Names of its genres, in the order of the source; may be empty.
        year: Year of its publication; None if unknown.
        description: Text about it; None if the source has none. No prompt and no embedding has it.
    """

    id: Annotated[str, BeforeValidator(_id_text)]
    title: str
    genres: Annotated[tuple[str, ...], BeforeValidator(_genre_tuple)] = ()
    year: Annotated[int | None, Field(ge=EARLIEST_YEAR, le=LATEST_YEAR)] = None
    description: str | None = None

    def __post_init__(self) -> None:
        for value in (self.id, *self.genres):
            _not_blank(value)

    def __eq__(self, other: object) -> bool:
        # Same as the generated method. Written out, because type checkers then accept `item_id in catalogue`, a string.
        if not isinstance(other, Item):
            return NotImplemented
        ours = (self.id, self.title, self.genres, self.year, self.description)
        return ours == (other.id, other.title, other.genres, other.year, other.description)

    @property
    def label(self) -> str:
        """Title and genres on one line, such as ``Toy Story (Adventure, Animation)``."""
        label = f"{self.title} ({', '.join(self.genres)})" if self.genres else self.title
        # Memory compares situations line by line: a title with a line break would count twice.
        return " ".join(label.split())


ITEM_ADAPTER: TypeAdapter[Item] = TypeAdapter(Item)


class Catalogue(Sequence[Item]):
    """Items of a world in a fixed order; an item's position is its row in every array of the world.

    Args:
        items: At least one item; ids must be unique, titles may repeat.

    Raises:
        BadInputError: There are no items, an object is not an Item, or an id occurs twice.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = tuple(items)
        if not self._items:
            raise BadInputError("a catalogue needs at least one item; check the source it is made from")
        self._positions: dict[str, int] = {}
        for position, item in enumerate(self._items):
            if not isinstance(item, Item):
                raise BadInputError(f"a catalogue holds Item objects, not {type(item).__name__}; make them with Item()")
            if item.id in self._positions:
                raise BadInputError(f"the item id {item.id!r} occurs twice; give every item an id of its own")
            self._positions[item.id] = position
        self._by_title: dict[str, tuple[Item, ...]] = {}
        for item in self._items:
            self._by_title[item.title] = (*self._by_title.get(item.title, ()), item)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        return self._items[index]

    def __contains__(self, value: object) -> bool:
        if isinstance(value, Item):
            position = self._positions.get(value.id)
            return position is not None and self._items[position] == value
        return isinstance(value, str) and value in self._positions

    def __eq__(self, other: object) -> bool:
        return self._items == other._items if isinstance(other, Catalogue) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Catalogue({len(self)} items, {len(self.genres)} genres)"

    def item(self, item_id: str) -> Item:
        """Return the item with this id.

        Raises:
            BadInputError: The catalogue has no such item.
        """
        return self._items[self.position(item_id)]

    def position(self, item_id: str | Item) -> int:
        """Return the row of the item with this id.

        Raises:
            BadInputError: The catalogue has no such item.
        """
        key = item_id.id if isinstance(item_id, Item) else item_id
        try:
            return self._positions[key]
        except (KeyError, TypeError):
            raise BadInputError(
                f"the catalogue has no item {key!r}; use the id of one of its {len(self)} items"
            ) from None

    def positions(self, item_ids: Iterable[str | Item]) -> NDArray[np.intp]:
        """Return the rows of several items, in the order given.

        Raises:
            BadInputError: An id is missing from the catalogue.
        """
        return np.array([self.position(item_id) for item_id in item_ids], dtype=np.intp)

    def by_title(self, title: str) -> tuple[Item, ...]:
        """Return all items with exactly this title, in catalogue order; empty if there are none."""
        return self._by_title.get(title, ())

    @cached_property
    def genres(self) -> tuple[str, ...]:
        """Genres that at least one item has, sorted by name."""
        return tuple(sorted({genre for item in self._items for genre in item.genres}))

    @cached_property
    def years(self) -> NDArray[np.float64]:
        """Year of each item, NaN if unknown, shape (n_items,), read-only."""
        years = np.array([np.nan if item.year is None else item.year for item in self._items], dtype=np.float64)
        years.flags.writeable = False
        return years

    @cached_property
    def genre_matrix(self) -> NDArray[np.float32]:
        """Genres of each item as 0/1, shape (n_items, n_genres), read-only; columns in the order of `genres`."""
        columns = {genre: column for column, genre in enumerate(self.genres)}
        matrix = np.zeros((len(self), len(columns)), dtype=np.float32)
        for row, item in enumerate(self._items):
            matrix[row, [columns[genre] for genre in item.genres]] = 1.0
        matrix.flags.writeable = False
        return matrix

    def with_genre(self, names: Iterable[str]) -> Mask:
        """Return the items with one of the genres, shape (n_items,); names of no genre are ignored."""
        columns = [self.genres.index(name) for name in names if name in self.genres]
        return np.asarray(self.genre_matrix[:, columns].any(axis=1), dtype=np.bool_)

    @cached_property
    def _genre_rows(self) -> NDArray[np.float32]:
        lengths = np.linalg.norm(self.genre_matrix, axis=1, keepdims=True)
        return np.asarray(self.genre_matrix / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)

    def genre_distances(self, position: int) -> NDArray[np.float32]:
        """Return the genre distances (0-1) from one item to every item, shape (n_items,).

        The distance of two items is the cosine distance of their rows in `genre_matrix`:
        1 - (genres in common) / sqrt(genres of the first x genres of the second). An item without genres has distance 1
        to every item, itself included.
        """
        distances: NDArray[np.float32] = 1.0 - self._genre_rows @ self._genre_rows[position]
        return np.maximum(distances, 0.0, out=distances)


def make_item(item_id: object, title: object, genres: object, year: object = None, description: object = None) -> Item:
    """Make an item from the fields of a file or data set.

    Raises:
        BadInputError: A field has the wrong type or is blank.
    """
    try:
        fields = {"id": item_id, "title": title, "genres": genres, "year": year, "description": description}
        return ITEM_ADAPTER.validate_python(fields)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "item"
        raise BadInputError(f"item {item_id!r}: {where}: {fault['msg']}; correct it in the source") from error
