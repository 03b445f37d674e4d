"""Size of prompts in a world with titles and categories as long as those of Steam."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import mean, median

import pytest

from nodes.context import Context
from nodes.llm.text.tokens import encode
from sim.catalogue import Item
from tests.benchmarks.prompts import games, measured_prompts, round_tokens, shared_prefix, world_of_games
from tests.shared_data import recorded


@pytest.fixture(scope="module")
def world() -> Iterator[None]:
    with world_of_games():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("variant", "calls", "most"), [("billp", 3, 2_000), ("merge_plan_and_act", 2, 1_700)])
async def test_a_round_keeps_to_the_aims(variant: str, calls: int, most: int) -> None:
    prompts = await measured_prompts(variant, train=4, rounds=36)
    assert len(prompts) == calls
    whole = round_tokens(prompts)
    assert whole[14] <= most and mean(whole) <= most
    assert mean(whole[28:36]) == pytest.approx(mean(whole[12:20]), rel=0.05)
    shares = {role: median(shared_prefix(*pair) for pair in pairwise(sent)) for role, sent in prompts.items()}
    # The choice among categories, the evidence of pairs and new experiences change in each round.
    least = {"planner": 0.8, "critic": 0.75, "actor": 0.4, "plan_and_act": 0.55}
    assert all(share >= least[role] for role, share in shares.items()), shares
    assert max(len(encode(one)) for sent in prompts.values() for one in sent) <= Context().prompt_tokens


def sizes(items: Sequence[Item]) -> tuple[float, float]:
    """Return the mean number of tokens of a title, and of an item's categories as JSON."""
    titles = mean(len(encode(item.title)) for item in items)
    return titles, mean(len(encode(json.dumps(item.genres, separators=(",", ":")))) for item in items)


@pytest.mark.shared_data
def test_the_made_up_titles_are_as_long_as_those_of_steam() -> None:
    lines = recorded("catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    steam = [Item(str(one["id"]), one["title"], tuple(one["genres"])) for one in map(json.loads, lines)]
    assert sizes(games()) == pytest.approx(sizes(steam), rel=0.05)
