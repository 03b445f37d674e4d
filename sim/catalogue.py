"""Items and the catalogue they form: what can be recommended."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from sim.errors import BadInputError


def _id_text(value: object) -> object:
    # bool is an int to Python, but never an id anyone meant.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, np.integer):
        return str(int(value))
    return value


def _genre_tuple(value: object) -> object:
    # Genres once stored as one string were iterated by letter; such input is refused instead of guessed at.
    if isinstance(value, str | bytes):
        raise ValueError("genres must be a list of names, not one string")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


@dataclass(frozen=True, config=ConfigDict(str_strip_whitespace=False))
class Item:
    """Hold one thing that can be recommended.

    Attributes:
        id: Identifies the item; a number is taken as its text.
        title: What a person reads; need not be unique.
        genres: Names of its genres, in the order of the source; may be empty.
    """

    id: Annotated[str, BeforeValidator(_id_text)]
    title: str
    genres: Annotated[tuple[str, ...], BeforeValidator(_genre_tuple)] = ()

    def __post_init__(self) -> None:
        for value in (self.id, *self.genres):
            _not_blank(value)

    def __eq__(self, other: object) -> bool:
        # As generated, but spelled out: type checkers then accept `item_id in catalogue`, a text among items.
        if not isinstance(other, Item):
            return NotImplemented
        return (self.id, self.title, self.genres) == (other.id, other.title, other.genres)

    @property
    def label(self) -> str:
        """Return title and genres as one line, such as ``Toy Story (Adventure, Animation)``."""
        label = f"{self.title} ({', '.join(self.genres)})" if self.genres else self.title
        # Memory compares situations line by line, so a line break in a title would make it count twice.
        return " ".join(label.split())


ITEM_ADAPTER: TypeAdapter[Item] = TypeAdapter(Item)


class Catalogue(Sequence[Item]):
    """Hold the items of a world in a fixed order; a position is a row of every array of the world.

    Args:
        items: At least one item; ids must be unique, titles need not be.

    Raises:
        BadInputError: No items, something that is no item, or an id that occurs twice.
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
            BadInputError: One of them is not in the catalogue.
        """
        return np.array([self.position(item_id) for item_id in item_ids], dtype=np.intp)

    def by_title(self, title: str) -> tuple[Item, ...]:
        """Return every item with exactly this title, in catalogue order; none gives an empty tuple."""
        return self._by_title.get(title, ())

    @cached_property
    def genres(self) -> tuple[str, ...]:
        """Return the genres that at least one item has, sorted by name."""
        return tuple(sorted({genre for item in self._items for genre in item.genres}))

    @cached_property
    def genre_matrix(self) -> NDArray[np.float32]:
        """Return which item has which genre: 0/1, shape (n_items, n_genres), read-only, columns as in `genres`."""
        columns = {genre: column for column, genre in enumerate(self.genres)}
        matrix = np.zeros((len(self), len(columns)), dtype=np.float32)
        for row, item in enumerate(self._items):
            matrix[row, [columns[genre] for genre in item.genres]] = 1.0
        matrix.flags.writeable = False
        return matrix

    @cached_property
    def _genre_rows(self) -> NDArray[np.float32]:
        lengths = np.linalg.norm(self.genre_matrix, axis=1, keepdims=True)
        return np.asarray(self.genre_matrix / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)

    def genre_distances(self, position: int) -> NDArray[np.float32]:
        """Return the genre distances (0-1) of one item to every item, shape (n_items,).

        That of two items is 1 - (genres in common) / sqrt(genres of the one x genres of the other), the cosine distance
        of their rows in `genre_matrix`. An item without genres has nothing in common with any, itself included.
        """
        distances: NDArray[np.float32] = 1.0 - self._genre_rows @ self._genre_rows[position]
        return np.maximum(distances, 0.0, out=distances)


def make_item(item_id: object, title: object, genres: object) -> Item:
    """Make an item from the fields of a file or data set.

    Raises:
        BadInputError: A field has the wrong type or is blank.
    """
    try:
        return ITEM_ADAPTER.validate_python({"id": item_id, "title": title, "genres": genres})
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "item"
        raise BadInputError(f"item {item_id!r}: {where}: {fault['msg']}; correct it in the source") from error
