"""Cache of visitors for the nodes of their visits, bounded in bytes."""

from pathlib import Path

import pytest

from nodes import user_view as module
from nodes.state import Step, VisitState
from nodes.tools.open_world import open_world
from nodes.user_view import STATE_TITLES, visitor


async def test_a_visitor_is_made_once_for_all_nodes_of_a_visit(home: Path) -> None:
    title = (await open_world("tiny")).world.catalogue[0].title
    state = VisitState(world="tiny", user_id="new", history=[title])
    assert await visitor(state) is await visitor(state.model_copy(update={"plan": "Recommend Drama."}))
    others = [[title, "a", "b"], [title, "a\0b"], [title, 'a", "b']]
    found = [await visitor(state.model_copy(update={"history": history})) for history in others]
    found.append(await visitor(state.model_copy(update={"user_id": "other"})))
    assert len({id(one) for one in [await visitor(state), *found]}) == 5


async def test_visitors_are_kept_within_a_bound_and_none_of_their_texts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = await open_world("tiny")
    catalogue = opened.world.catalogue
    monkeypatch.setattr(module, "VISITORS_BYTES", 4 * len(catalogue) * 5)
    for number in range(12):
        history = [catalogue[0].title, *(f"{number} {other}".ljust(500) for other in range(20))]
        who = await visitor(VisitState(world="tiny", user_id="new", history=history))
        assert who.predicted.nbytes == 4 * len(catalogue) and len(opened.cache) <= 5
    assert sum(len(str(key)) for key in opened.cache) < 1_000


async def test_the_state_is_the_last_titles_of_history_and_visit(home: Path) -> None:
    who = await visitor(VisitState(world="tiny"))
    catalogue = who.open_world.world.catalogue
    steps = [Step(index=number, item_id=catalogue[number].id) for number in range(30)]
    for count in (0, 3, STATE_TITLES, 30):
        whole = [*who.history, *(catalogue[number] for number in range(count))]
        assert who.titles(steps[:count]) == whole[-STATE_TITLES:]
