"""Longest visit: no node of any graph blocks the event loop for long."""

from collections.abc import Callable, Iterable

import pytest

import graph.episode
from graph.conformance.stalls import LONGEST_TURN, longest_turns
from graph.episode import VARIANTS, build_episode, build_variant
from graph.recommend import builder as recommend
from graph.recommend import variant as recommend_variant
from graph.role_schemas import Node
from graph.run_metadata import Graph
from nodes.context import Context
from nodes.lifecycle import begin, finish
from nodes.state import RecommendInput
from nodes.users.person import greet, person_name

Timed = Callable[[Node], Node]
pytestmark = pytest.mark.usefixtures("home")


def slow(turns: dict[str, float], expected: Iterable[str]) -> dict[str, float]:
    """Return the nodes that block the event loop too long, with their turns relative to the reference."""
    assert list(turns) == list(expected)
    return {name: turn for name, turn in turns.items() if turn >= LONGEST_TURN}


def timed_end(monkeypatch: pytest.MonkeyPatch, timed: Timed) -> None:
    monkeypatch.setattr(graph.episode, "finish", timed(finish))


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
async def test_no_node_of_a_variant_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = VARIANTS[name]

    def build(timed: Timed) -> Graph:
        timed_end(monkeypatch, timed)
        step, at_end = (tuple(map(timed, nodes)) for nodes in (variant.step, variant.at_end))
        return build_episode(*step, at_end=at_end, context_schema=variant.context, begin=timed(begin), variant=name)

    assert not slow(await longest_turns(build, variant.settings()), build_variant(name).nodes)


@pytest.mark.slow
async def test_no_node_of_recommend_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(timed: Timed) -> Graph:
        timed_end(monkeypatch, timed)
        return build_episode(
            *map(timed, recommend_variant.step),
            at_end=tuple(map(timed, recommend_variant.at_end)),
            begin=timed(greet),
            input_schema=RecommendInput,
            variant="recommend",
            named_by=person_name,
        )

    assert not slow(await longest_turns(build, Context(), {"rating": 4}), recommend.nodes)


async def test_neither_does_one_whose_prompt_lists_all_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(timed: Timed) -> Graph:
        variant = VARIANTS["billp"]
        return build_variant("billp", variant._replace(at_end=tuple(map(timed, variant.at_end))))

    assert not slow(await longest_turns(build, Context(prompt_tokens=100_000)), ["reflector"])
