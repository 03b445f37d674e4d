"""Memory of the current visit: the records that its nodes may recall, and the space in which they save.

The signed-in account decides which records the visit reaches. Each access reads the account from LangGraph's runtime,
never from the state, because anybody may edit the state.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore

from memory.access import SHARE, Account
from memory.recall import (
    Recalled,
    RecallScope,
    recall,
    recall_experiences,
    recall_lessons,
    recall_values,
    remember,
)
from memory.records import (
    Experience,
    Lesson,
    Memory,
    Record,
    Value,
    account_space,
    escape,
    people_space,
    private_space,
    record,
)
from nodes.ask import settings
from nodes.context import Context
from nodes.state import VisitState
from nodes.tools.evidence import NO_EVIDENCE, Evidence, evidence_from_memory
from nodes.user_view import Visitor
from sim.errors import BadInputError
from sim.policies.leave_risk import PEOPLE_PRIOR

Role = TypeVar("Role", bound=Callable[..., Awaitable[dict[str, Any]]])
M = TypeVar("M", bound=Memory)
_writers: set[Callable[..., Any]] = set()
_log = logging.getLogger(__name__)

# Leavings of people from which on their leave risk is shown: ten for each weight that is fitted, as is usual for models
# of rare events (Peduzzi et al., Journal of Clinical Epidemiology 1996).
ENOUGH_LEAVINGS = 10 * len(PEOPLE_PRIOR.means)
# Most records of one kind in one space for an account without the permission to share.
ACCOUNT_RECORDS = 20_000


def writes_memory(role: Role) -> Role:
    """Mark a role as a writer of memories, so that a study trains the variants with this role."""
    _writers.add(role)
    return role


def is_writer(role: Callable[..., Any]) -> bool:
    """Return whether a role writes memories."""
    return role in _writers


def signed_in(runtime: Runtime[Any]) -> Account | None:
    """Return the account of a run from the server's authentication; None without authentication."""
    user = runtime.server_info.user if runtime.server_info else None
    if user is None or not user.identity:
        return None
    return Account(user.identity, SHARE in (getattr(user, "permissions", None) or ()))


@dataclass(frozen=True)
class VisitMemory:
    """Memory as far as one visit may use it.

    Example:
        A role recalls and saves records of a kind of its own::

            memory = visit_memory(state, runtime)
            found = await memory.recall(Exploration, who.situation(state.steps), k=20)
            new = memory.record(Exploration, step.index, situation="…", category="Drama", reward=4.0, left=False)
            return await memory.save([new])
    """

    store: BaseStore | None
    """Store, as far as this visit may reach it; None without a store."""
    scope: RecallScope
    account: Account | None
    learn: str
    """Time at which memories are written, as in `Context.learn`."""
    lessons_from: RecallScope | None = None
    """Scope of lessons; None for the same as of other records."""
    evidence_from: RecallScope | None = None
    """Scope of the experiences that are counted as evidence; None for the same as of other records."""

    @property
    def visit_id(self) -> str:
        """Id of this visit in its records."""
        return self.scope.visit

    async def lessons(self, situation: str, k: int) -> list[Recalled[Lesson]]:
        """Recall at most `k` lessons for a situation."""
        scope = self.lessons_from or self.scope
        return await recall_lessons(self.store, scope, situation, k) if self.store is not None else []

    async def experiences(self, situation: str, k: int) -> list[Recalled[Experience]]:
        """Recall at most `k` experiences of the most similar situations."""
        return await recall_experiences(self.store, self.scope, situation, k) if self.store is not None else []

    async def values(self, situation: str, k: int) -> list[Recalled[Value]]:
        """Recall at most `k` values of the most similar situations."""
        return await recall_values(self.store, self.scope, situation, k) if self.store is not None else []

    async def recall(self, kind: type[M], situation: str, k: int) -> list[Recalled[M]]:
        """Recall the `k` records of any kind that are nearest to a situation."""
        return await recall(self.store, kind, self.scope, situation, k) if self.store is not None else []

    def record(self, kind: type[Memory], step: int, **fields: Any) -> Record:
        """Return a record of this visit, keyed by visit, round and kind, so that a replay replaces it.

        Args:
            kind: Class of the record.
            step: Number of the round; for a lesson, the number of rounds.
            fields: Fields of the class, with the situation.
        """
        return record(kind(visit=self.scope.visit, user_id=self.scope.user_id, **fields), step)

    async def save(self, records: Sequence[Record]) -> dict[str, Any]:
        """Save records as the setting `learn` says: at once, with the visit's output, or not at all.

        Returns:
            The state update.

        Raises:
            BadInputError: A record belongs to another visit or user; `record` makes valid ones.
        """
        self.check(records)
        if self.learn == "cohort":
            return {"records": list(records)}
        if self.learn == "now":
            await self.write(records)
        return {}

    def check(self, records: Sequence[Record]) -> None:
        """Check that the records belong to this visit and user.

        Raises:
            BadInputError: A record belongs to another visit or user.
        """
        for one in records:
            if (one.value.visit, one.value.user_id) != (self.scope.visit, self.scope.user_id):
                raise BadInputError("a record belongs to another visit or user: create it with VisitMemory.record")

    async def write(self, records: Sequence[Record]) -> None:
        """Write records at once; an account that may not share keeps at most `ACCOUNT_RECORDS` of a kind."""
        if self.store is not None:
            room = {kind: await self._has_room(kind) for kind in {one.value.kind for one in records}}
            await remember(self.store, self.scope.space, [one for one in records if room[one.value.kind]])

    async def _has_room(self, kind: str) -> bool:
        """Return whether the account may keep another record of a kind; an account that may share has no limit."""
        if self.store is None or self.account is None or self.account.shares:
            return True
        prefix: tuple[str, ...] = (kind, escape(self.scope.space))
        if self.scope.space.startswith(people_space("")):
            prefix = (*prefix, escape(self.scope.user_id))
        full = await self.store.asearch(prefix, offset=ACCOUNT_RECORDS - 1, limit=1, refresh_ttl=False)
        if full:
            _log.warning(
                "the account %r has reached the limit of %d %s: new ones are not saved",
                self.account.name,
                ACCOUNT_RECORDS,
                kind,
            )
        return not full


