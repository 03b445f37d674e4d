"""Graph of a visit with the real store and world: order of nodes, edits, forks, second visits, bad input."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import Runtime

from graph.checkpoints import serializer
from graph.episode import VARIANTS, build_episode, build_variant, graph
from memory.embeddings import shared_embeddings
from memory.store import ChromaStore
from nodes.context import Context
from nodes.llm.prompting import read_facts
from nodes.state import Proposal, Step, VisitInput, VisitOutput, VisitState
from nodes.tools.open_world import open_world_now
from nodes.users.simulated import user
from sim.errors import BadInputError

pytestmark = pytest.mark.usefixtures("home")
TINY = {"world": "tiny", "max_steps": 12}


@pytest.fixture
async def store(home: Path) -> AsyncIterator[ChromaStore]:
    async with ChromaStore(home / "memory", embeddings=shared_embeddings()) as store:
        yield store


def saver() -> InMemorySaver:
    return InMemorySaver(serde=serializer())


def thread(name: str = "t") -> RunnableConfig:
    return {"configurable": {"thread_id": name}}


async def visit(
    store: ChromaStore | None = None, variant: str = "billp", context: Context | None = None, **changes: Any
) -> VisitOutput:
    compiled: Any = build_variant(variant).compile(store=store)
    return VisitOutput.model_validate(await compiled.ainvoke(VisitInput(**TINY | changes), context=context))


async def everything(store: ChromaStore) -> set[tuple[tuple[str, ...], str]]:
    return {(item.namespace, item.key) for item in await store.asearch((), limit=10_000)}


def test_the_graph_is_what_the_design_draws() -> None:
    drawn = graph.get_graph()
    assert [name for name in drawn.nodes if not name.startswith("__")] == [
        "begin", "planner", "outlook", "actor", "user", "critic", "reflector", "finish",
    ]  # fmt: skip
    edges = {(edge.source, edge.target): edge.data for edge in drawn.edges}
    assert edges["critic", "planner"] == "next round"
    assert edges["critic", "reflector"] == "visit over"
    assert graph.checkpointer is None


@pytest.mark.parametrize("variant", VARIANTS)
async def test_every_variant_ends_a_visit_by_its_own_nodes(variant: str, store: ChromaStore) -> None:
    output = await visit(store, variant)
    assert output.length_with_exit == len(output.steps) >= 1
    assert output.length == len(output.steps) - output.left
    assert output.total_reward == pytest.approx(sum(step.reward for step in output.steps if not step.left))
    others = {"act_only": 1, "react": 2, "reflexion": 2, "merge_plan_and_act": 2, "billp_llm_user": 4}
    roles = others.get(variant, 3)
    assert {step.usage.calls for step in output.steps} == {roles}
    assert output.usage.calls == roles * len(output.steps) + bool(VARIANTS[variant].at_end)
    kinds = {namespace[0] for namespace, _ in await everything(store)}
    everything_learned = {"lessons", "experiences", "values"}
    lessons, none = {"lessons"}, set[str]()
    less = {"act_only": none, "react": none, "reflexion": lessons, "no_micro": lessons}
    less["no_macro"] = everything_learned - lessons
    assert kinds == less.get(variant, everything_learned)
    assert VARIANTS[variant].remembers == bool(kinds)


async def test_the_same_visit_twice_is_the_same_and_is_remembered_once(store: ChromaStore) -> None:
    first = await visit(store, seed=3)
    kept = await everything(store)
    assert await visit(store, seed=3) == first
    assert await everything(store) == kept
    # The lesson, and the value of the end if the user left.
    assert len(kept) == 2 * len(first.steps) + 1 + first.left


@pytest.mark.slow
async def test_what_is_remembered_is_recalled_and_changes_what_is_done(store: ChromaStore) -> None:
    users = open_world_now("tiny").world.split("dev").users[:6]
    before = [await visit(store, context=Context(learn="off"), user_id=one) for one in users]
    assert await everything(store) == set()
    for one in open_world_now("tiny").world.split("train").users[:8]:
        await visit(store, user_id=one)
    kept = await everything(store)
    after = [await visit(store, context=Context(learn="off"), user_id=one) for one in users]
    assert [one.steps for one in after] != [one.steps for one in before]
    assert any("at least" in step.plan for one in after for step in one.steps)
    # With learning off, the visits of dev users write no memories.
    assert await everything(store) == kept


async def test_no_node_repeats_an_item_while_others_are_left(store: ChromaStore) -> None:
    output = await visit(store, max_steps=50)
    assert len({step.item_id for step in output.steps}) == len(output.steps)


async def test_with_learning_by_cohort_the_visit_returns_its_memories_and_writes_none(store: ChromaStore) -> None:
    output = await visit(store, context=Context(learn="cohort"))
    assert len(output.records) == 2 * len(output.steps) + 1 + output.left
    assert await everything(store) == set()
    assert (await visit(store, context=Context(learn="off"))).records == []


async def test_an_empty_form_runs(store: ChromaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.tools.open_world.available", lambda source: False)
    compiled: Any = build_variant("billp").compile(store=store)
    output = VisitOutput.model_validate(await compiled.ainvoke({}))
    assert output.user_id == open_world_now("tiny").world.split("dev").users[0]
    assert len(output.steps) >= 1


async def test_a_user_the_world_does_not_know_brings_titles() -> None:
    titles = [item.title for item in open_world_now("tiny").world.catalogue][:3]
    output = await visit(user_id="newcomer", history=[titles[0].upper(), titles[1], "no such film at all"])
    assert output.user_id == "newcomer" and output.steps
    with pytest.raises(BadInputError, match="'newcomer' is unknown in world 'tiny'"):
        await visit(user_id="newcomer")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"max_steps": 0}, "max_steps is 0"),
        ({"max_steps": "many"}, "^max_steps: "),
        ({"history": "Heat"}, "^history: "),
        ({"history": ["x"] * 2000}, "2,000 titles"),
        ({"seed": -1}, "seed is -1"),
        ({"user_id": "nobody"}, "user 'nobody' is unknown"),
        ({"world": "../../etc"}, "not a valid name of a world"),
        ({"world": "mars"}, "no world 'mars'"),
        ({"user_id": "x" * 5000}, "longer than 500"),
    ],
)
async def test_a_bad_input_says_why_and_a_good_one_follows_on_the_same_thread(bad: dict[str, Any], why: str) -> None:
    compiled: Any = build_variant("billp").compile(checkpointer=saver())
    with pytest.raises(BadInputError, match=why):
        await compiled.ainvoke(TINY | bad, thread())
    assert (await compiled.aget_state(thread())).values["world"]
    # A good input with fewer fields gets defaults, not values of the bad input.
    assert (await compiled.ainvoke({"world": "tiny"}, thread()))["length_with_exit"] >= 1


async def test_a_second_visit_on_a_thread_starts_afresh_and_is_remembered_apart(store: ChromaStore) -> None:
    compiled: Any = build_variant("billp").compile(checkpointer=saver(), store=store)
    first = VisitOutput.model_validate(await compiled.ainvoke(TINY | {"max_steps": 4}, thread()))
    kept = await everything(store)
    second = VisitOutput.model_validate(await compiled.ainvoke(TINY | {"max_steps": 3}, thread()))
    assert [step.index for step in second.steps] == list(range(len(second.steps)))
    assert second.usage.calls == 3 * len(second.steps) + 1
    assert len(await everything(store)) == len(kept) + 2 * len(second.steps) + 1
    state = (await compiled.aget_state(thread())).values
    assert state["visit"] == 2 and len(state["steps"]) == len(second.steps) <= 3 < len(first.steps) + 1


async def test_a_second_visit_does_not_inherit_the_history_of_another_user() -> None:
    compiled: Any = build_variant("react").compile(checkpointer=saver())
    title = open_world_now("tiny").world.catalogue[0].title
    await compiled.ainvoke(TINY | {"user_id": "new", "history": [title], "max_steps": 1}, thread())
    known = open_world_now("tiny").world.split("dev").users[1]
    after = await compiled.ainvoke({"world": "tiny", "user_id": known}, thread())
    alone: Any = build_variant("react").compile(checkpointer=saver())
    assert await alone.ainvoke({"world": "tiny", "user_id": known}, thread()) == after
    first = open_world_now("tiny").world.split("dev").users[0]
    assert (await compiled.ainvoke({"world": "tiny"}, thread()))["user_id"] == first


async def stopped(at: str, **changes: Any) -> Any:
    compiled: Any = build_variant("billp").compile(checkpointer=saver(), interrupt_before=[at])
    await compiled.ainvoke(TINY | changes, thread())
    return compiled


async def test_an_edited_plan_is_followed() -> None:
    compiled = await stopped("actor", max_steps=1)
    await compiled.aupdate_state(thread(), {"plan": "Recommend Horror; leave out everything else."})
    await compiled.ainvoke(None, thread())
    state = await compiled.aget_state(thread())
    assert '"plan":"Recommend Horror' in state.values["exchange"]["actor"].prompt


async def test_a_replaced_proposal_is_what_the_user_gets_with_types_intact() -> None:
    item = open_world_now("tiny").world.catalogue[7]
    edits: list[dict[str, Any]] = [
        {"item_id": item.id},
        {"title": item.title},
        {"item_id": item.id, "title": item.title, "genres": []},
    ]
    bare = {"item_id": item.id, "title": "", "text": "", "genres": []}
    for edit in [*edits, bare]:
        compiled = await stopped("user", max_steps=1)
        proposal = (await compiled.aget_state(thread())).values["proposal"]
        assert isinstance(proposal, Proposal) and proposal.item_id != item.id
        await compiled.aupdate_state(thread(), {"proposal": proposal.model_dump() | edit})
        output = await compiled.ainvoke(None, thread())
        step = output["steps"][0]
        assert isinstance(step, Step)
        assert (step.item_id, step.genres) == (item.id, list(item.genres))


async def test_a_nested_edit_of_a_finished_round_keeps_its_types() -> None:
    compiled = await stopped("planner", max_steps=3)
    await compiled.ainvoke(None, thread())
    await compiled.aupdate_state(thread(), {"steps": [{"index": 0, "title": "edited", "item_id": "1", "reward": 2}]})
    await compiled.ainvoke(None, thread())
    steps = VisitState.model_validate((await compiled.aget_state(thread())).values).steps
    assert steps[0].title == "edited" and steps[0].reward == 2.0
    assert all(isinstance(step, Step) for step in steps)


@pytest.mark.parametrize("edit", [{"plan": ["x"]}, {"proposal": "Heat"}, {"steps": "none"}, {"usage": None}])
async def test_a_bad_edit_is_named_and_can_be_mended(edit: dict[str, Any]) -> None:
    compiled = await stopped("user", max_steps=1)
    before = (await compiled.aget_state(thread())).values
    await compiled.aupdate_state(thread(), edit)
    field = next(iter(edit))
    if field != "steps":  # the reducer drops values that are not steps
        with pytest.raises(BadInputError, match=f"^{field}: "):
            await compiled.ainvoke(None, thread())
    assert (await compiled.aget_state(thread())).next
    await compiled.aupdate_state(thread(), {field: before.get(field, [])})
    assert (await compiled.ainvoke(None, thread()))["steps"]


async def test_the_same_fork_twice_is_the_same_visit_and_nothing_is_remembered_twice(store: ChromaStore) -> None:
    compiled: Any = build_variant("billp").compile(checkpointer=saver(), store=store)
    whole = VisitOutput.model_validate(await compiled.ainvoke(TINY, thread()))
    kept = await everything(store)
    history = [one async for one in compiled.aget_state_history(thread())]
    fork = next(one for one in history if one.next == ("actor",) and len(one.values["steps"]) == 2)
    outputs = [VisitOutput.model_validate(await compiled.ainvoke(None, fork.config)) for _ in range(2)]
    assert outputs == [whole, whole]
    assert await everything(store) == kept


@pytest.mark.parametrize("variant", ["billp", "act_only"])
async def test_each_finished_round_streams_one_compact_event(variant: str) -> None:
    compiled: Any = build_variant(variant).compile()
    events, output = [], {}
    async for mode, chunk in compiled.astream(VisitInput(**TINY), stream_mode=["custom", "values"]):
        if mode == "custom":
            events.append(chunk["round"])
        else:
            output = chunk
    fields = {"index", "plan", "title", "genres", "reward", "advantage", "left"}
    assert events == [step.model_dump(include=fields) for step in output["steps"]]


NODES = ["begin", "planner", "actor", "user", "critic", "reflector", "finish"]


@pytest.mark.parametrize("when", ["interrupt_before", "interrupt_after"])
@pytest.mark.parametrize("node", NODES)
async def test_stepping_through_a_visit_changes_nothing_of_it(node: str, when: str, store: ChromaStore) -> None:
    whole = await visit(context=Context(learn="off"), max_steps=3)
    compiled: Any = build_variant("billp").compile(checkpointer=saver())
    run = {"config": thread(), "context": Context(learn="off"), when: [node]}
    await compiled.ainvoke(TINY | {"max_steps": 3}, **run)
    stops = 0
    while (await compiled.aget_state(thread())).next:
        stops += 1
        output = await compiled.ainvoke(None, **run)
    assert stops >= 1 or (node, when) == ("finish", "interrupt_after")
    values = output if stops else (await compiled.aget_state(thread())).values
    assert values["steps"] == whole.steps and values["total_reward"] == whole.total_reward


async def test_checkpoints_grow_with_the_length_of_a_visit_not_with_its_square() -> None:
    async def size(rounds: int) -> int:
        async def stay(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
            return await user(state, runtime) | {"left": False}

        stay.__name__ = "user"
        memory = saver()
        compiled: Any = build_episode(*VARIANTS["act_only"].step[:1], stay).compile(checkpointer=memory)
        await compiled.ainvoke(TINY | {"max_steps": rounds}, thread(), context=Context(prompt_tokens=300))
        return sum(len(blob[1]) for blob in memory.blobs.values()) + sum(
            len(write[2][1]) for writes in memory.writes.values() for write in writes.values()
        )

    assert await size(80) < 2.6 * await size(40)


async def test_a_new_role_joins_by_standing_in_the_list(store: ChromaStore) -> None:
    seen = []

    async def onlooker(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
        seen.append(state.proposal)
        return {}

    step, at_end, _ = VARIANTS["billp"]
    compiled: Any = build_episode(*step[:2], onlooker, *step[2:], at_end=at_end).compile(store=store)
    output = await compiled.ainvoke(VisitInput(**TINY))
    assert len(seen) == len(output["steps"]) and all(isinstance(one, Proposal) for one in seen)


async def test_no_role_is_told_whether_and_why_the_user_left(store: ChromaStore) -> None:
    compiled: Any = build_variant("billp").compile(checkpointer=saver(), store=store)
    output = await compiled.ainvoke(TINY | {"max_steps": 100}, thread())
    assert output["left"]
    state = (await compiled.aget_state(thread())).values
    for role, exchange in state["exchange"].items():
        assert not any(word in exchange.prompt for word in ("leave_reason", '"similar"', '"disliked"'))
        if role != "reflector":
            assert '"left"' not in exchange.prompt
    # The Critic sees the rewards of the earlier rounds, and of the last one the item alone.
    told = read_facts(state["exchange"]["critic"].prompt)
    earlier = [
        {"title": step.title, "distance": step.distance, "reward": round(step.reward, 2)} for step in output["steps"]
    ]
    assert told["rounds"] and told["rounds"] == earlier[-1 - len(told["rounds"]) : -1]
    last = output["steps"][-1]
    assert told["now"] == {
        "title": last.title,
        "predicted": last.predicted,
        "distance": last.distance,
        "genres": last.genres,
    }
