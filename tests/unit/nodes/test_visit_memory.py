"""Memory of a visit: spaces by account, person and edit; time of writing; limit of an account."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from langgraph.runtime import Runtime
from langgraph.store.base import Op, PutOp, Result, SearchOp
from langgraph.store.memory import InMemoryStore

from memory.access import Account
from memory.records import Lesson, Record, Value, record
from nodes import visit_memory as module
from nodes.context import Context
from nodes.state import Profile, VisitState
from nodes.visit_memory import VisitMemory, is_writer, signed_in, visit_memory, writes_memory
from sim.errors import BadInputError

STATE = VisitState(world="tiny", user_id="7", seed=3, visit=2)


def runtime(
    context: Context | None = None, thread: str = "t", account: Account | None = None, store: Any = None
) -> Any:
    """Return the runtime of a node in a thread, for a signed-in account or without authentication."""
    user = SimpleNamespace(identity=account.name, permissions=["share"] * account.shares) if account else None
    server = SimpleNamespace(user=user) if account else None
    execution = SimpleNamespace(thread_id=thread) if thread else None
    given: Any = SimpleNamespace(context=context, store=store, server_info=server, execution_info=execution)
    return cast(Runtime[Context], given)


@pytest.mark.parametrize(
    ("context", "account", "changes", "space", "shared"),
    [
        ({}, None, {}, "tiny", ("tiny",)),
        ({"space": "films"}, None, {}, "films", ("films",)),
        ({"share_memory": False}, None, {}, "tiny", ()),
        ({"private": True}, None, {}, "private:tiny", ("tiny",)),
        ({}, None, {"edited": True}, "private:tiny", ("tiny",)),
        ({}, None, {"profile": Profile()}, "people:tiny", ()),
        ({"space": "films"}, Account("ann", shares=True), {}, "films", ("films",)),
        ({}, Account("a b"), {}, "account:a%20b:tiny", ("account:a%20b:tiny", "tiny")),
        ({"private": True}, Account("bob"), {}, "private:account:bob:tiny", ("account:bob:tiny", "tiny")),
        ({}, Account("bob"), {"edited": True}, "private:account:bob:tiny", ("account:bob:tiny", "tiny")),
        ({"private": True}, Account("ann", shares=True), {}, "private:tiny", ("tiny",)),
        ({}, Account("ann", shares=True), {"edited": True}, "private:account:ann:tiny", ("tiny",)),
        ({}, Account("bob"), {"profile": Profile(), "edited": True}, "people:tiny", ()),
    ],
)
def test_the_spaces_of_a_visit_follow_from_account_person_and_edits(
    context: dict[str, Any], account: Account | None, changes: dict[str, Any], space: str, shared: tuple[str, ...]
) -> None:
    memory = visit_memory(STATE.model_copy(update=changes), runtime(Context(**context), account=account))
    assert (memory.scope.space, memory.scope.shared, memory.scope.user_id) == (space, shared, "7")
    assert memory.account == account


@pytest.mark.parametrize(
    ("context", "account", "lessons", "evidence"),
    [
        ({}, None, ("tiny",), ("people:tiny",)),
        ({"share_memory": False}, None, (), ()),
        ({}, Account("bob"), ("account:bob:tiny", "tiny"), ()),
        ({}, Account("ann", shares=True), ("tiny",), ()),
    ],
)
def test_simulated_users_teach_a_person_by_lessons_and_people_by_counts(
    context: dict[str, Any], account: Account | None, lessons: tuple[str, ...], evidence: tuple[str, ...]
) -> None:
    state = STATE.model_copy(update={"profile": Profile()})
    memory = visit_memory(state, runtime(Context(**context), account=account))
    assert memory.lessons_from is not None and memory.evidence_from is not None
    assert (memory.lessons_from.shared, memory.evidence_from.shared) == (lessons, evidence)
    assert memory.lessons_from.space == memory.evidence_from.space == "people:tiny"


def test_an_account_that_may_not_share_may_not_choose_a_space() -> None:
    with pytest.raises(BadInputError, match="'bob' may not choose a space: leave `space` empty"):
        visit_memory(STATE, runtime(Context(space="films"), account=Account("bob")))


def test_a_visit_is_named_by_its_thread_or_in_a_study_by_its_seed() -> None:
    assert visit_memory(STATE, runtime()).visit_id == "t#2"
    assert visit_memory(STATE, runtime(thread="")).visit_id == "tiny/7/3#2"
    cohort = Context(learn="cohort")
    assert visit_memory(STATE, runtime(cohort)).visit_id == "tiny/7/3#2"
    assert visit_memory(STATE.model_copy(update={"profile": Profile()}), runtime(cohort)).visit_id == "t#2"
    alone = SimpleNamespace(context=None, store=None, server_info=None, execution_info=None)
    assert visit_memory(STATE, cast(Any, alone)).visit_id == "tiny/7/3#2"


def test_a_visit_in_another_graph_is_named_by_its_place_too() -> None:
    placed = STATE.model_copy(update={"place": "ab12"})
    assert visit_memory(placed, runtime()).visit_id == "t/ab12#2"
    assert visit_memory(placed, runtime(thread="")).visit_id == "tiny/7/3/ab12#2"


def test_a_copied_visit_knows_its_original_and_no_other_has_one() -> None:
    copied = STATE.model_copy(update={"visit_id": "first#2"})
    assert visit_memory(copied, runtime()).scope.copied_from == "first#2"
    for former in ("", "t#2"):
        assert visit_memory(STATE.model_copy(update={"visit_id": former}), runtime()).scope.copied_from == ""
    assert visit_memory(STATE, runtime(Context(recall_own=False))).scope.own is False
    assert visit_memory(STATE, runtime()).scope.own is True


def test_who_is_signed_in_comes_from_the_server_alone() -> None:
    assert signed_in(runtime()) is None
    assert signed_in(runtime(account=Account("ann", shares=True))) == Account("ann", shares=True)
    assert signed_in(runtime(account=Account("bob"))) == Account("bob")
    for user in (None, SimpleNamespace(identity=""), SimpleNamespace(identity="", permissions=["share"])):
        assert signed_in(cast(Any, SimpleNamespace(server_info=SimpleNamespace(user=user)))) is None
    bare = SimpleNamespace(identity="cyd")
    assert signed_in(cast(Any, SimpleNamespace(server_info=SimpleNamespace(user=bare)))) == Account("cyd")


def test_a_role_is_a_writer_only_if_it_is_marked() -> None:
    async def one(*_: Any) -> dict[str, Any]:
        return {}

    async def other(*_: Any) -> dict[str, Any]:
        return {}

    assert writes_memory(one) is one
    assert is_writer(one) and not is_writer(other)


class Noting(InMemoryStore):
    """Store that notes its operations, and finds `found` records from an offset on."""

    def __init__(self, found: int = 0) -> None:
        super().__init__()
        self.found = found
        self.noted: list[Op] = []

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        results: list[Result] = []
        for op in ops:
            self.noted.append(op)
            results.append([cast(Any, "a record")] * (op.offset < self.found) if isinstance(op, SearchOp) else None)
        return results


def lesson(memory: VisitMemory, **changes: Any) -> Record:
    fields: dict[str, Any] = {"situation": "s", "text": "Mix.", "length": 9, "total_reward": 1.0}
    return memory.record(Lesson, 9, **fields | changes)


@pytest.mark.parametrize(("learn", "kept", "written"), [("cohort", 1, 0), ("now", 0, 1), ("off", 0, 0)])
async def test_records_are_saved_as_the_setting_says(learn: Any, kept: int, written: int) -> None:
    store = Noting()
    memory = visit_memory(STATE, runtime(Context(learn=learn), store=store))
    one = lesson(memory)
    visit = "tiny/7/3#2" if learn == "cohort" else "t#2"
    assert (one.value.visit, one.value.user_id) == (visit, "7")
    assert await memory.save([one]) == ({"records": [one]} if kept else {})
    assert [op.key for op in store.noted if isinstance(op, PutOp)] == [one.key] * written
    for stranger in ({"visit": "other#1"}, {"user_id": "8"}):
        forged = record(one.value.model_copy(update=stranger), 9)
        with pytest.raises(BadInputError, match=r"create it with VisitMemory\.record"):
            await memory.save([one, forged])


async def test_without_a_store_nothing_is_recalled_or_written() -> None:
    memory = visit_memory(STATE, runtime(Context(learn="now")))
    assert await memory.save([lesson(memory)]) == {}
    assert await memory.lessons("s", 3) == []
    assert await memory.experiences("s", 3) == []
    assert await memory.values("s", 3) == []
    assert await memory.recall(Lesson, "s", 3) == []


@pytest.mark.parametrize(
    ("account", "profile", "found", "written", "prefix"),
    [
        (Account("bob"), None, 4, 1, ("lessons", "account:bob:tiny")),
        (Account("bob"), None, 5, 0, ("lessons", "account:bob:tiny")),
        (Account("bob"), Profile(), 5, 0, ("lessons", "people:tiny", "7")),
        (Account("ann", shares=True), None, 99, 1, None),
        (None, None, 99, 1, None),
    ],
)
async def test_an_account_that_may_not_share_keeps_a_limited_number_of_each_kind(
    account: Account | None,
    profile: Profile | None,
    found: int,
    written: int,
    prefix: tuple[str, ...] | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "ACCOUNT_RECORDS", 5)
    store = Noting(found)
    state = STATE.model_copy(update={"profile": profile})
    memory = visit_memory(state, runtime(Context(learn="now"), account=account, store=store))
    await memory.write([lesson(memory)])
    searches = [op for op in store.noted if isinstance(op, SearchOp)]
    assert [op.namespace_prefix for op in searches] == ([prefix] if prefix else [])
    # Counting is no recall, so it refreshes no time to live.
    assert not any(op.refresh_ttl for op in searches)
    assert len([op for op in store.noted if isinstance(op, PutOp)]) == written
    told = [] if written else ["the account 'bob' has reached the limit of 5 lessons: new ones are not saved"]
    assert caplog.messages == told


async def test_each_kind_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACCOUNT_RECORDS", 1)

    class FullOfLessons(Noting):
        async def abatch(self, ops: Iterable[Op]) -> list[Result]:
            listed = list(ops)
            self.found = sum("lessons" in op.namespace_prefix for op in listed if isinstance(op, SearchOp))
            return await super().abatch(listed)

    store = FullOfLessons()
    memory = visit_memory(STATE, runtime(Context(learn="now"), account=Account("bob"), store=store))
    value = memory.record(Value, 0, situation="s", distance=None, target=1.0)
    await memory.write([lesson(memory), value])
    assert [op.key for op in store.noted if isinstance(op, PutOp)] == [value.key]
