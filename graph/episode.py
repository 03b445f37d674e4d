"""The loop of a visit: rounds of planner, actor, user and critic until the user leaves, then the reflector.

A variant is the list of its nodes; a new role joins by standing in one.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, NamedTuple

from langgraph.config import get_stream_writer
from langgraph.graph import END, START
from langgraph.runtime import Runtime

from graph.known import Graph, NamedBy
from nodes.actor import actor
from nodes.context import Context, completed
from nodes.critic import critic
from nodes.frame import begin, finish, simulated_name
from nodes.llm_user import llm_user
from nodes.outlook import outlook
from nodes.paper import PaperContext
from nodes.plan_and_act import plan_and_act
from nodes.planner import planner
from nodes.reflector import reflector
from nodes.state import VisitInput, VisitState
from nodes.user import user
from sim.errors import BadInputError

Node = Callable[..., Awaitable[dict[str, Any]]]


class Variant(NamedTuple):
    """The nodes of each round, those after the last one, and the settings that they read."""

    step: tuple[Node, ...]
    at_end: tuple[Node, ...] = ()
    context: type[Context] = Context

    @property
    def remembers(self) -> bool:
        """Return whether its visits write memories: where none does, there is nothing to recall either."""
        return any(node in (critic, reflector) for node in (*self.step, *self.at_end))


def forgetful(node: Node) -> Node:
    """Return the same role without memory, whatever other variants have written into the store that they share.

    It neither recalls nor writes, nor does it hand back records for the end of a cohort.
    """

    @wraps(node)
    async def without_memory(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
        update = await node(state, runtime.override(store=None))
        return {name: value for name, value in update.items() if name != "records"}

    return without_memory


VARIANTS: dict[str, Variant] = {
    "billp": Variant((planner, actor, user, critic), (reflector,)),
    "act_only": Variant((forgetful(actor), user)),
    "react": Variant((forgetful(planner), forgetful(actor), user)),
    "reflexion": Variant((planner, forgetful(actor), user), (reflector,)),
    # One level of learning without the other: no lessons, or neither experiences nor values.
    "no_macro": Variant((forgetful(planner), actor, user, critic)),
    "no_micro": Variant((planner, forgetful(actor), user, forgetful(critic)), (reflector,)),
    # Two calls a round instead of three. A variant and no setting: a resume without context, which gets the default
    # settings, must not go on with other nodes than the visit began with.
    "merge_plan_and_act": Variant((plan_and_act, user, critic), (reflector,)),
    "billp_outlook": Variant((planner, outlook, actor, user, critic), (reflector,)),
    "billp_llm_user": Variant((planner, actor, llm_user, critic), (reflector,)),
    # The same roles with the original's settings.
    "billp_paper": Variant((planner, actor, user, critic), (reflector,), PaperContext),
}


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
        context_schema: Settings that the nodes read, with the defaults for what a run does not set.
        begin: Node that checks the input and clears the state.
        input_schema: What a visit is given.
        variant: What its runs are called in traces and checkpoints.
        named_by: Tells the name of who visits, for the same purpose.
    """
    builder = Graph(variant, named_by, context_schema, input_schema)
    order = [begin, *step_nodes[:-1], announcing(step_nodes[-1]), *at_end, finish]
    if context_schema is not Context:
        order = [defaulting(node, context_schema) for node in order]
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


def next_round(state: VisitState) -> str:
    """Return where a finished round leads to."""
    state.check_types()
    if not state.steps:
        raise BadInputError("no round was played: one of the nodes of a round has to append a `Step`")
    return "visit over" if state.left or len(state.steps) >= state.max_steps else "next round"


def build_variant(name: str) -> Graph:
    """Return the uncompiled graph of a variant."""
    step, at_end, context = VARIANTS[name]
    return build_episode(*step, at_end=at_end, context_schema=context, variant=name)


def variant_settings(name: str, given: Context) -> Context:
    """Return the settings of a variant: what was set, and its own defaults for the rest; baselines have none."""
    return completed(VARIANTS[name].context, given) if name in VARIANTS else given


def own_settings(name: str, given: Context) -> dict[str, Any]:
    """Return those settings of a variant that differ from what was given for all, as JSON values."""
    common = given.model_dump(mode="json")
    own = variant_settings(name, given).model_dump(mode="json")
    return {setting: value for setting, value in own.items() if value != common[setting]}


def graph_id(variant: str) -> str:
    """Return the id under which langgraph.json serves a variant."""
    return "episode" if variant == "billp" else variant


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
