from dataclasses import replace

import numpy as np
import pytest

from sim.data.ratings import Ratings
from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.world import World
from sim.world.data import SplitName
from sim.world.simulated_user import Reaction, SimulatedUser
from sim.world.splitting import cut_ratings, keep_rated
from sim.world.world import ASSUMED_RATING


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return load_ratings("tiny", 0)


@pytest.fixture(scope="module")
def world(ratings: Ratings) -> World:
    return World.build("tiny", ratings)


@pytest.mark.parametrize("how", ["random", "time"])
def test_ratings_are_cut_40_30_30_without_overlap(ratings: Ratings, how: str) -> None:
    cut = cut_ratings(ratings, seed=4, how=how)  # type: ignore[arg-type]
    together = np.concatenate([cut.logs, cut.train, cut.test])
    assert np.array_equal(np.sort(together), np.arange(len(ratings)))
    shares = [len(part) / len(ratings) for part in (cut.logs, cut.train, cut.test)]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.005)


def test_users_are_cut_40_20_40_whatever_the_cut_of_ratings(ratings: Ratings) -> None:
    cut = cut_ratings(ratings, seed=4)
    assert [cut.splits.count(name) for name in ("train", "dev", "test")] == [24, 12, 24]
    assert cut_ratings(ratings, seed=4, how="time").splits == cut.splits
    assert cut_ratings(ratings, seed=5).splits != cut.splits


def test_a_cut_by_time_takes_each_users_earliest(ratings: Ratings) -> None:
    shuffled = replace(ratings, timestamps=np.random.default_rng(0).permutation(len(ratings)).astype(np.int64))
    cut = cut_ratings(shuffled, seed=0, how="time")
    later = np.concatenate([cut.train, cut.test])
    for user in range(len(ratings.user_ids)):
        logged = shuffled.timestamps[cut.logs[shuffled.users[cut.logs] == user]]
        rest = shuffled.timestamps[later[shuffled.users[later] == user]]
        assert len(logged) == 18
        assert logged.max() < rest.min()


def test_items_with_few_ratings_and_users_left_without_any_are_dropped(ratings: Ratings) -> None:
    first = np.flatnonzero(ratings.items == 0)
    alone = ratings.users == 0
    thin = np.ones(len(ratings), dtype=bool)
    thin[first[9:]] = False
    thin[alone & (ratings.items != 0)] = False
    few = replace(
        ratings,
        users=ratings.users[thin],
        items=ratings.items[thin],
        values=ratings.values[thin],
        timestamps=ratings.timestamps[thin],
    )
    kept = keep_rated(few)
    assert ratings.catalogue[0].id not in kept.catalogue
    assert ratings.user_ids[0] not in kept.user_ids
    assert kept.dropped == min(9, len(first))
    assert np.bincount(kept.items).min() >= 10
    original = {
        (few.user_ids[u], few.catalogue[int(i)].id): v for u, i, v in zip(few.users, few.items, few.values, strict=True)
    }
    for u, i, v in zip(kept.users, kept.items, kept.values, strict=True):
        assert original[kept.user_ids[u], kept.catalogue[int(i)].id] == v


def test_an_item_with_just_enough_ratings_is_kept(ratings: Ratings) -> None:
    counts = np.bincount(ratings.items)
    rarest = int(counts.min())
    assert len(keep_rated(ratings, rarest).catalogue) == 120
    assert len(keep_rated(ratings, rarest + 1).catalogue) == 120 - int((counts == rarest).sum())


def test_too_few_ratings_or_users_are_refused(ratings: Ratings) -> None:
    with pytest.raises(BadInputError, match="no item has 1000 ratings"):
        keep_rated(ratings, 1000)
    few = ratings.users < 4
    small = replace(
        ratings,
        users=ratings.users[few],
        items=ratings.items[few],
        values=ratings.values[few],
        timestamps=ratings.timestamps[few],
        user_ids=ratings.user_ids[:4],
    )
    with pytest.raises(BadInputError, match="4 users are too few"):
        cut_ratings(small, seed=0)


def test_splits_share_no_user_and_dev_lives_with_test(world: World) -> None:
    users = [set(world.split(name).users) for name in ("train", "dev", "test")]
    assert not users[0] & users[1] and not users[0] & users[2] and not users[1] & users[2]
    assert set.union(*users) == set(world.users)
    user, item = world.split("dev").users[0], world.catalogue[0]
    assert world.split("dev").reward(user, item) == world.split("test").reward(user, item)
    assert world.split("dev").reward(user, item) != world.split("train").reward(user, item)
    assert world.split("dev").tau == world.split("test").tau != world.split("train").tau


