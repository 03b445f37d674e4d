"""Secrets of an endpoint: no output holds its key or address, in any course of a visit."""

import base64
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver

from graph.checkpoints import serializer
from graph.episode import build_variant
from nodes.context import Context
from nodes.llm.endpoint.settings import EndpointError, shared_endpoint
from nodes.state import VisitInput
from tests.commands import environment_of
from tests.integration.endpoint.test_endpoint import FAULTS, QUICK, failing, set_up
from tests.processes import run
from tests.scripted import Asked, Endpoint, Failure, Script, by_rules, serving, without_schemas

KEY = "sk-recognisable-0123456789"
NAME, PASSWORD = "recognisable-name", "recognisable p%ss:word"
QUOTED = "recognisable%20p%25ss%3Aword"
LOGIN = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
ARGUMENTS = ["--world", "tiny", "--model", "openai:x", "--max-steps", "2"]


@pytest.fixture
def endpoint(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Endpoint with a name and a password."""
    with serving(by_rules) as endpoint:
        address = endpoint.url.replace("http://", f"http://{NAME}:{QUOTED}@")
        set_up(monkeypatch, OPENAI_BASE_URL=address, OPENAI_API_KEY=KEY, BILLP_CALL_ATTEMPTS="3", **QUICK)
        yield endpoint
    shared_endpoint.cache_clear()


def secrets(endpoint: Endpoint) -> list[str]:
    return [KEY, NAME, PASSWORD, QUOTED, LOGIN, f"127.0.0.1:{endpoint.port}"]


def found_in(text: str, endpoint: Endpoint) -> list[str]:
    return [secret for secret in secrets(endpoint) if secret in text]


def tell(asked: Asked, status: int) -> Failure:
    """Return a failure that repeats every secret of the request, as some servers do."""
    return Failure(status, f"bad key {KEY} for {NAME}:{PASSWORD} ({QUOTED}) at {asked.headers}")


def way_of(name: str) -> Script:
    """Return the script of a name."""
    often, _, fault = name.partition(" ")
    if often in ("always", "twice"):
        return failing([FAULTS[fault]] * (1000 if often == "always" else 2))
    ways: dict[str, Script] = {
        "well": by_rules,
        "refused key": lambda asked: tell(asked, 401),
        "bad request": lambda asked: tell(asked, 400),
        "unknown model": lambda asked: tell(asked, 404),
        "no schema": without_schemas(by_rules),
        "busy": lambda asked: tell(asked, 429),
    }
    return ways[name]


ENDING_WELL = ["well", "no schema", *(f"twice {fault}" for fault in FAULTS)]
ENDING_ILL = ["refused key", "bad request", "unknown model", "busy", *(f"always {fault}" for fault in FAULTS)]


class Traced(AsyncCallbackHandler):
    """Tracer that keeps its events as text."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.heard.append(repr((args[1:], kwargs)))

    async def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.heard.append(repr((error, error.__cause__)))

    async def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:
        self.heard.append(repr((error, error.__cause__)))


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", [*ENDING_WELL, *ENDING_ILL])
async def test_no_secret_is_in_logs_checkpoints_traces_and_errors(
    way: str, stream: bool, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_up(monkeypatch, BILLP_CALL_SECONDS="1.5" if "time-out" in way else "5")
    endpoint.script = way_of(way)
    saver, traced = InMemorySaver(serde=serializer()), Traced()
    graph: Any = build_variant("react").compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "t"}, "callbacks": [traced]}
    modes = ["values", "messages", "debug"] if stream else ["values"]
    given = VisitInput(world="tiny", max_steps=2)
    said, failed = [], False
    caplog.set_level(logging.DEBUG)
    try:
        async for chunk in graph.astream(given, config, context=Context(model="openai:x"), stream_mode=modes):
            said.append(repr(chunk))
    except EndpointError as error:
        failed = True
        said += [str(error), repr(error), repr(error.__cause__)]
    assert failed is (way in ENDING_ILL)
    # The login arrives at the endpoint, and in no other place.
    assert {asked.headers["authorization"] for asked in endpoint.asked} == {f"Basic {LOGIN}"}
    assert traced.heard
    kept = repr((dict(saver.storage), dict(saver.writes), dict(saver.blobs)))
    for text in (*said, *traced.heard, kept):
        assert found_in(text, endpoint) == []
    # Debug logs of the connection may show its host and port, and no other secret.
    for record in caplog.records:
        found = found_in(record.getMessage() + str(record.exc_text or ""), endpoint)
        assert found == [] or (record.name.startswith("httpcore") and found == secrets(endpoint)[-1:])


async def test_the_key_is_the_authorization_where_the_address_holds_none(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, OPENAI_BASE_URL=endpoint.url)
    graph: Any = build_variant("act_only").compile()
    await graph.ainvoke(VisitInput(world="tiny", max_steps=1), context=Context(model="openai:x"))
    assert {asked.headers["authorization"] for asked in endpoint.asked} == {f"Bearer {KEY}"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "way", "code"),
    [
        (["episode", "--json"], "well", 0),
        (["--debug", "episode"], "refused key", 1),
        (["study", "--variants", "react", "--train", "1", "--test", "1", "--out", "s"], "well", 0),
        (["study", "--variants", "react", "--train", "1", "--test", "1", "--out", "s"], "bad request", 1),
    ],
)
def test_no_secret_is_printed_or_kept(
    command: list[str], way: str, code: int, home: Path, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.script = way_of(way)
    line = "import logging; logging.basicConfig(level='INFO'); from graph.cli import main; main()"
    # A process of its own, since it logs by settings of the whole process and may end with a traceback.
    done = run([sys.executable, "-c", line, *command, *ARGUMENTS], env=environment_of(home), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert endpoint.asked
    if code == 1:
        assert "the endpoint of the model openai:x failed" in done.stderr
    texts = [file.read_bytes().decode("utf-8", "replace") for file in home.rglob("*") if file.is_file()]
    for text in (done.stdout, done.stderr, *texts):
        assert found_in(text, endpoint) == []


def test_a_request_cannot_name_an_endpoint() -> None:
    fields = set(Context.model_fields)
    assert not [name for name in fields if any(word in name for word in ("url", "key", "address", "endpoint"))]
