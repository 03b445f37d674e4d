from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from memory.records import Predicted
from sim.errors import BadInputError
from sim.world.factor_model import HIGHEST_PREDICTION, LOWEST_PREDICTION, FactorModel, FitSettings, fit


def simulate(n_users: int = 80, n_items: int = 60, seed: int = 3) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    genres = np.eye(4)[rng.integers(4, size=n_items)]
    tastes = rng.normal(0, 0.8, (n_users, 4))
    truth = 3.2 + tastes @ genres.T + rng.normal(0, 0.4, n_items) + rng.normal(0, 0.3, (n_users, 1))
    users, items = np.divmod(rng.permutation(n_users * n_items), n_items)
    ratings = np.clip(truth[users, items] + rng.normal(0, 0.3, len(users)), 0.5, 5)
    return users, items, ratings, genres


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, ...]:
    return simulate()


@pytest.fixture(scope="module")
def model(data: tuple[np.ndarray, ...]) -> FactorModel:
    users, items, ratings, genres = data
    half = len(users) // 2
    return fit(users[:half], items[:half], ratings[:half], n_users=80, genres=genres)


def test_held_out_ratings_are_predicted_far_better_than_by_biases_alone(
    data: tuple[np.ndarray, ...], model: FactorModel
) -> None:
    users, items, ratings, _ = data
    half = len(users) // 2
    predicted = np.array([model.ratings(user)[item] for user, item in zip(users[half:], items[half:], strict=True)])
    biases = np.clip(model.mean + model.user_bias[users[half:]] + model.item_bias[items[half:]], 1, 5)
    error = np.sqrt(np.mean((predicted - ratings[half:]) ** 2))
    assert error < 0.4
    assert error < 0.6 * np.sqrt(np.mean((biases - ratings[half:]) ** 2))


def test_predictions_are_float32_between_1_and_5(model: FactorModel) -> None:
    rewards = model.ratings(0)
    assert rewards.shape == (60,) and rewards.dtype == np.float32
    assert rewards.min() >= 1 and rewards.max() <= 5


def test_predictions_are_rewards_before_they_are_cut_and_rank_what_the_cut_makes_equal(model: FactorModel) -> None:
    fan = int(np.argmax([(model.ratings(user) == 5).sum() for user in range(80)]))
    predictions, rewards = model.predictions(fan), model.ratings(fan)
    assert predictions.dtype == np.float32 and np.array_equal(np.clip(predictions, 1, 5), rewards)
    assert (rewards == 5).sum() > 1 and len({*predictions[rewards == 5].tolist()}) == (rewards == 5).sum()


def test_a_degenerate_fit_predicts_what_a_record_holds(model: FactorModel) -> None:
    wild = replace(model, item_bias=np.linspace(-99, 99, 60).astype(np.float32))
    for value in (wild.predictions(0).min(), wild.predictions(0).max()):
        assert TypeAdapter(Predicted).validate_python(float(value)) in (LOWEST_PREDICTION, HIGHEST_PREDICTION)


def test_folding_in_a_users_own_ratings_gives_that_user_again(data: tuple[np.ndarray, ...], model: FactorModel) -> None:
    users, items, ratings, _ = data
    half = len(users) // 2
    mine = np.flatnonzero(users[:half] == 7)
    np.testing.assert_allclose(model.fold_in(items[mine], ratings[mine]), model.predictions(7), atol=1e-4)


def test_folding_in_follows_the_ratings(model: FactorModel) -> None:
    liked = model.fold_in([0, 1], [5.0, 5.0])
    disliked = model.fold_in([0, 1], [1.0, 1.0])
    assert (liked[:2] > disliked[:2] + 0.5).all()


@pytest.mark.parametrize(
    ("positions", "ratings"), [([0], [1.0, 2.0]), ([60], [3.0]), ([-1], [3.0]), ([0], [float("nan")])]
)
def test_folding_in_refuses_what_is_no_history(model: FactorModel, positions: list[int], ratings: list[float]) -> None:
    with pytest.raises(BadInputError):
        model.fold_in(positions, ratings)


