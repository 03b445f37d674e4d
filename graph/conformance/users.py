"""Contract tests for roles that play the user, in addition to the tests for all roles.

    from graph.conformance import UserContract

    class TestBoredUser(UserContract):
        variant = bored.variant
        role = "bored_user"

pytest then runs them on visits of the variant in the world `tiny`, with the model `rules`.
"""

import asyncio
from typing import Any, get_args

from graph.conformance.roles import ROUNDS, RoleContract
from memory.store import ChromaStore
from nodes.state import Step, VisitInput
from nodes.tools.open_world import open_world_now
from sim.leave import LeaveReason


class UserContract(RoleContract):
    """Tests of a role that plays the user in one variant; a subclass names both."""

    def test_each_round_gets_one_step_with_a_rating(self) -> None:
        """Learning reads the reward, and the metrics are means of it."""
        for number, update in enumerate(asyncio.run(self._updates())):
            (step,) = update["steps"]
            assert isinstance(step, Step) and step.index == number
            assert 1 <= step.reward <= 5

    def test_whoever_leaves_says_why(self) -> None:
        """The loop ends by `left`, the report counts the reasons, and records name the last round."""
        *stayed, last = asyncio.run(self._updates())
        for update in stayed:
            assert not (update.get("left") or update.get("leave_reason") or update["steps"][0].left)
        left, reason = last.get("left", False), last.get("leave_reason")
        assert left == last["steps"][0].left == (reason is not None)
        assert reason in (None, *get_args(LeaveReason))
        assert left or len(stayed) + 1 == ROUNDS

    def test_it_plays_somebody_whom_the_world_does_not_know(self) -> None:
        """A request may name an unknown user, with the titles they liked."""
        catalogue = open_world_now("tiny").world.catalogue
        titles = [item.title for item in list(catalogue)[:3]]
        output = asyncio.run(self._visited(VisitInput(world="tiny", user_id="nobody", history=titles, max_steps=2)))
        assert output["length_with_exit"] >= 1

    async def _visited(self, visit: VisitInput) -> dict[str, Any]:
        async with self._graph(ChromaStore()) as (graph, config):
            self._returned = []
            output: dict[str, Any] = await graph.ainvoke(visit, config, context=self._context())
            return output
