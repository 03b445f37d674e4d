import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sim.catalogue import Catalogue, Item, make_item
from sim.errors import BadInputError

TOY = Item("1", "Toy Story", ("Adventure", "Animation"))
DARK = Item("2", "Dark Matter", ("Sci-Fi",))
OTHER_DARK = Item("3", "Dark Matter")


def test_label_names_title_and_genres() -> None:
    assert TOY.label == "Toy Story (Adventure, Animation)"
    assert OTHER_DARK.label == "Dark Matter"


def test_numeric_ids_become_text_and_items_are_hashable() -> None:
    item = make_item(np.int64(7), "E", ["Drama"])
    assert item == Item(id="7", title="E", genres=("Drama",))
    assert {item: 1}[Item("7", "E", ("Drama",))] == 1


@pytest.mark.parametrize("genres", ["Drama", b"Drama", "['Drama', 'War']"])
def test_genres_as_one_string_are_refused(genres: object) -> None:
    with pytest.raises(ValidationError, match="not one string"):
        Item("1", "A", genres)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="item '1': genres"):
        make_item("1", "A", genres)


@pytest.mark.parametrize(("item_id", "title"), [("", "A"), (" ", "A"), (True, "A"), (1.5, "A"), ("1", float("nan"))])
def test_faulty_ids_and_titles_are_refused(item_id: object, title: object) -> None:
    with pytest.raises(BadInputError):
        make_item(item_id, title, [])


def test_items_are_equal_when_all_their_fields_are() -> None:
    assert Item("1", "A", ("B",)) == Item("1", "A", ("B",))
    assert Item("1", "A", ("B",)) != Item("1", "A")
    assert Item("1", "A").__eq__("1") is NotImplemented


def test_items_cannot_be_changed() -> None:
    with pytest.raises((ValidationError, AttributeError)):
        TOY.title = "Other"  # type: ignore[misc]


def test_catalogue_finds_by_id_row_and_title() -> None:
    catalogue = Catalogue([TOY, DARK, OTHER_DARK])
    assert (len(catalogue), catalogue[1], list(catalogue)) == (3, DARK, [TOY, DARK, OTHER_DARK])
    assert catalogue.item("3") is OTHER_DARK
    assert catalogue.position("2") == catalogue.position(DARK) == 1
    assert catalogue.positions(["3", TOY]).tolist() == [2, 0]
    assert catalogue.by_title("Dark Matter") == (DARK, OTHER_DARK)
    assert catalogue.by_title("dark matter") == ()
    assert "1" in catalogue and TOY in catalogue
    assert "9" not in catalogue and Item("1", "Another") not in catalogue and 1 not in catalogue


def test_unknown_id_is_named() -> None:
    with pytest.raises(BadInputError, match="no item '9'"):
        Catalogue([TOY]).item("9")


def test_duplicate_ids_and_empty_catalogues_are_refused() -> None:
    with pytest.raises(BadInputError, match="'1' occurs twice"):
        Catalogue([TOY, Item("1", "Copy")])
    with pytest.raises(BadInputError, match="at least one item"):
        Catalogue([])
    with pytest.raises(BadInputError, match="not str"):
        Catalogue(["1"])  # type: ignore[list-item]


def test_genre_distance_is_the_share_of_genres_that_are_not_in_common() -> None:
    genres = [("A", "B"), ("A", "B"), ("A",), ("C",), (), ("A", "B", "C", "D")]
    catalogue = Catalogue([Item(str(number), "Title", names) for number, names in enumerate(genres)])
    # 1 - 1 / sqrt(2 x 1) for one genre in common, 1 - 2 / sqrt(2 x 4) for two genres of four.
    expected = [0.0, 0.0, 1 - 1 / 2**0.5, 1.0, 1.0, 1 - 2 / 8**0.5]
    assert catalogue.genre_distances(0).tolist() == pytest.approx(expected, abs=1e-6)
    assert catalogue.genre_distances(4).tolist() == [1.0] * 6


def test_genre_matrix_has_one_column_for_each_genre_in_use() -> None:
    catalogue = Catalogue([TOY, DARK, OTHER_DARK])
    assert catalogue.genres == ("Adventure", "Animation", "Sci-Fi")
    assert catalogue.genre_matrix.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert catalogue.genre_matrix.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        catalogue.genre_matrix[0, 0] = 5


words = st.text("abcXYZ &™'[],", min_size=1, max_size=6).filter(str.strip)


@given(
    st.lists(
        st.tuples(words, words, st.lists(words, max_size=3)), min_size=1, max_size=12, unique_by=lambda row: row[0]
    )
)
def test_every_item_is_found_by_each_of_its_names(rows: list[tuple[str, str, list[str]]]) -> None:
    catalogue = Catalogue(Item(item_id, title, tuple(genres)) for item_id, title, genres in rows)
    for row, item in enumerate(catalogue):
        assert catalogue.position(item.id) == row
        assert item in catalogue.by_title(item.title)
        present = {catalogue.genres[column] for column in np.flatnonzero(catalogue.genre_matrix[row])}
        assert present == set(item.genres)
    assert (catalogue.genre_matrix.sum(axis=0) > 0).all()