def test_histories_are_the_logs_oldest_first(world: World, ratings: Ratings) -> None:
    cut = cut_ratings(keep_rated(ratings), seed=0)
    assert sum(len(user.history) for user in world.users.values()) == len(cut.logs)
    assert world.logs.popularity.sum() == len(cut.logs)
    given = {
        (ratings.user_ids[u], ratings.catalogue[int(i)].id): (t, v)
        for u, i, t, v in zip(ratings.users, ratings.items, ratings.timestamps, ratings.values, strict=True)
    }
    user = world.users[world.split("test").users[0]]
    times, values = zip(*(given[user.id, item] for item in user.history), strict=True)
    assert list(times) == sorted(times)
    assert user.ratings == values
    counts = {item.id: 0 for item in world.catalogue}
    for other in world.users.values():
        for item_id in other.history:
            counts[item_id] += 1
    assert world.logs.popularity.tolist() == list(counts.values())


def test_a_user_without_logs_is_known_but_in_no_split(ratings: Ratings) -> None:
    # A user with a single rating has it in the logs for some seeds of the split and not for others.
    lonely = np.flatnonzero(ratings.users == 3)[1:]
    kept = np.setdiff1d(np.arange(len(ratings)), lonely)
    few = replace(
        ratings,
        users=ratings.users[kept],
        items=ratings.items[kept],
        values=ratings.values[kept],
        timestamps=ratings.timestamps[kept],
    )
    worlds = [World.build("few", few, seed=seed, factors=2) for seed in range(6)]
    empty = [world for world in worlds if not world.users[ratings.user_ids[3]].history]
    assert empty and len(empty) < len(worlds)
    for world in empty:
        assert all(ratings.user_ids[3] not in world.split(name).users for name in ("train", "dev", "test"))


def test_the_logs_model_knows_nothing_of_train_and_test_ratings(world: World, ratings: Ratings) -> None:
    cut = cut_ratings(keep_rated(ratings), seed=0)
    values = ratings.values.copy()
    later = np.concatenate([cut.train, cut.test])
    values[later] = 5.5 - values[later]
    other = World.build("tiny", replace(ratings, values=values))
    user = world.split("test").users[0]
    assert other.logs.predictions(user).tobytes() == world.logs.predictions(user).tobytes()
    assert other.logs.vectors.tobytes() == world.logs.vectors.tobytes()
    assert other.logs.tau == world.logs.tau
    assert np.array_equal(other.logs.popularity, world.logs.popularity)
    assert other.users == world.users
    for name in ("train", "test"):
        assert other.split(name).rewards(user).tobytes() != world.split(name).rewards(user).tobytes()


@pytest.mark.parametrize(("name", "foreign"), [("train", "test"), ("test", "train")])
def test_a_table_knows_nothing_of_the_other_tables_ratings(
    world: World, ratings: Ratings, name: SplitName, foreign: str
) -> None:
    cut = cut_ratings(keep_rated(ratings), seed=0)
    values = ratings.values.copy()
    values[getattr(cut, foreign)] = 1.0
    other = World.build("tiny", replace(ratings, values=values))
    user = world.split(name).users[0]
    assert other.split(name).rewards(user).tobytes() == world.split(name).rewards(user).tobytes()


def test_rewards_and_distances_agree_between_their_forms(world: World) -> None:
    split = world.split("test")
    user, a, b = split.users[1], world.catalogue[3], world.catalogue[8]
    assert split.reward(user, a) == split.reward(user, a.id) == float(split.rewards(user)[3])
    assert split.distance(a, b) == split.distance(a.id, b.id) == split.distance(b, a)
    assert split.distances(a)[8] == pytest.approx(split.distance(a, b), abs=1e-6)
    assert world.logs.distances(a.id)[8] == pytest.approx(world.logs.distance(3, b), abs=1e-6)


def test_folding_in_the_logs_of_a_known_user_gives_their_predictions(world: World) -> None:
    for user_id in world.split("test").users[:5]:
        user = world.users[user_id]
        np.testing.assert_allclose(
            world.logs.fold_in(user.history, user.ratings), world.logs.predictions(user_id), atol=1e-4
        )


