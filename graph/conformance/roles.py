"""Contract tests for roles, also for roles of other packages.

    from graph.conformance import RoleContract

    class TestExplorer(RoleContract):
        variant = explorer.variant
        role = "explorer"

pytest then runs them on visits of the variant in the world `tiny`, with the model `rules`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base import BaseStore
from pydantic import TypeAdapter

from graph.checkpoints import serializer
from graph.conformance.isolation import faults_of_isolation
from graph.conformance.stalls import LONGEST_TURN, STALL, longest_stall, longest_turns
from graph.episode import build_variant
from graph.role_schemas import Node, state_fields_of
from graph.run_metadata import NOT_BELIEVED, Graph
from graph.variants import VARIANTS, Variant
from memory.store import ChromaStore
from nodes.context import Context
from nodes.state import VisitInput, VisitState
from nodes.tools.open_world import close_worlds

ROUNDS = 4


class RoleContract:
    """Tests of one role in one variant; a subclass names both."""

    variant: ClassVar[str | Variant]
    """Variant that contains the role, or the variant's name."""
    role: ClassVar[str]
    """Name of the role's function, and so of its node."""
    _returned: list[dict[str, Any]]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def tiny_home(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        """Keep worlds and memories in a folder of the class's own."""
        yield from at_home(tmp_path_factory)

    def test_it_returns_what_is_declared_and_nothing_else(self) -> None:
        """LangGraph drops a field that no schema declares, without an error."""
        declared = {*VisitState.model_fields, *state_fields_of(self._variant.nodes)}
        updates = asyncio.run(self._updates())
        assert updates, f"{self.role} was never asked in {ROUNDS} rounds of its variant"
        for update in updates:
            assert {*update} <= declared

    def test_what_it_writes_keeps_its_types_when_somebody_edits_it(self) -> None:
        """Studio shows the state as JSON and sends it back as JSON."""

        async def edited() -> tuple[dict[str, Any], dict[str, Any]]:
            async with self._graph(ChromaStore()) as (graph, config):
                written = await self._until_it(graph, config)
                values = (await graph.aget_state(config)).values
                sent = {name: TypeAdapter(Any).dump_python(values[name], mode="json") for name in written}
                await graph.aupdate_state(config, sent, as_node=self.role)
                after = (await graph.aget_state(config)).values
                await self._run_on(graph, config)
                return {name: values[name] for name in written}, {name: after[name] for name in written}

        written, after = asyncio.run(edited())
        fields = {**VisitState.model_fields, **state_fields_of(self._variant.nodes)}
        for name in {*written} - {*NOT_BELIEVED}:
            kind: TypeAdapter[Any] = TypeAdapter(fields[name].annotation or Any)
            assert kind.validate_python(after[name]) == kind.validate_python(written[name])

    def test_what_it_remembers_is_written_once_however_often_it_runs(self) -> None:
        """The keys of records contain visit, round and kind, so that a replay replaces its earlier records."""

        async def replayed() -> tuple[set[Any], set[Any]]:
            store = ChromaStore()
            async with self._graph(store) as (graph, config):
                self._returned = []
                await graph.ainvoke(self._visit(), config, context=self._context())
                once = _places(store)
                async for snapshot in graph.aget_state_history(config):
                    if self.role in snapshot.next:
                        await graph.ainvoke(None, snapshot.config, context=self._context())
                        break
                return once, _places(store)

        once, again = asyncio.run(replayed())
        assert once == again

    def test_the_same_visit_comes_out_the_same(self) -> None:
        """Every random draw uses the seed of the visit."""

        async def outcome() -> Any:
            async with self._graph(ChromaStore()) as (graph, config):
                self._returned = []
                output = await graph.ainvoke(self._visit(), config, context=self._context(learn="cohort"))
                return TypeAdapter(Any).dump_python(output, mode="json")

        assert asyncio.run(outcome()) == asyncio.run(outcome())

    def test_it_works_without_any_memory(self) -> None:
        """A store may be missing, and every memory starts empty."""
        for store in (None, ChromaStore()):
            assert asyncio.run(self._updates(store, learn="off"))

    def test_it_works_where_the_model_is_of_no_use(self) -> None:
        """An unusable reply must not end a user's visit."""
        with babbling():
            assert asyncio.run(self._updates())

    def test_a_state_that_names_another_account_reaches_nothing_of_its_own(self) -> None:
        """A signed-in user may edit their own thread, and still acts for their own account only."""
        builder = build_variant("contract", self._variant)
        assert asyncio.run(faults_of_isolation(builder, self._variant.nodes, self.role)) == []

    def test_the_event_loop_goes_on_meanwhile(self) -> None:
        """Many visits share one event loop: a role waits in a thread or by `await`."""

        async def stalled() -> float:
            # The first visit loads modules and data, which must not count.
            await self._updates()
            return await longest_stall(self._updates())

        assert min(asyncio.run(stalled()) for _ in range(2)) < STALL

    def test_the_longest_visit_holds_up_no_other(self) -> None:
        """Work that grows with the number of rounds belongs in a thread: on the event loop it delays all visits.

        The test compares the processor time of the loop's thread with that of other work on the same rounds.
        """
        variant = self._variant

        def build(timed: Callable[[Node], Node]) -> Graph:
            step, at_end = (tuple(map(timed, nodes)) for nodes in (variant.step, variant.at_end))
            return build_variant("contract", variant._replace(step=step, at_end=at_end))

        assert asyncio.run(longest_turns(build, self._context()))[self.role] < LONGEST_TURN

    @property
    def _variant(self) -> Variant:
        return VARIANTS[self.variant] if isinstance(self.variant, str) else self.variant

    def _noted(self, node: Node) -> Node:
        """Return the same node with its updates logged, because LangGraph drops undeclared fields."""
        if node.__name__ != self.role:
            return node

        @wraps(node)
        async def noted(*args: Any, **kwargs: Any) -> dict[str, Any]:
            update = await node(*args, **kwargs)
            self._returned.append(update)
            return update

        return noted

    def _visit(self) -> VisitInput:
        return VisitInput(world="tiny", max_steps=ROUNDS, seed=3)

    def _context(self, **settings: Any) -> Context:
        return self._variant.settings.model_validate(settings)

    @asynccontextmanager
    async def _graph(self, store: BaseStore | None) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
        variant = self._variant
        step, at_end = (tuple(map(self._noted, nodes)) for nodes in (variant.step, variant.at_end))
        saver = InMemorySaver(serde=serializer(variant.nodes))
        noted = variant._replace(step=step, at_end=at_end)
        graph: Any = build_variant("contract", noted).compile(checkpointer=saver, store=store)
        try:
            yield graph, {"configurable": {"thread_id": "one"}}
        finally:
            if isinstance(store, ChromaStore):
                await store.aclose()

    async def _updates(self, store: BaseStore | None = None, **settings: Any) -> list[dict[str, Any]]:
        """Return the updates of the role in a visit, one for each call."""
        async with self._graph(store) as (graph, config):
            self._returned = []
            await graph.ainvoke(self._visit(), config, context=self._context(**settings))
            return self._returned

    async def _until_it(self, graph: Any, config: dict[str, Any]) -> dict[str, Any]:
        """Run a visit until the role's first call has ended, and return the role's update."""
        self._returned = []
        await graph.ainvoke(self._visit(), config, context=self._context(), interrupt_after=[self.role])
        assert self._returned, f"{self.role} was never asked in {ROUNDS} rounds of its variant"
        return self._returned[0]

    async def _run_on(self, graph: Any, config: dict[str, Any]) -> None:
        output = await graph.ainvoke(None, config, context=self._context())
        assert output["length_with_exit"] >= 1


def at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a folder for the worlds and memories of some tests."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BILLP_HOME", str(home))
        yield home
        close_worlds()


@contextmanager
def babbling() -> Iterator[None]:
    """Use a model with unusable replies for every role."""

    async def model(*_: Any) -> BaseChatModel:
        return FakeListChatModel(responses=["As an AI, I would rather not."])

    with patch("nodes.ask.role_model", model):
        yield


def _places(store: ChromaStore) -> set[Any]:
    return {(record.namespace, record.key) for record in store.records()}
