"""Graph ids of the server: the graphs that they lead to, and what documents and command line say of them."""

import importlib
import json
import re
from inspect import signature
from pathlib import Path

import pytest

from graph.agent_tool import billp_tool
from graph.cli.episode import episode_command
from graph.episode import graph as episode
from graph.run_metadata import KnownGraph
from graph.variants import DEFAULT_VARIANT, VARIANTS, graph_id

ROOT = Path(__file__).resolve().parents[3]
SERVED: dict[str, dict[str, str]] = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))["graphs"]


def loaded(name: str) -> KnownGraph:
    """Return the graph of an id, as the server finds it."""
    file, attribute = SERVED[name]["path"].removeprefix("./").split(".py:")
    graph = getattr(importlib.import_module(file.replace("/", ".")), attribute)
    assert isinstance(graph, KnownGraph)
    return graph


def roles(graph: KnownGraph) -> list[str]:
    """Return the nodes of a graph without those that start and end each visit."""
    others = {"__start__", "__end__", "begin", "greet", "finish"}
    return [node for node in graph.builder.nodes if node not in others]


def documented() -> dict[str, list[str]]:
    """Return the nodes of each graph id in docs/server.md."""
    text = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| graph id .*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [line.strip("| ").rsplit(" | ", 1) for line in table.splitlines()]
    return {re.findall(r"`(\w+)`", visit)[0]: re.findall(r"`(\w+)`", nodes) for visit, nodes in rows}


def test_every_variant_has_a_graph_of_its_own_nodes() -> None:
    assert SERVED.keys() == {"recommend", *map(graph_id, VARIANTS)}
    for variant in VARIANTS:
        graph = loaded(graph_id(variant))
        assert graph.builder.variant == variant
        assert roles(graph) == [node.__name__ for node in VARIANTS[variant].nodes]


def test_the_server_with_accounts_serves_the_same_graphs() -> None:
    assert json.loads((ROOT / "langgraph.auth.json").read_text(encoding="utf-8"))["graphs"] == SERVED


def test_a_person_meets_the_agent_that_a_simulated_user_meets() -> None:
    assert ["user" if role == "person" else role for role in roles(loaded("recommend"))] == roles(loaded("episode"))


def test_the_default_agent_is_the_same_everywhere() -> None:
    assert loaded("episode") is episode and graph_id(DEFAULT_VARIANT) == "episode"
    assert signature(episode_command).parameters["variant"].default == DEFAULT_VARIANT
    assert signature(billp_tool).parameters["graph"].default is episode


@pytest.mark.parametrize("name", SERVED)
def test_the_documents_name_the_nodes_of_each_graph(name: str) -> None:
    assert documented()[name] == roles(loaded(name))


def test_the_documents_name_no_other_graph() -> None:
    assert documented().keys() == SERVED.keys()
