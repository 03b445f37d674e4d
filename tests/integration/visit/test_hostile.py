"""Hostile titles: titles with instructions change neither the structure of a prompt nor the recommendations."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage

from graph.episode import build_variant
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context
from nodes.lifecycle import MAX_INPUT_TEXT
from nodes.llm.prompting import read_facts
from nodes.llm.text.tokens import encode
from nodes.state import VisitInput, VisitOutput
from nodes.tools.open_world import close_worlds, open_world_now
from sim.data.ratings import Ratings
from sim.world import World
from tests.hostile import HOSTILE, renamed

ROUNDS = 14
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")


def hostile(position: int) -> str | None:
    """Return a hostile title for every second position, so that each list of a prompt holds some of them."""
    return HOSTILE[position // 2] if position % 2 == 0 and position // 2 < len(HOSTILE) else None


class Played(BaseCallbackHandler):
    """Outputs and prompts of the visits in one world."""

    # Called where the model is called, so that the order of the prompts is kept.
    run_inline = True

    def __init__(self) -> None:
        self.outputs: list[VisitOutput] = []
        self.prompts: list[list[BaseMessage]] = []

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **_: Any) -> None:
        self.prompts += messages


async def play(home: Path, ratings: Ratings, monkeypatch: pytest.MonkeyPatch, variant: str) -> Played:
    """Run visits that write and recall memories: of training users, a dev user, and a newcomer with a history only."""
    close_worlds()
    monkeypatch.setenv("BILLP_HOME", str(home))
    World.build("same", ratings).save(home / "worlds" / "same")
    played = Played()
    opened = open_world_now("same")
    users = opened.world.split("train").users[:3] + opened.world.split("dev").users[:1]
    titles = [
        opened.world.catalogue[2 * number].title for number, title in enumerate(HOSTILE) if len(title) <= MAX_INPUT_TEXT
    ]
    async with ChromaStore(embeddings=shared_embeddings()) as store:
        compiled: Any = build_variant(variant).compile(store=store)
        for user_id in [*users, "newcomer"]:
            history = titles if user_id == "newcomer" else []
            visit = VisitInput(world="same", user_id=user_id, history=history, max_steps=ROUNDS)
            played.outputs.append(VisitOutput.model_validate(await compiled.ainvoke(visit, {"callbacks": [played]})))
    assert len(played.prompts) == sum(output.usage.calls for output in played.outputs)
    return played


@pytest.fixture
async def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> AsyncIterator[tuple[Played, Played]]:
    """Same visits in two worlds that differ only in titles; even the embeddings of the labels are equal."""
    plain, evil = renamed(lambda position: None), renamed(hostile)
    vectors = [shared_embeddings().embed_query(item.label) for item in plain.catalogue]
    harmless = await play(tmp_path / "plain", plain, monkeypatch, request.param)
    shared_embeddings().prime([item.label for item in evil.catalogue], vectors)
    yield harmless, await play(tmp_path / "evil", evil, monkeypatch, request.param)
    close_worlds()


def structure(value: Any) -> Any:
    """Return a JSON value with its keys and numbers, but without its texts."""
    if isinstance(value, dict):
        return {key: structure(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [structure(inner) for inner in value]
    return "text" if isinstance(value, str) else value


@pytest.mark.slow
@pytest.mark.parametrize("both", ["billp", "merge_plan_and_act", "billp_llm_user"], indirect=True)
async def test_hostile_titles_change_no_prompt_and_no_recommendation(both: tuple[Played, Played]) -> None:
    harmless, evil = both
    recommended = [[step.item_id for step in output.steps] for output in evil.outputs]
    assert recommended == [[step.item_id for step in output.steps] for output in harmless.outputs]
    for one, other in zip(evil.outputs, harmless.outputs, strict=True):
        assert [(step.plan, step.reward, step.value) for step in one.steps] == [
            (step.plan, step.reward, step.value) for step in other.steps
        ]
        assert one.usage.calls == other.usage.calls
    shown = set()
    for messages, others in zip(evil.prompts, harmless.prompts, strict=True):
        assert [message.type for message in messages] == [message.type for message in others] == ["system", "human"]
        assert messages[0] == others[0]
        assert messages[1].text.count("```") == others[1].text.count("```") == 2
        assert messages[1].text.count("\n") == others[1].text.count("\n")
        assert structure(read_facts(messages[1].text)) == structure(read_facts(others[1].text))
        assert not UNSEEN.search(messages[1].text.replace("\n", ""))
        shown |= {line for line in messages[1].text.splitlines() if line not in others[1].text}
    # Many hostile titles are shown, each in its own row.
    assert len(shown) > len(HOSTILE)


@pytest.mark.slow
async def test_a_prompt_keeps_to_its_budget_however_long_titles_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [title for title in HOSTILE if len(title) > 1_000]
    ratings = renamed(lambda position: f"{long[position % len(long)][:200]} {position}")
    played = await play(tmp_path, ratings, monkeypatch, "billp")
    tokens = [len(encode("\n\n".join(message.text for message in messages))) for messages in played.prompts]
    assert max(tokens) <= Context().prompt_tokens
    assert {output.length_with_exit >= 1 for output in played.outputs} == {True}
    close_worlds()
