"""The baselines by name."""

from sim.baselines import DiverseGreedy, Greedy, Oracle, Popular, Random
from sim.contents import SplitName
from sim.errors import BadInputError
from sim.knowledge import Knowing, Policy
from sim.tuning import tuned_theta
from sim.visits import VisitRecord, play
from sim.world import World

POLICIES: dict[str, Policy | Knowing] = {
    "random": Random(),
    "popular": Popular(),
    "greedy": Greedy(),
    "diverse_greedy": DiverseGreedy(),
    "oracle": Oracle(),
}


def run_visit(
    policy: str | Policy | Knowing,
    world: World,
    split_name: SplitName,
    user_id: str,
    *,
    seed: int = 0,
    max_steps: int = 100,
) -> VisitRecord:
    """Play one visit, as `play` does, of a policy that may be given by its name in `POLICIES`.

    Raises:
        BadInputError: An unknown policy, a user who is not of this split, or `max_steps` below 1.
    """
    return play(_resolve(policy, world), world, split_name, user_id, seed=seed, max_steps=max_steps)


def _resolve(policy: str | Policy | Knowing, world: World) -> Policy | Knowing:
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise BadInputError(f"there is no policy {policy!r}; choose one of: {', '.join(POLICIES)}")
        policy = POLICIES[policy]
    if isinstance(policy, DiverseGreedy) and policy.theta is None:
        return DiverseGreedy(tuned_theta(world))
    return policy
