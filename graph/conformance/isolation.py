"""Isolation of accounts: an account that edits its own thread reaches no data of another account, by any field."""

from collections.abc import Iterable, Iterator
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, Op, PutOp, Result, SearchOp
from langgraph.types import Command
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from graph.checkpoints import serializer
from graph.role_schemas import Node, state_fields_of
from memory.recall import remember
from memory.records import (
    Experience,
    Lesson,
    Record,
    Statement,
    Value,
    account_space,
    people_space,
    private_space,
    record,
    unescape,
)
from memory.store import ChromaStore
from nodes.state import VisitState

WORLD = "tiny"
ME, OTHER = "bob", "ann"
KNOWN_TO_OTHER = "what ann alone knows"
"""Text in each record of the other account, which shows where such a record appears."""


class SignedIn:
    """Account as a server's authentication passes it to a run."""

    def __init__(self, identity: str, *permissions: str) -> None:
        self.identity = identity
        self.permissions = permissions


class WatchedStore(BaseStore):
    """Store that logs the namespaces of each operation."""

    def __init__(self, store: BaseStore) -> None:
        self._store = store
        self.ttl_config, self.supports_ttl = store.ttl_config, store.supports_ttl
        self.reached: list[tuple[str, ...]] = []
        self.written: list[tuple[str, ...]] = []

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations."""
        return self._store.batch(self._noted(ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations."""
        return await self._store.abatch(self._noted(ops))

    def _noted(self, ops: Iterable[Op]) -> list[Op]:
        ops = list(ops)
        self.reached += [_place(op) for op in ops]
        self.written += [op.namespace for op in ops if isinstance(op, PutOp)]
        return ops

    def faults(self) -> list[str]:
        """Return accesses to other accounts' records and writes to shared ones, and clear the log."""
        faults = [f"reached {'/'.join(place)}" for place in self.reached if _covers_others(place)]
        faults += [f"wrote to the shared {'/'.join(place)}" for place in self.written if ":" not in place[1]]
        self.reached, self.written = [], []
        return faults


def _place(op: Op) -> tuple[str, ...]:
    match op:
        case GetOp() | PutOp():
            return op.namespace
        case SearchOp():
            return op.namespace_prefix
        case ListNamespacesOp():
            return ()


def _covers_others(place: tuple[str, ...]) -> bool:
    _, space, user = (*map(unescape, place[:3]), "", "", "")[:3]
    if space.removeprefix(private_space("")).startswith(account_space("", "").removesuffix("::")):
        return not space.removeprefix(private_space("")).startswith(account_space(ME, ""))
    return not space or (space.startswith(people_space("")) and user != ME)


def records_of_other() -> Iterator[tuple[str, Record]]:
    """Yield records of the other account, each with its space: as a person, and of simulated visits."""
    common: dict[str, Any] = {"visit": f"thread-of-{OTHER}#1", "user_id": OTHER, "situation": KNOWN_TO_OTHER}
    taught = {"predicted": 4.0, "distance": 0.5, "reward": 4.0, "advantage": 1.0, "left": False, "genres": []}
    for space in (people_space(WORLD), account_space(OTHER, WORLD), private_space(account_space(OTHER, WORLD))):
        yield space, record(Lesson(**common, text=KNOWN_TO_OTHER, length=3, total_reward=9.0), 3)
        yield space, record(Experience(**common, **taught, plan=KNOWN_TO_OTHER, title=KNOWN_TO_OTHER), 0)
        yield space, record(Value(**common, distance=0.5, target=1.0), 0)
    yield people_space(WORLD), record(Statement(**common, number=0, said="wish", text=KNOWN_TO_OTHER), 0)


def hostile_value(name: str, field: FieldInfo, value: Any) -> Any:
    """Return a value of the field's type that names the other account; the unchanged value if the type allows none."""
    kind: TypeAdapter[Any] = TypeAdapter(field.annotation or Any)
    visit = {"world": WORLD, "user_id": OTHER, "history": [], "seed": 0, "max_steps": 3}
    for one in (visit, f"thread-of-{OTHER}#1" if name == "visit_id" else OTHER, [OTHER], {OTHER: OTHER}, [visit]):
        try:
            kind.validate_python(one)
        except ValidationError:
            continue
        return one
    return TypeAdapter(Any).dump_python(value, mode="json")


async def faults_of_isolation(builder: Any, nodes: Iterable[Node], before: str, **given: Any) -> list[str]:
    """Edit each field of a visit's state, and return one line for each access to another account's data.

    Args:
        builder: An uncompiled graph.
        nodes: Its nodes, whose own state fields are edited too.
        before: Node before which the visit stops and is edited.
        given: The input.
    """
    nodes = list(nodes)
    whole = ChromaStore()
    try:
        for space, one in records_of_other():
            await remember(whole, space, [one])
        before_edits = {(one.place, one.text) for one in _of_other(whole)}
        store = WatchedStore(whole)
        graph = builder.compile(checkpointer=InMemorySaver(serde=serializer(nodes)), store=store)
        config: dict[str, Any] = {"configurable": {"thread_id": "mine", "langgraph_auth_user": SignedIn(ME)}}
        await graph.ainvoke({"world": WORLD, "max_steps": 2, **given}, config, interrupt_before=[before])
        stopped = await graph.aget_state(config)
        fields = {**VisitState.model_fields, **state_fields_of(nodes)}
        visit = {"world": WORLD, "user_id": OTHER, "history": [], "seed": 0, "max_steps": 2}
        edits: list[dict[str, Any]] = [
            {name: hostile_value(name, field, stopped.values.get(name))} for name, field in fields.items()
        ]
        edits.append({"identity": visit, "profile": {"text": "", "ratings": {}}})
        edits.append({"identity": visit, "profile": None, "user_id": OTHER, "visit_id": f"thread-of-{OTHER}#1"})
        faults = []
        for edit in edits:
            values = await _run_edited(graph, config, stopped, edit)
            named = ", ".join(edit)
            faults += [f"{named}: {fault}" for fault in store.faults()]
            if KNOWN_TO_OTHER in str(values):
                faults.append(f"{named}: the state holds what another account knows")
        if {(one.place, one.text) for one in _of_other(whole)} != before_edits:
            faults.append("records of another account were changed")
        return faults
    finally:
        await whole.aclose()


async def _run_edited(graph: Any, config: dict[str, Any], stopped: Any, edit: dict[str, Any]) -> Any:
    """Resume a visit from an edited state until it ends or is refused, and return the state."""
    try:
        # An edge after the last node of a round refuses some edits at once.
        edited = await graph.aupdate_state(stopped.config, edit)
        run = {"configurable": {**config["configurable"], **edited["configurable"]}}
        output = await graph.ainvoke(None, run)
        for answer in ({"rating": 4, "comment": "more"}, {"leave": True}):
            if "__interrupt__" in output:
                output = await graph.ainvoke(Command(resume=answer), config)
    except (ValueError, RuntimeError):
        # A refusal is the expected result; accesses before the refusal still count.
        pass
    return (await graph.aget_state(config)).values


def _of_other(store: ChromaStore) -> list[Any]:
    return [one for one in store.records() if _covers_others(one.namespace)]
