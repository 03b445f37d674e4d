"""Settings of the original: their source, their precedence, and their effect on the prompts."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from graph.checkpoints import serializer
from graph.episode import VARIANTS, billp_paper, build_episode, build_variant
from graph.local_run import LocalVisit, resume_episode, run_episode
from graph.study import run_study
from graph.study.settings import StudySettings
from graph.variants import own_settings, variant_settings
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context, completed
from nodes.context_paper import PaperContext
from nodes.critic import critic
from nodes.llm.prompting import read_facts
from nodes.state import Exchange, Proposal, VisitInput, VisitOutput
from nodes.tools.open_world import open_world_now
from sim.errors import BadInputError
from tests.benchmarks.prompts import patient
from tests.full_disk import disk_full
from tests.integration.cli.test_visiting import stop_at_second
from tests.integration.study.test_study import Heard

pytestmark = pytest.mark.usefixtures("home")
PAPER = "billp_paper"
VISIT = VisitInput(world="tiny", max_steps=8)
# Settings of the method and the study that the paper's authors used.
ORIGINAL = {
    "advantage_rule": "value_difference",
    "outlook": False,
    "choices": "free",
    "grounding": "nearest",
    "experiences_k": 1,
    "values_k": 1,
    "hints": 2,
    "pairs": False,
    "evidence": False,
    "actor_lessons": True,
    "critic_titles_only": True,
    "reward_offset": 0.0,
}


@pytest.fixture
async def store(home: Path) -> AsyncIterator[ChromaStore]:
    async with ChromaStore(home / "memory", embeddings=shared_embeddings()) as store:
        yield store


async def visited(
    store: ChromaStore | None = None, visit: VisitInput = VISIT, context: Any = None, thread: str = "t"
) -> dict[str, Any]:
    compiled: Any = build_variant(PAPER).compile(checkpointer=InMemorySaver(serde=serializer()), store=store)
    config = {"configurable": {"thread_id": thread}}
    await compiled.ainvoke(visit, config, context=context)
    values: dict[str, Any] = (await compiled.aget_state(config)).values
    return values


def test_the_defaults_are_the_originals_and_all_else_is_as_everywhere() -> None:
    paper, common = PaperContext().model_dump(), Context().model_dump()
    assert {name for name in common if paper[name] != common[name]} == {*ORIGINAL, "critic_prompt"}
    assert paper.items() >= ORIGINAL.items() and paper["lessons_k"] == 2


def test_studio_is_shown_them_with_their_descriptions_and_bounds() -> None:
    shown = billp_paper.get_context_jsonschema()
    common = Context.model_json_schema()["properties"]
    assert shown is not None
    for name, value in ORIGINAL.items():
        assert shown["properties"][name] == common[name] | {"default": value}


def test_what_was_set_goes_before_the_defaults_of_a_variant_even_where_it_is_the_usual() -> None:
    given = Context(model="openai:some", grounding="fresh", temperature=0.0)
    merged = variant_settings(PAPER, given)
    assert (merged.model, merged.grounding, merged.temperature) == ("openai:some", "fresh", 0.0)
    assert merged.choices == "free" and isinstance(merged, PaperContext)
    assert completed(PaperContext, merged) is merged
    assert "grounding" not in own_settings(PAPER, given)
    assert own_settings(PAPER, Context()).keys() == {*ORIGINAL, "critic_prompt"}
    assert variant_settings("billp", given) is given and variant_settings("oracle", given) is given


async def test_the_actor_is_told_lessons_hints_and_the_title_of_one_experience_and_no_item_to_choose(
    store: ChromaStore,
) -> None:
    for user_id in open_world_now("tiny").world.split("train").users[:4]:
        await visited(store, VisitInput(world="tiny", user_id=user_id, max_steps=8), thread=user_id)
    state = await visited(store)
    exchange: dict[str, Exchange] = state["exchange"]
    told = {role: read_facts(one.prompt) for role, one in exchange.items()}
    actor = told["actor"]
    assert actor["lessons"] == told["planner"]["lessons"] != []
    assert len(actor["experiences"]) == 1 and actor["experiences"][0]["title"]
    assert len(actor["categories_to_try"]) == 2 and "candidates" not in actor
    titles = {"title"}
    critic = told["critic"]
    assert [set(one) for one in critic["values"]] == [{"target"}]
    assert {*map(frozenset, critic["history"]), *map(frozenset, critic["rounds"])} == {frozenset(titles)}
    assert set(critic["now"]) == titles
    assert {step.advantage for step in state["steps"]} <= {1.0, -1.0}


async def test_the_critic_on_titles_alone_gets_through_long_visits() -> None:
    compiled: Any = build_episode(patient, critic, context_schema=PaperContext).compile(
        checkpointer=InMemorySaver(serde=serializer()), interrupt_before=["user"]
    )
    config = {"configurable": {"thread_id": "t"}}
    await compiled.ainvoke(VisitInput(world="tiny", max_steps=12), config)
    for item in list(open_world_now("tiny").world.catalogue)[:12]:
        await compiled.aupdate_state(config, {"proposal": Proposal(item_id=item.id)})
        await compiled.ainvoke(None, config)
    state = (await compiled.aget_state(config)).values
    assert len(state["steps"]) == 12 and state["exchange"]["critic"].outcome == "ok"
    # The prompt replaces the rounds that were cut by their number only.
    assert read_facts(state["exchange"]["critic"].prompt)["earlier"].keys() == {"rounds"}


@pytest.mark.parametrize("context", [None, {}, Context(), PaperContext()])
async def test_a_resume_without_context_goes_on_with_the_originals_settings(context: Any) -> None:
    whole = await visited(context=context)
    compiled: Any = build_variant(PAPER).compile(
        checkpointer=InMemorySaver(serde=serializer()), interrupt_before=["actor"]
    )
    config = {"configurable": {"thread_id": "t"}}
    await compiled.ainvoke(VISIT, config)
    while (await compiled.aget_state(config)).next:
        await compiled.ainvoke(None, config)
    assert (await compiled.aget_state(config)).values["steps"] == whole["steps"]
    assert all(step.proposed.startswith("The ") for step in whole["steps"])


async def test_the_command_line_gives_them_and_keeps_what_was_set_over_a_stop() -> None:
    begun = LocalVisit(variant=PAPER, visit=VISIT, context=Context(hints=3), remember=False)
    with pytest.raises(KeyboardInterrupt):
        await run_episode(begun, stop_at_second)
    episode, output = await resume_episode(lambda step: None)
    whole = await run_episode(begun, lambda step: None)
    assert output.steps == whole.steps and len(output.steps) > 2
    assert (episode.context.hints, episode.context.choices) == (3, "free")


def lines(folder: Path, variant: str) -> list[dict[str, Any]]:
    found = map(json.loads, (folder / "visits.jsonl").read_text(encoding="utf-8").splitlines())
    return [one for one in found if one["variant"] == variant]


STUDY = StudySettings(world="tiny", variants=("billp", PAPER), train=4, test=4, cohort=2, max_steps=8)


def study(settings: StudySettings, name: str) -> Path:
    return run_study(settings, name, concurrency=4, processes=2, progress=Heard())


@pytest.mark.slow
def test_a_study_uses_them_for_the_cells_of_that_variant_alone(home: Path) -> None:
    folder = study(STUDY, "plain")
    titles = {item.title for item in open_world_now("tiny").world.catalogue}
    for variant, free in (("billp", False), (PAPER, True)):
        steps = [step for line in lines(folder, variant) for step in line["steps"]]
        assert any(step["proposed"] not in titles for step in steps) == free
        assert all(step["advantage"] in (1.0, -1.0) for step in steps) == free
    rows = {row["variant"]: row for row in json.loads((folder / "results.json").read_text())["rows"]}
    assert "settings" not in rows["billp"] and rows[PAPER]["settings"].items() >= ORIGINAL.items()
    own = study(STUDY.model_copy(update={"context": Context(choices="shortlist")}), "set")
    assert all(step["proposed"] in titles for line in lines(own, PAPER) for step in line["steps"])
    assert "choices" not in json.loads((own / "results.json").read_text())["rows"][1]["settings"]


@pytest.mark.slow
def test_a_study_is_not_gone_on_with_where_something_else_was_set() -> None:
    with disk_full("cut"):
        study(STUDY, "cut")
    other = STUDY.model_copy(update={"context": Context(grounding="fresh")})
    with pytest.raises(BadInputError, match="other settings .settings of billp_paper"):
        study(other, "cut")


def test_every_variant_is_built_with_the_settings_that_it_names() -> None:
    for name, variant in VARIANTS.items():
        assert build_variant(name).context_schema is variant.context


@pytest.mark.slow
def test_a_visit_by_the_originals_settings_comes_out_the_same_twice(home: Path) -> None:
    outputs = [[VisitOutput.model_validate(line) for line in lines(study(STUDY, name), PAPER)] for name in ("a", "b")]
    assert outputs[0] == outputs[1]