def test_items_of_one_genre_are_closer_than_others(data: tuple[np.ndarray, ...], model: FactorModel) -> None:
    genres = data[3]
    same = genres @ genres.T > 0
    distances = np.array([model.distances(row) for row in range(60)])
    off_diagonal = ~np.eye(60, dtype=bool)
    assert distances[same & off_diagonal].mean() + 0.3 < distances[~same].mean()


def test_distance_is_symmetric_within_0_and_2_and_zero_to_itself(model: FactorModel) -> None:
    for a, b in [(0, 1), (5, 40), (59, 2)]:
        assert model.distance(a, b) == model.distance(b, a)
        assert model.distance(a, b) == pytest.approx(float(model.distances(a)[b]), abs=1e-6)
        assert 0 <= model.distance(a, b) <= 2
    assert model.distance(3, 3) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(model.vectors, axis=1), 1, atol=1e-5)


def test_tau_is_the_5_percent_quantile_of_all_pairs(model: FactorModel) -> None:
    pairs = [model.distance(a, b) for a in range(60) for b in range(a + 1, 60)]
    assert model.tau == pytest.approx(np.quantile(pairs, 0.05), abs=1e-5)


def test_tau_of_a_large_catalogue_comes_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    users, items, ratings, genres = simulate(n_items=300)
    exact = fit(users, items, ratings, n_users=80, genres=genres, settings=FitSettings(sweeps=2)).tau
    monkeypatch.setattr("sim.world.factor_model.TAU_ITEMS", 200)
    sampled = fit(users, items, ratings, n_users=80, genres=genres, settings=FitSettings(sweeps=2)).tau
    assert sampled != exact
    assert sampled == pytest.approx(exact, rel=0.25)


def test_same_seed_gives_the_same_model_to_the_byte(data: tuple[np.ndarray, ...]) -> None:
    users, items, ratings, genres = data
    models = [fit(users, items, ratings, n_users=80, genres=genres, seed=seed) for seed in (1, 1, 2)]
    assert models[0].vectors.tobytes() == models[1].vectors.tobytes()
    assert models[0].item_factors.tobytes() == models[1].item_factors.tobytes()
    assert models[0].item_factors.tobytes() != models[2].item_factors.tobytes()


def test_an_item_nobody_rated_is_predicted_from_its_genres(data: tuple[np.ndarray, ...]) -> None:
    users, items, ratings, genres = data
    seen = items != 0
    model = fit(users[seen], items[seen], ratings[seen], n_users=80, genres=genres)
    everyone = np.array([model.ratings(user) for user in range(80)])
    kin = np.flatnonzero((genres[1:] @ genres[0]) > 0) + 1
    strangers = np.setdiff1d(np.arange(1, 60), kin)
    correlation = np.corrcoef(everyone.T)
    assert correlation[0, kin].mean() > correlation[0, strangers].mean() + 0.5
    assert np.isfinite(model.vectors).all()


def test_users_without_ratings_and_catalogues_without_genres_are_fitted() -> None:
    users, items, ratings, _ = simulate(n_users=20)
    model = fit(users, items, ratings, n_users=21, genres=np.zeros((60, 0)))
    assert model.n_users == 21
    expected = np.clip(model.mean + model.item_bias, 1, 5)
    np.testing.assert_allclose(model.ratings(20), expected, atol=1e-5)
    assert np.isfinite(model.vectors).all() and model.tau > 0


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(BadInputError, match="no ratings"):
        fit([], [], [], n_users=1, genres=np.zeros((1, 1)))


def test_no_array_of_items_by_items_is_held(model: FactorModel) -> None:
    assert all(60 * 60 > value.size for value in vars(model).values() if isinstance(value, np.ndarray))
    with pytest.raises(ValueError, match="read-only"):
        model.vectors[0, 0] = 1
