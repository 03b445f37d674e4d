"""Graph of a visit: rounds of planner, actor, user and critic until the user leaves, then the reflector.

The nodes and edges of `episode`, which runs the variant `billp_outlook`, in order:

    START -> begin -> planner -> outlook -> actor -> user -> critic -- visit over --> reflector -> finish -> END
                         ^                                     |
                         +------------- next round ------------+

`begin` checks the input and resets the state. `next_round` chooses the edge after the last node of a round. `finish`
sums up the visit. A variant lists the nodes of a round and the nodes after the last round; to add a role, add its node
to a variant.

`build_episode` wraps the nodes. A call passes these wrappers from the outside in:

1. `guarded` (every node) validates the state, checks that a person's visit belongs to the signed-in account, and
   limits the store to the records that this account may reach.
2. `defaulting` (every node) takes the settings out of the run's context and completes them with the variant's defaults.
3. `placing` (`begin` only) sets the visit's place, which its id is made of.
4. `clearing` (`begin` only) first resets all of the state that a former visit on the thread may have left.
5. `announcing` (last node of a round only) streams one event for the finished round.
"""

from functools import wraps
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.graph import END, START
from langgraph.runtime import get_runtime

from graph.role_schemas import Node, clearing, settings_of, state_schema
from graph.run_metadata import Graph, KnownGraph, NamedBy
from graph.state_guard import check_owner, check_state, limit_store
from graph.variants import DEFAULT_VARIANT
from graph.variants import VARIANTS as VARIANTS
from graph.variants import Variant as Variant
from graph.visit_place import placing
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
        step_nodes: Nodes of one round, in order, each named after its function; one of them appends a `Step`.
        at_end: Nodes after the last round, in order.
        context_schema: Settings of the nodes, with the defaults for unset ones; settings that a node declares itself
            are added.
        begin: Node that checks the input and resets the state.
        input_schema: Input of a visit.
        variant: Name of its runs in traces and checkpoints.
        named_by: Function that returns the name of the user, for traces and checkpoints too.

    Examples:
        A visit of `billp` without its Planner:

        >>> import asyncio
        >>> planner, *others = VARIANTS["billp"].step
        >>> graph = build_episode(*others, at_end=VARIANTS["billp"].at_end, variant="planless").compile()
        >>> visit = asyncio.run(graph.ainvoke(VisitInput(world="tiny", max_steps=3)))
        >>> {step.plan for step in visit["steps"]}
        {''}
    """
    roles = (*step_nodes, *at_end)
    schema = settings_of(roles, context_schema)
    builder = Graph(variant, named_by, schema, input_schema)
    order = [placing(clearing(begin, roles)), *step_nodes[:-1], announcing(step_nodes[-1]), *at_end, finish]
    order = [guarded(defaulting(node, schema)) for node in order]
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
    """Wrap the last node of a round: stream one compact event (mode `custom`) for the finished round."""

    @wraps(node)
    async def announced(*args: Any, **kwargs: Any) -> dict[str, Any]:
        update = await node(*args, **kwargs)
        for step in update.get("steps") or args[0].steps[-1:]:
            fields = {"index", "plan", "title", "genres", "reward", "advantage", "left"}
            unmet = getattr(args[0], "unmet", [])
            get_stream_writer()({"round": step.model_dump(include=fields) | ({"unmet": unmet} if unmet else {})})
        return update

    return announced


def defaulting(node: Node, schema: type[Context]) -> Node:
    """Wrap a node: take its settings out of the run's context, and complete them with the defaults of `schema`.

    A resume without context has no settings, a caller's `Context` has the defaults of `Context` for unset values, and
    a graph that runs the visit may have a context of its own.
    """

    @wraps(node)
    async def with_defaults(state: VisitState, **given: Any) -> dict[str, Any]:
        if "runtime" in given:
            given["runtime"] = given["runtime"].override(context=completed(schema, given["runtime"].context))
        return await node(state, **given)

    return with_defaults


def guarded(node: Node) -> Node:
    """Wrap a node: check the state and its owner, and limit the store to the signed-in account.

    Every node is wrapped, also nodes of other packages, because the state can be edited before each of them.
    """
    schema = state_schema(node)

    @wraps(node)
    async def with_guard(state: Any, **given: Any) -> dict[str, Any]:
        # LangGraph does not validate the state that a command sends to a node.
        state = state if isinstance(state, schema) else schema.model_validate(state)
        # The first node receives the input only, and validates it itself.
        if isinstance(state, VisitState):
            check_state(state)
            check_owner(state, signed_in(get_runtime()))
        limit_store(given)
        return await node(state, **given)

    return with_guard


async def next_round(state: VisitState) -> str:
    """Return the label of the edge after a finished round."""
    check_state(state)
    if not state.steps:
        raise BadInputError("the visit has no rounds: add a node that appends a `Step` to `steps`")
    return "visit over" if state.left or len(state.steps) >= state.max_steps else "next round"


def build_variant(name: str, variant: Variant | None = None) -> Graph:
    """Return the uncompiled graph of the named variant, or of `variant` under that name."""
    step, at_end, context = variant or VARIANTS[name]
    return build_episode(*step, at_end=at_end, context_schema=context, variant=name)


def compiled(name: str, variant: Variant | None = None) -> KnownGraph:
    """Return the compiled graph of the named variant, or of `variant` under that name, for a `langgraph.json`."""
    return build_variant(name, variant).compile(name=name)


builder = build_variant(DEFAULT_VARIANT)
graph = builder.compile(name="episode")
billp = compiled("billp")
act_only = compiled("act_only")
react = compiled("react")
reflexion = compiled("reflexion")
no_macro = compiled("no_macro")
no_micro = compiled("no_micro")
merge_plan_and_act = compiled("merge_plan_and_act")
billp_paper = compiled("billp_paper")
billp_llm_user = compiled("billp_llm_user")
