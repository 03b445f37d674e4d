"""The loop of a visit: rounds of planner, actor, user and critic until the user leaves, then the reflector.

A variant is the list of its nodes; a new role joins by standing in one.
"""

from functools import wraps
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.graph import END, START
from langgraph.runtime import get_runtime

from graph.role_schemas import Node, clearing, settings_of, state_schema
from graph.run_metadata import Graph, NamedBy
from graph.state_guard import check_owner, check_state, scoped_runtime
from graph.variants import VARIANTS as VARIANTS
from graph.variants import Variant as Variant
from nodes.context import Context, completed
from nodes.lifecycle import begin, finish, simulated_name
from nodes.state import VisitInput, VisitState
from nodes.visit_memory import signed_in
from sim.errors import BadInputError


def build_episode(
    *step_nodes: Node,
    at_end: tuple[Node, ...] = (),
    context_schema: type[Context] = Context,
    begin: Node = begin,
    input_schema: type[VisitInput] = VisitInput,
    variant: str = "custom",
    named_by: NamedBy = simulated_name,
) -> Graph:
    """Return the uncompiled graph of a visit.

    Args:
        step_nodes: Nodes of one round, in order, each named as its function; one of them appends a `Step`.
        at_end: Nodes after the last round, in order.
        context_schema: Settings that the nodes read, with the defaults for what a run does not set; those that a node
            brings of its own join them.
        begin: Node that checks the input and clears the state.
        input_schema: What a visit is given.
        variant: What its runs are called in traces and checkpoints.
        named_by: Tells the name of who visits, for the same purpose.
    """
    roles = (*step_nodes, *at_end)
    schema = settings_of(roles, context_schema)
    builder = Graph(variant, named_by, schema, input_schema)
    order = [clearing(begin, roles), *step_nodes[:-1], announcing(step_nodes[-1]), *at_end, finish]
    if schema is not Context:
        order = [defaulting(node, schema) for node in order]
    order = [guarded(node) for node in order]
    for node in order:
        builder.add_node(node)
    names = [node.__name__ for node in order]
    last, after = names[len(step_nodes)], names[len(step_nodes) + 1]
    builder.add_edge(START, names[0])
    for source, target in zip(names, names[1:], strict=False):
        if source != last:
            builder.add_edge(source, target)
    builder.add_conditional_edges(last, next_round, {"next round": names[1], "visit over": after})
    builder.add_edge(names[-1], END)
    return builder


def announcing(node: Node) -> Node:
    """Return the last node of a round, which then streams one compact event (mode `custom`) for the round it ends."""

    @wraps(node)
    async def announced(*args: Any, **kwargs: Any) -> dict[str, Any]:
        update = await node(*args, **kwargs)
        for step in update.get("steps", []):
            fields = {"index", "plan", "title", "genres", "reward", "advantage", "left"}
            get_stream_writer()({"round": step.model_dump(include=fields)})
        return update

    return announced


def defaulting(node: Node, schema: type[Context]) -> Node:
    """Return a node whose settings are completed by the defaults of `schema`.

    A resume without context brings none, and a caller's `Context` brings what was set and other defaults.
    """

    @wraps(node)
    async def with_defaults(state: VisitState, **given: Any) -> dict[str, Any]:
        if "runtime" in given:
            given["runtime"] = given["runtime"].override(context=completed(schema, given["runtime"].context))
        return await node(state, **given)

    return with_defaults


def guarded(node: Node) -> Node:
    """Return a node that refuses a state out of bounds or of somebody else, and reaches its own account's memory alone.

    Every node is guarded, those of other packages too, since a state can be edited before any of them.
    """
    schema = state_schema(node)

    @wraps(node)
    async def with_guard(state: Any, **given: Any) -> dict[str, Any]:
        # LangGraph hands on as it came what a command sends to a node.
        state = state if isinstance(state, schema) else schema.model_validate(state)
        # The first node sees the input alone, and checks that itself.
        if isinstance(state, VisitState):
            check_state(state)
            check_owner(state, signed_in(get_runtime()))
        if "runtime" in given:
            given["runtime"] = scoped_runtime(given["runtime"])
        return await node(state, **given)

    return with_guard


def next_round(state: VisitState) -> str:
    """Return where a finished round leads to."""
    check_state(state)
    if not state.steps:
        raise BadInputError("no round was played: one of the nodes of a round has to append a `Step`")
    return "visit over" if state.left or len(state.steps) >= state.max_steps else "next round"


def build_variant(name: str, variant: Variant | None = None) -> Graph:
    """Return the uncompiled graph of a variant: the one of that name, or `variant` called so."""
    step, at_end, context = variant or VARIANTS[name]
    return build_episode(*step, at_end=at_end, context_schema=context, variant=name)


builder = build_variant("billp")
graph = builder.compile(name="episode")
act_only = build_variant("act_only").compile(name="act_only")
react = build_variant("react").compile(name="react")
reflexion = build_variant("reflexion").compile(name="reflexion")
no_macro = build_variant("no_macro").compile(name="no_macro")
no_micro = build_variant("no_micro").compile(name="no_micro")
merge_plan_and_act = build_variant("merge_plan_and_act").compile(name="merge_plan_and_act")
billp_outlook = build_variant("billp_outlook").compile(name="billp_outlook")
billp_paper = build_variant("billp_paper").compile(name="billp_paper")
billp_llm_user = build_variant("billp_llm_user").compile(name="billp_llm_user")
