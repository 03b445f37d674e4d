"""Faults of the project reach the clients of LangGraph's server with their own line."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator

import pytest
from langgraph_api.serde import json_dumpb  # type: ignore[import-untyped]

import graph
import memory
import nodes
import sim
from memory.chroma.errors import StoreError
from sim.errors import BillpError
from tests.servers import TOKENS

# Signals between two functions of one module, or of one package: whoever raises them is always asked by one that
# catches them.
INTERNAL = {
    "graph.server.limits._TooLargeError",
    "graph.web.data.StoreRefusedError",
    "memory.chroma.local.NotLoadedError",
    "nodes.llm.endpoint.errors.Fault",
    "nodes.llm.text.lenient_json._Unreadable",
    "sim.data.fields.Malformed",
}


def exceptions() -> Iterator[type[BaseException]]:
    """Yield each class of exceptions that a module of the project defines."""
    for package in (graph, memory, nodes, sim):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for one in vars(module).values():
                if inspect.isclass(one) and issubclass(one, BaseException) and one.__module__ == found.name:
                    yield one


@pytest.mark.slow
def test_each_fault_reaches_clients_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # The module of the authentication asks for accounts as it is loaded.
    monkeypatch.setenv("BILLP_TOKENS", json.dumps(TOKENS))
    known = {f"{one.__module__}.{one.__qualname__}": one for one in exceptions()}
    assert known.keys() >= INTERNAL
    faults = {name: one for name, one in known.items() if name not in INTERNAL}
    assert {StoreError, BillpError} <= set(faults.values())
    for name, one in faults.items():
        assert issubclass(one, StoreError | BillpError), name
        shown = json.loads(json_dumpb(one("said in one line")))
        assert shown == {"error": one.__name__, "message": "said in one line"}