def test_newcomers_are_folded_in_as_liking_what_they_name(world: World) -> None:
    split = world.split("test")
    history = [world.catalogue[5].id, world.catalogue[9].id]
    rewards = split.rewards("nobody", history)
    assert rewards.shape == (len(world.catalogue),)
    everyone = np.mean([split.rewards(user) for user in split.users], axis=0)
    assert (rewards[[5, 9]] > everyone[[5, 9]]).all()
    table = world.data.models["test"]
    kind = World(replace(world.data, models={**world.data.models, "test": replace(table, mean=table.mean + 9)}))
    uncut = kind.data.models["test"].fold_in([5, 9], [ASSUMED_RATING] * 2)
    assert uncut.max() > 5 and np.array_equal(kind.split("test").rewards("nobody", history), np.clip(uncut, 1, 5))
    np.testing.assert_array_equal(world.logs.fold_in(history), world.logs.fold_in(history, [ASSUMED_RATING] * 2))
    with pytest.raises(BadInputError, match="does not know the user 'nobody'; give a history"):
        split.rewards("nobody")
    with pytest.raises(BadInputError, match="no item 'x'"):
        split.rewards("nobody", ["x"])


def test_faulty_requests_are_refused(world: World) -> None:
    with pytest.raises(BadInputError, match="no split 'valid'"):
        world.split("valid")  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="no item 'x'"):
        world.split("dev").reward(world.split("dev").users[0], "x")
    with pytest.raises(BadInputError, match="position 500"):
        world.logs.distances(500)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "x" * 65])
def test_names_that_are_no_folder_names_are_refused(ratings: Ratings, name: str) -> None:
    with pytest.raises(BadInputError, match="not a valid name of a world"):
        World.build(name, ratings)


@pytest.mark.parametrize("setting", [{"seed": -1}, {"factors": 0}, {"min_reward_quantile": 1.0}, {"cut": "sideways"}])
def test_settings_out_of_range_are_refused(ratings: Ratings, setting: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match=next(iter(setting))):
        World.build("tiny", ratings, **setting)  # type: ignore[arg-type]


def test_the_leave_rule_is_that_of_the_splits_table(world: World, ratings: Ratings) -> None:
    user = world.split("train").users[0]
    rule = world.split("train").leave_rule(user)
    assert (rule.window, rule.min_reward, rule.min_distance) == (4, 2.0, world.split("train").tau)
    strict = World.build("tiny", ratings, min_reward_quantile=0.25).split("train")
    bar = strict.leave_rule(user).min_reward
    assert np.mean(strict.rewards(user) < bar) == pytest.approx(0.25, abs=0.02)
    assert strict.leave_rule("nobody", [world.catalogue[0].id]).min_reward > 1
    with pytest.raises(BadInputError, match="nobody"):
        strict.leave_rule("nobody")


def test_a_simulated_user_reacts_by_table_and_rule(world: World) -> None:
    split = world.split("test")
    user = SimulatedUser(split, split.users[0])
    item = world.catalogue[0]
    closest = world.catalogue[int(np.argsort(split.distances(item))[1])]
    farthest = world.catalogue[int(np.argsort(split.distances(item))[-1])]
    reward = split.reward(split.users[0], item)
    assert user.react(item.id, []) == Reaction(reward, None)
    assert user.react(item.id, [item.id]) == Reaction(reward, "repeat")
    assert user.react(item.id, [item.id, *[farthest.id] * 4]).leave_reason != "repeat"
    assert user.react(closest.id, [item.id]).leave_reason == "similar"
    assert user.react(closest.id, [item.id]).left
    worst = world.catalogue[int(np.argmin(split.rewards(split.users[0])))]
    other = world.catalogue[int(np.argmax(split.distances(worst)))]
    assert user.react(worst.id, [other.id]).leave_reason == "disliked"
    assert not user.react(worst.id, []).left


def test_a_newcomer_can_visit_with_a_history_only(world: World) -> None:
    newcomer = SimulatedUser(world.split("test"), "someone", [world.catalogue[2].id])
    assert 1 <= newcomer.react(world.catalogue[4].id, []).reward <= 5
    with pytest.raises(BadInputError, match="someone"):
        SimulatedUser(world.split("test"), "someone")
