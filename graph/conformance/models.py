"""Contract tests for chat models.

    from graph.conformance import ModelContract

    class TestStock(ModelContract):
        model = "stock:drama"

pytest then runs them in visits of the world `tiny`.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from langchain_core.language_models import BaseChatModel

from graph.conformance.roles import at_home
from graph.conformance.stalls import STALL, longest_stall
from graph.context_overrides import context_of
from graph.episode import build_variant
from nodes.llm.models import chat_model
from nodes.state import VisitInput

MODEL_ROUNDS = 3
AT_ONCE = 8


class ModelContract:
    """Tests of one chat model, installed or registered; a subclass gives its name as for `--model`."""

    model: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def tiny_home(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        """Keep worlds in a folder of the class's own."""
        yield from at_home(tmp_path_factory)

    def test_it_is_made_by_its_name(self) -> None:
        """Commands and requests give only the name of a model."""
        assert isinstance(chat_model(self.model, 0.5), BaseChatModel)
        assert context_of(self.model, []).model == self.model

    def test_a_visit_goes_through_with_it(self) -> None:
        """A visit ends with any replies: an unusable reply is requested again, and then the role's fallback is used."""
        output = asyncio.run(self._visit(0))
        assert 1 <= output["length_with_exit"] <= MODEL_ROUNDS and output["usage"].calls >= 2

    def test_one_event_loop_after_the_other_may_use_it(self) -> None:
        """Connections belong to the event loop that opened them, and each cell of a study has its own loop."""
        assert all(asyncio.run(self._visit(seed))["length_with_exit"] for seed in range(3))

    def test_many_visits_use_it_at_once(self) -> None:
        """Visits of a study share a model."""

        async def visits() -> list[dict[str, Any]]:
            return list(await asyncio.gather(*map(self._visit, range(AT_ONCE))))

        assert len(asyncio.run(visits())) == AT_ONCE

    def test_the_event_loop_goes_on_meanwhile(self) -> None:
        """While one visit waits for its model, other visits continue."""

        async def stalled() -> float:
            await self._visit(0)
            return await longest_stall(self._visit(1))

        assert min(asyncio.run(stalled()) for _ in range(2)) < STALL

    async def _visit(self, seed: int) -> dict[str, Any]:
        graph: Any = build_variant("react").compile()
        visit = VisitInput(world="tiny", max_steps=MODEL_ROUNDS, seed=seed)
        output: dict[str, Any] = await graph.ainvoke(visit, context=context_of(self.model, []))
        return output
