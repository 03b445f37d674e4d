"""Registry of variants, each a list of nodes; other packages add variants by the entry points `billp.variants`."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ClassVar, NamedTuple

from langgraph.runtime import Runtime
from pydantic import create_model
from pydantic.fields import FieldInfo

from graph.role_schemas import Node, settings_of
from memory.records import KINDS
from nodes.actor import actor
from nodes.context import Context, completed
from nodes.context_paper import PaperContext
from nodes.critic import critic
from nodes.outlook import outlook
from nodes.plan_and_act import plan_and_act
from nodes.planner import planner
from nodes.reflector import reflector
from nodes.role import Role
from nodes.state import VisitState
from nodes.users.llm import llm_user
from nodes.users.profile import OLD_KIND
from nodes.users.simulated import user
from nodes.visit_memory import is_writer
from sim.entry_points import Registry
from sim.errors import BadInputError


class Variant(NamedTuple):
    """Nodes of a round, nodes after the last round, and the settings class with the variant's defaults."""

    step: tuple[Node, ...]
    at_end: tuple[Node, ...] = ()
    context: type[Context] = Context

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in order."""
        return (*self.step, *self.at_end)

    @property
    def settings(self) -> type[Context]:
        """Class of the settings: `context` with the settings that the nodes add."""
        return settings_of(self.nodes, self.context)

    @property
    def remembers(self) -> bool:
        """Whether its visits write memories; a variant that writes none has none to recall."""
        return any(map(is_writer, self.nodes))

    def before(self, name: str, *roles: Node) -> "Variant":
        """Return the variant with roles before the one of that name.

        Raises:
            BadInputError: The variant has no role of that name.
        """
        return self._with_changed(name, lambda found: (*roles, found))

    def after(self, name: str, *roles: Node) -> "Variant":
        """Return the variant with roles after the one of that name, as `before`."""
        return self._with_changed(name, lambda found: (found, *roles))

    def instead_of(self, name: str, *roles: Node) -> "Variant":
        """Return the variant with roles in the place of the one of that name, as `before`."""
        return self._with_changed(name, lambda _: roles)

    def at_the_end(self, *roles: Node) -> "Variant":
        """Return the variant with roles after the last node of a visit."""
        return self._replace(at_end=(*self.at_end, *roles))

    def _with_changed(self, name: str, change: Callable[[Node], tuple[Node, ...]]) -> "Variant":
        names = [node.__name__ for node in self.nodes]
        if name not in names:
            raise BadInputError(f"the variant has no role {name!r}: choose among {', '.join(names)}")

        def changed(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
            return tuple(one for node in nodes for one in (change(node) if node.__name__ == name else (node,)))

        return self._replace(step=changed(self.step), at_end=changed(self.at_end))


def forgetful(node: Node) -> Node:
    """Return the same role without memory, although variants share one store.

    The role neither recalls nor writes memories, and returns no records to be written at the end of a cohort.
    """

    @wraps(node)
    async def without_memory(state: VisitState, runtime: Runtime[Context]) -> dict[str, Any]:
        update = await node(state, runtime.override(store=None))
        return {name: value for name, value in update.items() if name != "records"}

    return without_memory


def _checked(loaded: Variant | Callable[[], Variant]) -> Variant:
    """Return the variant; for a function, the variant that it returns."""
    if isinstance(loaded, Role):
        raise BadInputError(
            f"it is a role: put it into a variant, as in VARIANTS['billp'].before('actor', {loaded.__name__})"
        )
    variant = loaded() if callable(loaded) else loaded
    if not isinstance(variant, Variant):
        raise BadInputError("it is not a Variant and does not return one")
    if not variant.step:
        raise BadInputError("it has no nodes")
    names = [node.__name__ for node in variant.nodes]
    if len({*names}) < len(names):
        raise BadInputError(f"two of its nodes have the same name ({', '.join(names)})")
    return variant


DEFAULT_VARIANT = "billp_outlook"
"""Variant of the graph `episode` and of `billp episode`; `recommend` has the same roles, with a person as the user."""

VARIANTS = Registry(
    "variant",
    "billp.variants",
    {
        # The method of the paper, and the same with the risk that the user leaves after each candidate.
        "billp": Variant((planner, actor, user, critic), (reflector,)),
        "billp_outlook": Variant((planner, outlook, actor, user, critic), (reflector,)),
        "act_only": Variant((forgetful(actor), user)),
        "react": Variant((forgetful(planner), forgetful(actor), user)),
        "reflexion": Variant((planner, forgetful(actor), user), (reflector,)),
        # One level of learning without the other: without lessons, or without experiences and values.
        "no_macro": Variant((forgetful(planner), actor, user, critic)),
        "no_micro": Variant((planner, forgetful(actor), user, forgetful(critic)), (reflector,)),
        # Two model calls per round instead of three. This is a variant and not a setting, because a resume without
        # context uses the default settings and must not run other nodes than the visit started with.
        "merge_plan_and_act": Variant((plan_and_act, user, critic), (reflector,)),
        "billp_llm_user": Variant((planner, actor, llm_user, critic), (reflector,)),
        # The same roles with the settings of the original.
        "billp_paper": Variant((planner, actor, user, critic), (reflector,), PaperContext),
    },
    _checked,
)


def settings_schema(variants: Iterable[str]) -> type[Context]:
    """Return the class of all settings of the named variants; names of baselines are ignored.

    If variants have settings of the same name, the first one's counts.
    """
    names = tuple(name for name in variants if name in VARIANTS)
    own: dict[str, FieldInfo] = {}
    for name in names:
        of_variant = VARIANTS[name].settings.model_fields.items()
        own = {setting: field for setting, field in of_variant if setting not in Context.model_fields} | own
    if not own:
        return Context
    fields: dict[str, Any] = {setting: (field.annotation, field) for setting, field in own.items()}
    made = create_model("Settings", __base__=Joined, **fields)
    made.joined = names
    return made


class Joined(Context):
    """Settings of several variants as one class, in a form that can be sent to worker processes."""

    joined: ClassVar[tuple[str, ...]] = ()
    """Names of the variants."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the values and the names of the variants, because the class itself cannot be imported by name."""
        return _joined, (self.joined, self.model_dump(exclude_unset=True))


def _joined(variants: tuple[str, ...], given: dict[str, Any]) -> Context:
    return settings_schema(variants).model_validate(given)


def variant_settings(name: str, given: Context) -> Context:
    """Return the settings of a variant: the set values and the variant's defaults; unchanged for baselines."""
    return completed(VARIANTS[name].settings, given) if name in VARIANTS else given


def own_settings(name: str, given: Context) -> dict[str, Any]:
    """Return the settings of a variant that differ from the common settings, as JSON values."""
    common = given.model_dump(mode="json")
    own = variant_settings(name, given).model_dump(mode="json")
    return {setting: value for setting, value in own.items() if setting not in common or value != common[setting]}


def graph_id(variant: str) -> str:
    """Return the graph id of a variant in langgraph.json."""
    return "episode" if variant == DEFAULT_VARIANT else variant


def known_kinds() -> list[str]:
    """Register and return all kinds of records, including kinds added by variants of other packages."""
    # Listing the registry loads every variant.
    _ = list(VARIANTS)
    return [*KINDS, OLD_KIND]
