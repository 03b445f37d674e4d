"""Visit with a person as the user: questions, answers, and memories for that person only."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import ValidationError

from graph.checkpoints import serializer
from graph.episode import build_variant
from graph.recommend import builder, graph
from memory.embeddings import shared_embeddings
from memory.records import Statement, record
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm.prompting import read_facts
from nodes.state import Profile, Step, VisitInput
from nodes.tools.open_world import open_world_now
from nodes.users.answer_faults import BadAnswerError
from nodes.users.person import Answer, reasons
from nodes.users.profile import stated
from sim.errors import BadInputError

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
async def store(home: Path) -> AsyncIterator[ChromaStore]:
    async with ChromaStore(home / "memory", embeddings=shared_embeddings()) as store:
        yield store


class Visit:
    """Visit of one person, driven like a front end does."""

    def __init__(self, store: ChromaStore, thread: str) -> None:
        saver = InMemorySaver(serde=serializer())
        self.graph: Any = builder.compile(checkpointer=saver, store=store)
        self.config = {"configurable": {"thread_id": thread}}

    async def begin(self, user_id: str = "ann", **given: Any) -> dict[str, Any]:
        return self.asked(await self.graph.ainvoke({"world": "tiny", "user_id": user_id, **given}, self.config))

    async def answer(self, **answer: Any) -> dict[str, Any]:
        return self.asked(await self.graph.ainvoke(Command(resume=answer), self.config))

    def asked(self, output: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = output["__interrupt__"][0].value if "__interrupt__" in output else output
        return found

    async def state(self) -> dict[str, Any]:
        values: dict[str, Any] = (await self.graph.aget_state(self.config)).values
        return values

    async def prompts(self) -> str:
        return "\n".join(one.prompt for one in (await self.state())["exchange"].values())


async def test_each_round_asks_and_the_answer_counts(store: ChromaStore) -> None:
    visit = Visit(store, "t")
    first = await visit.begin(history=[open_world_now("tiny").world.catalogue[0].title])
    assert set(first) == {
        *("round", "title", "year", "genres", "why", "plan", "profile", "answer"),
        *("understood", "understood_line", "searched", "unjudged", "unknown", "unmet"),
        *("titles", "not_found", "titles_lines"),
    }
    assert first["round"] == 1 and "probably rate it" in first["why"]
    second = await visit.answer(rating=5)
    assert second["round"] == 2 and second["title"] != first["title"]
    third = await visit.answer(skip=True)
    end = await visit.answer(leave=True)
    assert third["round"] == 3
    assert [(one.reward, one.skipped, one.left) for one in end["steps"]] == [
        (5, False, False),
        (3, True, False),
        (3, False, True),
    ]
    assert end["length"] == 2 and end["left"] and end["leave_reason"] is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"rating": 6}, "rating is a number from 1 to 5, and this is a number (6)"),
        ({"rating": "four"}, "rating is a number from 1 to 5, and this is a text ('four')"),
        ({"rating": True}, "rating is a number from 1 to 5, and this is true or false"),
        ({"rating": float("nan")}, "rating is a number from 1 to 5, and this is a number (nan)"),
        ({"comment": "hm"}, "an answer says exactly one thing of the item"),
        ({"rating": 3, "leave": True}, "an answer says exactly one thing of the item"),
        ({"ratting": 3}, "there is no part of an answer 'ratting': did you mean 'rating'?"),
        ({"stars": 3}, "there is no part of an answer 'stars': choose among rating, skip, leave"),
        ({"skip": "yes"}, "skip is true, and this is a text ('yes')"),
        ({"skip": True, "comment": ["slow"]}, "comment is a text, and this is a list"),
        ({"skip": True, "comment": "x" * 600}, "comment has 600 characters, and at most 500 are kept"),
        ("great film", "an answer is a mapping, and this is a text ('great film')"),
        (5, "an answer is a mapping, and this is a number (5)"),
        ([{"rating": 5}], "an answer is a mapping, and this is a list"),
    ],
)
async def test_a_bad_answer_says_what_can_be_sent_and_leaves_the_question_open(
    store: ChromaStore, answer: Any, words: str
) -> None:
    visit = Visit(store, "t")
    asked = await visit.begin()
    with pytest.raises(BadAnswerError, match=re.escape(words)) as refused:
        await visit.graph.ainvoke(Command(resume=answer), visit.config)
    message = str(refused.value)
    assert message.endswith((f": send {asked['answer']}", f"? Send {asked['answer']}")) and "\n" not in message
    assert "pydantic" not in message and "Input should" not in message
    open_question = (await visit.graph.aget_state(visit.config)).interrupts[0].value
    assert open_question == asked
    assert (await visit.answer(rating=4))["round"] == 2


@pytest.mark.parametrize("answer", [None, {}])
async def test_an_empty_answer_says_what_can_be_sent_and_leaves_the_question_open(
    store: ChromaStore, answer: Any
) -> None:
    visit = Visit(store, "t")
    await visit.begin()
    with pytest.raises(BadInputError, match="the command is empty: answer a question by `resume`, such as"):
        await visit.graph.ainvoke(Command(resume=answer), visit.config)
    assert (await visit.answer(rating=4))["round"] == 2


async def test_wishes_and_comments_steer_plan_and_shortlist(store: ChromaStore) -> None:
    visit = Visit(store, "t")
    asked = await visit.begin(wishes="romance, no crime")
    assert "Romance" in asked["plan"] and "leave out" in asked["plan"] and "Romance" in asked["genres"]
    assert "you asked for Romance" in asked["why"]
    for candidate in (await visit.state())["shortlist"]:
        assert "Crime" not in candidate.genres
    asked = await visit.answer(rating=2, comment="no romance after all; comedy")
    assert "Comedy" in asked["genres"] and "Romance" not in asked["genres"]
    title = open_world_now("tiny").world.catalogue.item((await visit.state())["steps"][0].item_id).title
    assert asked["profile"] == f"romance, no crime\nno romance after all; comedy [on {title}]"


async def test_a_profile_can_be_corrected(store: ChromaStore) -> None:
    visit = Visit(store, "t")
    await visit.begin(wishes="no comedy")
    asked = await visit.answer(skip=True, profile="comedy, comedy, comedy")
    assert asked["profile"] == "comedy, comedy, comedy"
    assert "Comedy" in asked["genres"]


async def test_ratings_renew_the_predictions_at_once(store: ChromaStore) -> None:
    async def predicted(rating: float) -> list[float]:
        visit = Visit(store, f"t{rating}")
        await visit.begin(f"person {rating}")
        await visit.answer(rating=rating)
        return [one.predicted for one in (await visit.state())["shortlist"]]

    assert await predicted(5) != await predicted(1)


async def test_profile_and_memories_come_back_in_the_next_visit(store: ChromaStore) -> None:
    first = Visit(store, "first")
    await first.begin(wishes="no crime")
    await first.answer(rating=5, comment="loved it")
    await first.answer(leave=True)
    second = Visit(store, "second")
    asked = await second.begin()
    assert asked["profile"] == f"no crime\nloved it [on {(await first.state())['steps'][0].title}]"
    state = await second.state()
    assert len(state["profile"].ratings) == 1
    assert state["lessons"] and state["experiences"]
    assert [one["rating"] for one in read_facts(state["exchange"]["actor"].prompt)["history"]] == [5]


PRIVATE = "my doctor said so"


async def test_nothing_of_a_person_reaches_anybody_else(store: ChromaStore) -> None:
    ann = Visit(store, "ann")
    await ann.begin("ann", wishes=PRIVATE)
    await ann.answer(rating=1, comment=f"{PRIVATE} again")
    await ann.answer(leave=True)
    kept = await store.asearch((), limit=1000)
    assert kept and all(item.namespace[1:] == ("people:tiny", "ann") for item in kept)

    bob = Visit(store, "bob")
    await bob.begin("bob")
    await bob.answer(rating=2)
    assert PRIVATE not in await bob.prompts()
    state = await bob.state()
    assert state["lessons"] == [] and state["experiences"] == []
    # Neither a simulated user with any name nor a request for that space by name reaches the memories.
    with pytest.raises(ValidationError, match="space"):
        Context(space="people:tiny")
    with pytest.raises(BadInputError):
        await Visit(store, "evil").begin("eve", world="people:tiny")
    saver = InMemorySaver(serde=serializer())
    episode: Any = build_variant("billp").compile(store=store, checkpointer=saver)
    config = {"configurable": {"thread_id": "e"}}
    await episode.ainvoke(VisitInput(world="tiny", max_steps=3), config)
    values = (await episode.aget_state(config)).values
    assert values["lessons"] == [] and PRIVATE not in json.dumps([one.prompt for one in values["exchange"].values()])


async def test_people_recall_what_simulated_visits_taught(store: ChromaStore) -> None:
    episode: Any = build_variant("billp").compile(store=store)
    for user_id in open_world_now("tiny").world.split("train").users[:3]:
        await episode.ainvoke(VisitInput(world="tiny", user_id=user_id))
    visit = Visit(store, "t")
    await visit.begin()
    assert (await visit.state())["lessons"]


async def test_an_empty_form_is_a_guests(store: ChromaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.tools.open_world.available", lambda source: False)
    visit = Visit(store, "t")
    assert visit.asked(await visit.graph.ainvoke({}, visit.config))["round"] == 1
    assert (await visit.state())["identity"].user_id == "guest"


async def test_with_learning_off_nothing_of_a_visit_is_kept(store: ChromaStore) -> None:
    visit = Visit(store, "t")
    quiet = Context(learn="off")
    await visit.graph.ainvoke({"world": "tiny", "wishes": "comedy"}, visit.config, context=quiet)
    await visit.graph.ainvoke(Command(resume={"rating": 5}), visit.config, context=quiet)
    assert await store.asearch((), limit=10) == []


def test_a_profile_keeps_its_latest_lines_and_says_nothing_twice() -> None:
    def add(profile: Profile, words: str) -> Profile:
        return stated(profile, [record(Statement(visit="v", user_id="ann", number=0, said="wish", text=words), 0)])

    profile = Profile()
    for number in range(300):
        profile = add(profile, f"wish  number {number}")
    lines = [f"wish number {number}" for number in range(300)]
    assert profile.text == "\n".join(lines[-len(profile.text.splitlines()) :])
    # A line more would not fit.
    assert 2000 - len("wish number 100\n") < len(profile.text) <= 2000
    assert add(profile, "wish number 299") == profile
    assert add(profile, "  ") == profile
    assert add(profile, "x" * 2001).text == ""
    again = add(Profile(text="one\ntwo"), "one")
    assert again.text == "two\none"


def test_the_answer_tells_a_front_end_what_it_may_hold() -> None:
    properties = Answer.model_json_schema()["properties"]
    assert all(one["description"] for one in properties.values())
    assert [name for name in graph.get_graph().nodes if not name.startswith("__")] == [
        "greet", "planner", "outlook", "actor", "person", "critic", "reflector", "finish",
    ]  # fmt: skip


@pytest.mark.parametrize(("predicted", "told"), [(6.2, "5.0 of 5"), (4.2, "4.2 of 5"), (-0.4, "1.0 of 5")])
def test_a_person_is_told_a_rating_of_the_scale(predicted: float, told: str) -> None:
    assert reasons(Step(index=0, predicted=predicted), "").startswith(f"you would probably rate it {told}")
