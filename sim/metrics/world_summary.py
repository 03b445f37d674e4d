"""World summary: the description of a world that `billp world build` prints."""

from typing import Literal, TypedDict

from sim.policies import POLICIES, run_visit
from sim.policies.rollout import VisitRecord, play
from sim.policies.tuning import DIVERSE_GREEDY, Family, tune
from sim.world import World
from sim.world.data import SPLITS
from sim.world.world import MIN_REWARD

SHARE_USERS = 100
SHARE_STEPS = 100
# The scores are a first impression, not a study: with this few users, a large catalogue takes seconds.
SCORE_USERS = 20
# Without the rules that need thousands of visits for tuning.
SCORED = ("random", "popular", "greedy", "diverse_greedy", "oracle")
DISLIKED_AT_LEAST = 0.02


class LeaveShares(TypedDict):
    """Shares of one policy's leaves by reason; all 0 if every user stayed."""

    repeat: float
    similar: float
    disliked: float
    leaves: int


class Score(TypedDict):
    """Scores of one policy: means over the visits of a few dev users."""

    length: float
    total_reward: float


class Description(TypedDict):
    """Description of a world; see `describe`."""

    name: str
    source: str | None
    seed: int
    cut: str
    min_reward_quantile: float | None
    allow_known: bool
    users: dict[str, int]
    users_without_history: int
    items: int
    ratings: int
    ratings_left_out: int
    left_out: dict[str, int]
    read_as: dict[str, int]
    histogram: dict[str, int]
    density: float
    genres: list[str]
    tau: dict[str, float]
    rmse: dict[str, float]
    leave_shares: dict[str, LeaveShares]
    scores: dict[str, Score]
    score_users: int
    warnings: list[str]


def describe(world: World) -> Description:
    """Describe a world.

    Returns:
        `users` counts the users with a history, per split. `density` is the number of ratings over users x items. `tau`
        is the lowest distance at which a user stays, per table. `left_out` counts the rows of the source that gave no
        rating, by reason, and `read_as` the values that were read as what they plainly mean. `histogram` counts the
        ratings by half points. `rmse` is the held-out error of the logs model
        (on train and test ratings) and of each table (on the ratings of the other table). `leave_shares`, `scores` and
        `warnings` come from the functions `leave_shares`, `score` and `warn`.
    """
    shares, scores = leave_shares(world), score(world)
    with_history = {name: len(world.split(name).users) for name in SPLITS}
    return Description(
        name=world.name,
        source=world.facts.source,
        seed=world.settings.seed,
        cut=world.settings.cut,
        min_reward_quantile=world.settings.min_reward_quantile,
        allow_known=world.settings.allow_known,
        users={str(name): count for name, count in with_history.items()},
        users_without_history=len(world.users) - sum(with_history.values()),
        items=len(world.catalogue),
        ratings=world.facts.ratings,
        ratings_left_out=world.facts.dropped,
        left_out=world.facts.left_out,
        read_as=world.facts.read_as,
        histogram=world.facts.histogram,
        density=world.facts.ratings / (len(world.users) * len(world.catalogue)),
        genres=list(world.catalogue.genres),
        tau={"train": world.split("train").tau, "test": world.split("test").tau},
        rmse={str(name): error for name, error in world.facts.rmse.items()},
        leave_shares=shares,
        scores=scores,
        score_users=len(world.split("dev").users[:SCORE_USERS]),
        warnings=warn(world, shares),
    )


def leave_shares(world: World, *, users: int = SHARE_USERS, max_steps: int = SHARE_STEPS) -> dict[str, LeaveShares]:
    """Return the reasons why dev users leave under the policies random and greedy, as shares of each policy's leaves.

    Args:
        world: The world.
        users: Number of dev users at most; the first ones are taken.
        max_steps: Limit of a visit.
    """
    chosen = world.split("dev").users[:users]
    shares = {}
    for policy in ("random", "greedy"):
        reasons = [run_visit(policy, world, "dev", user, max_steps=max_steps)["leave_reason"] for user in chosen]
        leaves = sum(reason is not None for reason in reasons)
        shares[policy] = LeaveShares(
            repeat=reasons.count("repeat") / max(leaves, 1),
            similar=reasons.count("similar") / max(leaves, 1),
            disliked=reasons.count("disliked") / max(leaves, 1),
            leaves=leaves,
        )
    return shares


def score(world: World, *, users: int = SCORE_USERS, max_steps: int = SHARE_STEPS) -> dict[str, Score]:
    """Return the scores on dev users of the policies that are quick to tune.

    Args:
        world: The world.
        users: Number of dev users at most; the first ones are taken. Diverse greedy is tuned on as many train users.
        max_steps: Limit of a visit.
    """
    chosen = world.split("dev").users[:users]
    tuned = tune(DIVERSE_GREEDY, world, world.split("train").users[:users], max_steps=max_steps)
    scores = {}
    for name in SCORED:
        policy = POLICIES[name]
        policy = policy.make(*tuned.parameters) if isinstance(policy, Family) else policy
        visits = [play(policy, world, "dev", user, max_steps=max_steps) for user in chosen]
        scores[name] = Score(length=_mean(visits, "length"), total_reward=_mean(visits, "total_reward"))
    return scores


def _mean(visits: list[VisitRecord], what: Literal["length", "total_reward"]) -> float:
    return sum(visit[what] for visit in visits) / max(len(visits), 1)


def warn(world: World, shares: dict[str, LeaveShares]) -> list[str]:
    """Return a warning for each policy with leaves of which less than 2% are due to dislike."""
    bar = "their own bar" if world.settings.min_reward_quantile is not None else f"a reward below {MIN_REWARD:g}"
    return [
        f"under {policy} only {share['disliked']:.1%} of leaves are for dislike ({bar}), so rewards hardly decide who "
        f"stays; --min-reward-quantile sets a bar per user"
        for policy, share in shares.items()
        if share["leaves"] and share["disliked"] < DISLIKED_AT_LEAST
    ]