def visit_memory(state: VisitState, runtime: Runtime[Any]) -> VisitMemory:
    """Return the memory of the current visit.

    Raises:
        BadInputError: The account names a space, but may not choose one.
    """
    context, account = settings(runtime), signed_in(runtime)
    if context.space and account is not None and not account.shares:
        raise BadInputError(f"the account {account.name!r} may not choose a space: leave `space` empty")
    common = context.space or state.world
    of_account = account_space(account.name, common) if account is not None and not account.shares else ""
    visit = visit_id(state, runtime)
    scope = RecallScope(
        _own_space(state, context, common, account),
        state.user_id,
        visit,
        tuple(filter(None, (of_account, common))) if context.share_memory else (),
        context.recall_own,
        copied_from=state.visit_id if state.visit_id != visit else "",
    )
    if state.profile is None:
        return VisitMemory(runtime.store, scope, account, context.learn)
    # Simulated users leave by a rule that is no fact about people: of them a person recalls lessons alone. What other
    # people said and rated stays theirs; how often they stayed and left is counted, unless accounts keep people apart.
    of_people = replace(scope, shared=(scope.space,) if context.share_memory and account is None else ())
    own = replace(scope, shared=())
    return VisitMemory(runtime.store, own, account, context.learn, lessons_from=scope, evidence_from=of_people)


async def visit_evidence(state: VisitState, runtime: Runtime[Context], who: Visitor) -> Evidence:
    """Return the evidence that the visit began with; none without a store or with the prior alone.

    That of a person's visit is what people did, none before `ENOUGH_LEAVINGS` of them have left.
    """
    context = settings(runtime)
    if runtime.store is None or context.leave_risk == "prior":
        return NO_EVIDENCE
    memory = visit_memory(state, runtime)
    # No role has asked a model yet, so this one is the first to use evidence.
    begins = not state.exchange
    is_person = state.profile is not None
    found = await evidence_from_memory(
        runtime.store,
        memory.evidence_from or memory.scope,
        who.open_world,
        begins=begins,
        of_people=is_person,
    )
    if is_person and found.rounds.left.sum() < ENOUGH_LEAVINGS:
        return NO_EVIDENCE
    model = found.model if context.pairs or found.model is None else found.model.without_pairs()
    return replace(found, model=model, bands=found.bands if context.evidence else ())


def _own_space(state: VisitState, context: Context, common: str, account: Account | None) -> str:
    """Return the space to which the visit writes, and from which it recalls its user's own records."""
    if state.profile is not None:
        return people_space(common)
    # Keep the memories of an edited visit private to the account, whether it may share or not: they may be true of no
    # user, and another account may simulate the same user.
    if account is not None and (state.edited or not account.shares):
        common = account_space(account.name, common)
    return private_space(common) if context.private or state.edited else common


def visit_id(state: VisitState, runtime: Runtime[Any]) -> str:
    """Return the id of the current visit: its thread, its place on the thread if any, and its number.

    The thread's id comes from the runtime, so a copied thread gets ids of its own, and nobody can forge another's id.
    Without a thread and in a study, world, user and seed stand for the thread.
    """
    thread = runtime.execution_info.thread_id if runtime.execution_info else None
    # A study tells its visits apart by seed. Thread ids differ from run to run, and would change the order of equally
    # good memories.
    by_seed = settings(runtime).learn == "cohort" and state.profile is None
    origin = f"{state.world}/{state.user_id}/{state.seed}" if by_seed or not thread else thread
    return f"{'/'.join(filter(None, (origin, state.place)))}#{state.visit}"
