"""Catalogue of the variants and baselines of a study: a line for each, in groups.

It imports nothing of the graph, so that `billp study --help` answers at once.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points

VARIANT_LINES: Mapping[str, Mapping[str, str]] = {
    "The paper's method": {
        "billp_paper": "BiLLP with its authors' settings: the Actor writes any title, and recalls one record",
    },
    "Ours": {
        "billp": "Planner, Actor, Critic and Reflector; the Actor chooses from a list of real items",
        "billp_outlook": "billp with the learned risk that the user leaves after each candidate",
        "merge_plan_and_act": "billp with Planner and Actor as one role: two model calls a round instead of three",
        "billp_llm_user": "billp with an LLM that plays the user",
    },
    "Ablations": {
        "act_only": "Actor alone: no plan, no memory",
        "react": "Planner and Actor without memory",
        "reflexion": "Planner with lessons, Actor without memory, no Critic",
        "no_macro": "billp without lessons",
        "no_micro": "billp without experiences and values",
    },
    "Baselines": {
        "random": "any item",
        "popular": "the item that occurs most in the logs",
        "greedy": "the item with the best predicted rating",
        "diverse_greedy": "the best predicted item at a tuned distance from the last four",
        "genre_greedy": "predicted rating with tuned weights for distance and new genres",
        "pop_greedy": "predicted rating with tuned weights for distance and popularity",
        "outlook_only": "the most promising item by the learned leave risk, without roles",
        "oracle": "the best true reward that keeps the user: shows the room there is",
    },
    "Reinforcement learning (extra `rl`)": {
        "a2c": "advantage actor-critic",
        "dqn": "deep Q-network",
        "maskable_ppo": "proximal policy optimisation that masks items of the visit",
    },
}
# Entry points by which other packages add variants.
VARIANT_GROUP = "billp.variants"


def catalogue() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield each group with its names and their lines, the variants of other packages last."""
    yield from VARIANT_LINES.items()
    found = sorted(entry_points(group=VARIANT_GROUP), key=lambda one: one.name)
    if found:
        yield (
            "Of other packages",
            {one.name: f"package {one.dist.name}" if one.dist else one.value for one in found},
        )
