"""Policies: the baselines by name."""

from sim.errors import BadInputError
from sim.policies.base import OraclePolicy, Policy
from sim.policies.heuristics import Greedy, Oracle, Popular, Random
from sim.policies.rollout import VisitRecord, play
from sim.policies.tuning import DIVERSE_GREEDY, GENRE_GREEDY, POP_GREEDY, Family, tuned
from sim.world import World
from sim.world.data import SplitName

POLICIES: dict[str, Policy | OraclePolicy | Family] = {
    "random": Random(),
    "popular": Popular(),
    "greedy": Greedy(),
    "diverse_greedy": DIVERSE_GREEDY,
    "genre_greedy": GENRE_GREEDY,
    "pop_greedy": POP_GREEDY,
    "oracle": Oracle(),
}


def run_visit(
    name: str, world: World, split_name: SplitName, user_id: str, *, seed: int = 0, max_steps: int = 100
) -> VisitRecord:
    """Play one visit of a policy named in `POLICIES`, as `play` does. A family is tuned first, once per loaded world.

    Raises:
        BadInputError: The policy is unknown, the user is not in this split, or `max_steps` is below 1.
    """
    if name not in POLICIES:
        raise BadInputError(f"there is no policy {name!r}; choose one of: {', '.join(POLICIES)}")
    policy = POLICIES[name]
    policy = tuned(policy, world) if isinstance(policy, Family) else policy
    return play(policy, world, split_name, user_id, seed=seed, max_steps=max_steps)
